//! Somebody who waits for a lease, as a backend sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// A place in the line for some resources. Cheap to clone; all clones are the same waiter.
#[derive(Debug, Clone)]
pub struct Waiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    number: u64,
    fair: bool,
    bell: Notify,
}

impl Waiter {
    /// A new one. `fair`: it is served in its turn, and nobody is served before it who came later.
    pub fn new(fair: bool) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Inner { number, fair, bell: Notify::new() }))
    }

    /// Its name within this process; never reused.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// Whether it is served in its turn.
    pub fn is_fair(&self) -> bool {
        self.0.fair
    }

    /// Another attempt may succeed now. Remembered if nobody is listening.
    pub fn wake(&self) {
        self.0.bell.notify_one();
    }

    /// Until it is woken.
    pub async fn woken(&self) {
        self.0.bell.notified().await;
    }
}
