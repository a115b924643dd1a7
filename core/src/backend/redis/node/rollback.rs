//! Undoing in the background what may have been written.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;

use super::context::Link;
use crate::backend::redis::protocol::scripts::{Item, RELEASE};
use crate::lease::{Owner, Resources, Ttl};
use crate::runtime::backoff::Backoff;
use crate::runtime::undo::{IfMissing, Undo, UndoQueue, UndoResult, UndoStep};

/// The most compare-and-deletes in one pipeline, some calls of the script.
const MAX_BATCH: usize = 256;
/// Beyond the TTL, for the time a command is under way.
const SLACK: Duration = Duration::from_millis(250);

/// The leases of one node that are to be undone. One task works on all of them, and only while there are any. It
/// outlives the manager, and ends with the process.
pub(crate) struct Cleanup {
    link: Link,
    // A std Mutex, because nothing awaits while it is held.
    state: Mutex<State>,
    added: Notify,
}

struct State {
    queue: UndoQueue<Lease>,
    /// The backend was closed: the connection is given up when all is done.
    closed: bool,
}

struct Lease {
    resources: Resources,
    owner: Owner,
}

impl Cleanup {
    pub fn new(link: Link) -> Self {
        let state = Mutex::new(State { queue: UndoQueue::new(MAX_BATCH), closed: false });
        Self { link, state, added: Notify::new() }
    }

    /// Compares and deletes until the lease is gone for sure, or `ttl` has passed from now.
    pub fn add(self: &Arc<Self>, resources: &Resources, owner: Owner, ttl: Ttl, if_missing: IfMissing) {
        let now = self.link.clock.boot();
        let undo = Undo {
            target: Lease { resources: resources.clone(), owner },
            if_missing,
            until: now + ttl.as_duration() + SLACK,
            due: now,
            backoff: Backoff::UNDO,
        };
        if self.lock().queue.add(undo) {
            tokio::spawn(Arc::clone(self).work());
        } else {
            self.added.notify_one();
        }
    }

    /// How many leases are still to be undone.
    pub fn pending(&self) -> usize {
        self.lock().queue.pending()
    }

    /// The backend is closed: gives the connection up, now or when all is undone.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        if !state.queue.is_running() {
            self.link.control.hang_up();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(self: Arc<Self>) {
        loop {
            let step = self.lock().queue.step(self.link.clock.boot());
            match step {
                UndoStep::Exit => {
                    if self.lock().closed {
                        self.link.control.hang_up();
                    }
                    return;
                }
                UndoStep::Sleep(time) => {
                    let _ = tokio::time::timeout(time, self.added.notified()).await;
                }
                UndoStep::Attempt(undos) => {
                    let results = self.delete(&undos).await;
                    self.lock().queue.settle(undos, results, self.link.clock.boot());
                }
            }
        }
    }

    /// The replies that came, in order.
    async fn delete(&self, undos: &[Undo<Lease>]) -> Vec<UndoResult> {
        let leases: Vec<_> =
            undos.iter().map(|undo| Item::release(&undo.target.resources, undo.target.owner)).collect();
        let answer = self
            .link
            .control
            .exchange(1 + leases.len(), |packer, out| {
                // Always loaded: then no reply has to be looked at twice, and this is rare. In a call of its own each, so
                // that what the server refuses for one of them keeps no other from being deleted.
                RELEASE.pack_load(packer, out);
                for lease in &leases {
                    RELEASE.pack(&self.link.config.keys, std::iter::once(lease), packer, out);
                }
            })
            .await;
        let replies = answer.map_or_else(|_| Vec::new(), |answer| answer.replies);
        replies.iter().skip(1).map(result).collect()
    }
}

/// What release.lua answered for one lease. A lease is written all at once: if any of it was there, it all was, and now
/// it is gone.
fn result(reply: &Value) -> UndoResult {
    match reply {
        Value::Array(list) if matches!(list[..], [Value::Int(1..)]) => UndoResult::Deleted,
        Value::Array(list) if matches!(list[..], [Value::Int(_)]) => UndoResult::Missing,
        _ => UndoResult::Failed,
    }
}
