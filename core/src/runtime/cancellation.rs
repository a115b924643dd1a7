//! Tells those who wait that they need not.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// A flag that is raised once, for all who look or wait.
#[derive(Debug, Default)]
pub struct Cancel {
    raised: AtomicBool,
    bell: Notify,
}

impl Cancel {
    /// Raises it.
    pub fn cancel(&self) {
        self.raised.store(true, Ordering::Release);
        self.bell.notify_waiters();
    }

    /// Whether it is raised.
    pub fn is_cancelled(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Until it is raised.
    pub async fn cancelled(&self) {
        let mut notified = pin!(self.bell.notified());
        // Listening before looking, so that nothing is missed in between.
        notified.as_mut().enable();
        if !self.is_cancelled() {
            notified.await;
        }
    }
}
