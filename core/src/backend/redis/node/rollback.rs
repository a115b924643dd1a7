//! Undoes in the background what may have been written.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;

use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::pipeline::batch::Late;
use crate::backend::redis::protocol::lease_args::LeaseArgs;
use crate::backend::redis::protocol::scripts::RELEASE;
use crate::lease::{Owner, Resources, Ttl};
use crate::runtime::backoff::Backoff;
use crate::runtime::sync::Mutex;
use crate::runtime::undo::{IfMissing, Undo, UndoQueue, UndoResult, UndoStep};

/// The most leases in one pipeline.
const MAX_BATCH: usize = 256;
/// In addition to the TTL, for the time a command is in flight.
const SLACK: Duration = Duration::from_millis(250);

/// How long an answer of the server is waited for. A request that a stopped server has received is executed
/// whenever the server goes on, but one that is away for a day will not come back with it.
const GIVE_UP: Duration = Duration::from_secs(24 * 60 * 60);

/// The leases of one node that are to be undone. One task works on all of them, and runs only while there are
/// any. It outlives the manager, and ends with the process.
pub(crate) struct Rollbacks {
    context: NodeContext,
    state: Mutex<State>,
    added: Notify,
}

struct State {
    queue: UndoQueue<LeaseArgs>,
    /// The backend was closed: the connection is closed when all is done.
    closed: bool,
}

impl Rollbacks {
    pub fn new(context: NodeContext) -> Self {
        let state = Mutex::new(State { queue: UndoQueue::new(MAX_BATCH), closed: false });
        Self { context, state, added: Notify::new() }
    }

    /// Compares and deletes until the lease is certainly gone: deleted, or over. A grant that may still be
    /// executed begins only then: it is over a TTL after the server first answered again.
    pub fn add(self: &Arc<Self>, resources: &Resources, owner: Owner, ttl: Ttl, late: Late) {
        let now = self.context.clock.boot();
        let lasts = ttl.as_duration() + SLACK;
        let (if_missing, until) = match late {
            Late::Impossible => (IfMissing::Done, now + lasts),
            Late::Possible => (IfMissing::KeepTrying(lasts), now + GIVE_UP + lasts),
        };
        let undo = Undo {
            target: LeaseArgs::release(resources, owner),
            if_missing,
            until,
            answered: false,
            due: now,
            backoff: Backoff::UNDO,
        };
        if self.state.lock().queue.add(undo) {
            tokio::spawn(Arc::clone(self).work());
        } else {
            self.added.notify_one();
        }
    }

    /// The number of leases still to be undone.
    pub fn pending(&self) -> usize {
        self.state.lock().queue.pending()
    }

    /// The backend is closed: closes the connection, now or when all is undone.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        if !state.queue.is_running() {
            self.context.shared.close_when_idle();
        }
    }

    async fn work(self: Arc<Self>) {
        let _abort = scopeguard::guard_on_unwind((), |()| self.state.lock().queue.abort());
        loop {
            let step = self.state.lock().queue.step(self.context.clock.boot());
            match step {
                UndoStep::Exit => {
                    if self.state.lock().closed {
                        self.context.shared.close_when_idle();
                    }
                    return;
                }
                UndoStep::Sleep(time) => {
                    let _ = tokio::time::timeout(time, self.added.notified()).await;
                }
                UndoStep::Attempt(undos) => {
                    let results = self.delete(&undos).await;
                    self.state.lock().queue.settle(undos, results, self.context.clock.boot());
                }
            }
        }
    }

    /// The results for which a reply came, in order.
    async fn delete(&self, undos: &[Undo<LeaseArgs>]) -> Vec<UndoResult> {
        let response = self
            .context
            .shared
            .exchange(1 + undos.len(), |packer, out| {
                // Always loaded, which is simpler than repeating calls, and this is rare. Each lease has a
                // call of its own, so that an error for one of them does not keep the others from being
                // deleted.
                RELEASE.pack_load(packer, out);
                for undo in undos {
                    RELEASE.pack(&self.context.settings.keys, std::iter::once(&undo.target), packer, out);
                }
            })
            .await;
        let replies = response.map_or_else(|_| Vec::new(), |response| response.replies);
        replies.iter().skip(1).map(result).collect()
    }
}

/// The reply of release.lua for one lease. A lease is written atomically: if any lock of it was there, all
/// were, and now all are deleted.
fn result(reply: &Value) -> UndoResult {
    match reply {
        Value::Array(list) if matches!(list[..], [Value::Int(1..)]) => UndoResult::Deleted,
        Value::Array(list) if matches!(list[..], [Value::Int(_)]) => UndoResult::Missing,
        _ => UndoResult::Failed,
    }
}
