//! Requests that their callers send themselves, because they are alone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::{Either, select};
use tokio::sync::oneshot;

use super::batch::{BatchEntry, LeaseOutcome};
use super::inline_connector::InlineConnection;
use super::round_trip::{Completed, RoundTrip};
use super::scheduler::WaitClass;
use super::workers::Workers;

impl Workers {
    /// Lets the caller send its request itself, if it is alone and there is a connection for that.
    pub(super) fn enter_inline(self: &Arc<Self>) -> Option<Entered> {
        let own = self.inline.as_ref()?.free()?;
        let entered = self.scheduler.lock().enter();
        entered.then(|| Entered { workers: Arc::clone(self), own })
    }
}

/// A request that its caller sends: those who wait for the end of all requests wait for it, too.
pub(super) struct Entered {
    workers: Arc<Workers>,
    own: Arc<InlineConnection>,
}

impl Entered {
    /// Sends a request on the thread of its caller, and waits for its outcome.
    pub(super) async fn run(
        self,
        entry: BatchEntry,
        outcome: oneshot::Receiver<LeaseOutcome>,
    ) -> LeaseOutcome {
        let sending = Box::pin(async move {
            let Self { workers, own } = &self;
            let proof = WaitClass::of(entry.acks).proof;
            let trip = RoundTrip::first(vec![entry], workers.context.grouping());
            let kicker = proof.is_needed().then_some(&own.kicker);
            match workers.round_trip(&own.connection, kicker, proof, trip).await {
                Completed::Settled => {}
                Completed::Resend(next) | Completed::NothingWritten(next) => {
                    // The workers load the script, or find the right server.
                    workers.lacks_script.fetch_or(next.load_script, Ordering::Relaxed);
                    for entry in next.batch {
                        workers.enqueue(entry);
                    }
                }
            }
        });
        let outcome = match select(outcome, sending).await {
            Either::Left((outcome, sending)) => {
                // Its WAIT proves nothing, and has not ended.
                tokio::spawn(sending);
                outcome
            }
            Either::Right(((), outcome)) => outcome.await,
        };
        outcome.unwrap_or_else(|_| LeaseOutcome::Unknown("the connection is closed".into()))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.workers.scheduler.lock().leave();
        self.workers.exited.notify_waiters();
    }
}
