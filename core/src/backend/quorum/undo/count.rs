//! Counts the undos that are under way, so that closing waits for them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How many there are.
pub(crate) struct UndoCount(Arc<watch::Sender<usize>>);

/// One of them, until it is dropped.
pub(crate) struct UnderWay(Arc<watch::Sender<usize>>);

impl Default for UndoCount {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl UndoCount {
    pub fn begin(&self) -> UnderWay {
        self.0.send_modify(|count| *count += 1);
        UnderWay(Arc::clone(&self.0))
    }

    pub fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Returns once there are none, or after this time.
    pub async fn ended(&self, at_most: Duration) {
        let mut changes = self.0.subscribe();
        let _ = timeout(at_most, changes.wait_for(|&count| count == 0)).await;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
