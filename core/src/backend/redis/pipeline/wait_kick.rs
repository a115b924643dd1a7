//! Makes the server notice that a WAIT has timed out. Redis checks that only when an event arrives, or up to
//! 100 ms later; a PING on another connection is such an event.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::backend::redis::connection::shared::SharedConnection;
use crate::backend::redis::connection::timeout::ResettableTimeout;
use crate::runtime::backoff::Backoff;

/// The pauses between PINGs grow from the first to the longest. There may be several, because the timeout of
/// a WAIT starts when the server reaches it, which the client does not see.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(8);

/// Watches the WAITs of one connection, one at a time.
pub(crate) struct WaitKicker {
    timeout: Arc<ResettableTimeout>,
    task: AbortHandle,
}

impl WaitKicker {
    /// Sends its PINGs on this connection.
    pub fn start(shared: Arc<SharedConnection>) -> Self {
        let timeout = Arc::new(ResettableTimeout::default());
        let task = tokio::spawn(kick(Arc::clone(&timeout), shared));
        Self { timeout, task: task.abort_handle() }
    }

    /// Watches a WAIT that is to end at this moment, until the result is dropped.
    pub fn watch(&self, due: Instant) -> Kicking<'_> {
        let kicking = Kicking(self);
        kicking.watch(due);
        kicking
    }
}

/// A WAIT that is watched.
pub(crate) struct Kicking<'a>(&'a WaitKicker);

impl Kicking<'_> {
    /// Watches the next WAIT of the connection instead.
    pub fn watch(&self, due: Instant) {
        self.0.timeout.set(due + FIRST_PAUSE);
    }
}

impl Drop for Kicking<'_> {
    fn drop(&mut self) {
        self.0.timeout.clear();
    }
}

impl Drop for WaitKicker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn kick(timeout: Arc<ResettableTimeout>, shared: Arc<SharedConnection>) {
    let pauses = Backoff::exact(FIRST_PAUSE, LONGEST_PAUSE);
    let (mut last, mut backoff) = (None, pauses);
    loop {
        let elapsed = timeout.elapsed().await;
        if last.replace(elapsed) != Some(elapsed) {
            backoff = pauses;
        }
        shared.kick();
        timeout.rearm(elapsed, Instant::now() + backoff.next_pause());
    }
}
