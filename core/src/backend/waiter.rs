//! A caller that waits for a lease, as a backend sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// A place in the queue for some resources. Cheap to clone; all clones are the same waiter.
#[derive(Debug, Clone)]
pub struct Waiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    number: u64,
    fair: bool,
    wake_up: Notify,
}

impl Waiter {
    /// A new waiter. `fair`: no waiter that came later is served before it.
    pub fn new(fair: bool) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Inner { number, fair, wake_up: Notify::new() }))
    }

    /// Identifies it within this process; never reused.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// Whether it is served in the order of arrival.
    pub fn is_fair(&self) -> bool {
        self.0.fair
    }

    /// Another attempt may succeed now. Remembered until the next [`Self::woken`].
    pub fn wake(&self) {
        self.0.wake_up.notify_one();
    }

    /// Returns once it is woken.
    pub async fn woken(&self) {
        self.0.wake_up.notified().await;
    }
}
