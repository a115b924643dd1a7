//! A caller that waits for a lease, as a backend sees it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;

use crate::runtime::backoff::Backoff;
use crate::runtime::sync::Mutex;

/// A place in the queue for some resources. Cheap to clone; all clones are the same waiter.
#[derive(Debug, Clone)]
pub struct Waiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    number: u64,
    fair: bool,
    sharded: OnceLock<bool>,
    wake_up: Notify,
    polls: Mutex<Backoff>,
}

impl Waiter {
    /// A new waiter. `fair`: no waiter that came later is served before it.
    pub fn new(fair: bool) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (sharded, wake_up) = (OnceLock::new(), Notify::new());
        Self(Arc::new(Inner { number, fair, sharded, wake_up, polls: Mutex::new(Backoff::POLL) }))
    }

    /// Identifies it within this process; never reused.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// Whether it is served in the order of arrival.
    pub fn is_fair(&self) -> bool {
        self.0.fair
    }

    /// Whether servers wake it by messages that stay in their shard of a cluster.
    pub fn is_sharded(&self) -> bool {
        self.0.sharded.get().copied().unwrap_or(false)
    }

    /// Sets [`Self::is_sharded`] before it is queued. The first call decides: its name in queues depends on
    /// it, and must not change when it moves from server to server.
    pub fn set_sharded(&self, sharded: bool) {
        let _ = self.0.sharded.set(sharded);
    }

    /// Another attempt may succeed now. Remembered until the next [`Self::woken`].
    pub fn wake(&self) {
        *self.0.polls.lock() = Backoff::POLL;
        self.0.wake_up.notify_one();
    }

    /// The shortest pause before an attempt without a wake-up: at the end of the current lease, which
    /// is very often if that lease is short and renewed. Grows until the waiter is woken.
    pub fn shortest_pause(&self) -> Duration {
        self.0.polls.lock().next_pause()
    }

    /// Returns once it is woken.
    pub async fn woken(&self) {
        self.0.wake_up.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_without_a_wake_up_become_rare() {
        let waiter = Waiter::new(false);
        let mut in_a_minute = 0;
        let mut time = Duration::ZERO;
        while time < Duration::from_secs(60) {
            time += waiter.shortest_pause();
            in_a_minute += 1;
        }
        assert!(in_a_minute <= 20 * 60 + 10, "{in_a_minute}");
        waiter.wake();
        assert_eq!(waiter.shortest_pause(), Duration::from_millis(1));
    }
}
