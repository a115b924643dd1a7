//! Undoes in the background what may have been written.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use redis::Value;
use tokio::sync::Notify;

use crate::backend::redis::connection::route::Route;
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::pipeline::batch::Late;
use crate::backend::redis::protocol::lease_args::{LeaseArgs, Rest};
use crate::backend::redis::protocol::scripts::{LEAVE_REST, RELEASE};
use crate::lease::{Owner, Resources, Ttl};
use crate::runtime::backoff::Backoff;
use crate::runtime::clock::BootInstant;
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
    /// If it is one node of a cluster.
    neighbours: Option<Weak<dyn Neighbours>>,
    state: Mutex<State>,
    added: Notify,
}

/// The nodes of a cluster, to which a lease may have moved.
pub(crate) trait Neighbours: Send + Sync {
    /// Whether the node that is reached by this route has the slot of these resources.
    fn owns(self: Arc<Self>, route: &Arc<Route>, resources: &Resources) -> bool;

    /// Compares and deletes, or leaves the rest of the minimum, on the node that has them now. Returns
    /// whether anything was there; `None`: no node said so.
    fn delete(
        self: Arc<Self>,
        resources: Resources,
        owner: Owner,
        stands_until: Option<BootInstant>,
    ) -> BoxFuture<'static, Option<bool>>;
}

/// A lease that is to be undone.
struct Target {
    lease: LeaseArgs,
    /// Until when the rest of its minimum is to be left.
    stands_until: Option<BootInstant>,
}

impl Target {
    /// What is to be left of its minimum now.
    fn rest(&self, now: BootInstant) -> Option<LeaseArgs> {
        let rest = Rest::until(self.stands_until, now)?;
        Some(LeaseArgs::leave_rest(self.lease.resources(), self.lease.owner(), rest))
    }
}

struct State {
    queue: UndoQueue<Target>,
    /// The backend was closed: the connection is closed when all is done.
    closed: bool,
}

impl Rollbacks {
    pub fn new(context: NodeContext, neighbours: Option<Weak<dyn Neighbours>>) -> Self {
        let state = Mutex::new(State { queue: UndoQueue::new(MAX_BATCH), closed: false });
        Self { context, neighbours, state, added: Notify::new() }
    }

    /// Compares and deletes until the lease is certainly gone: deleted, or over, except for the rest of its
    /// minimum. A grant that may still be executed begins only then: it is over a TTL after the server first
    /// answered again.
    pub fn add(
        self: &Arc<Self>,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        stands_until: Option<BootInstant>,
        late: Late,
    ) {
        let target = Target { lease: LeaseArgs::release(resources, owner), stands_until };
        let now = self.context.clock.boot();
        let lasts = ttl.as_duration() + SLACK;
        let (if_missing, until) = match late {
            Late::Impossible => (IfMissing::Done, now + lasts),
            Late::Possible => (IfMissing::KeepTrying(lasts), now + GIVE_UP + lasts),
        };
        let undo = Undo { target, if_missing, until, answered: false, due: now, backoff: Backoff::UNDO };
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
        // They are needed until all is undone.
        let neighbours = self.neighbours.as_ref().and_then(Weak::upgrade);
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
                    let results = match &neighbours {
                        Some(neighbours) => self.delete_in_cluster(neighbours, &undos).await,
                        None => self.delete(&undos.iter().collect::<Vec<_>>()).await,
                    };
                    self.state.lock().queue.settle(undos, results, self.context.clock.boot());
                }
            }
        }
    }

    /// Those whose slot has moved are undone where it is now.
    async fn delete_in_cluster(
        &self,
        neighbours: &Arc<dyn Neighbours>,
        undos: &[Undo<Target>],
    ) -> Vec<UndoResult> {
        let mut results = vec![UndoResult::Failed; undos.len()];
        let is_here = |undo: &Undo<Target>| {
            Arc::clone(neighbours).owns(self.context.connector.route(), undo.target.lease.resources())
        };
        let (here, mut moved): (Vec<_>, Vec<_>) = (0..undos.len()).partition(|&at| is_here(&undos[at]));
        if !here.is_empty() {
            let replies = self.delete(&here.iter().map(|&at| &undos[at]).collect::<Vec<_>>()).await;
            // Perhaps a slot has moved without notice, or is moving.
            let failed = |at: &usize| replies.get(*at).is_some_and(|result| *result == UndoResult::Failed);
            moved.extend((0..here.len()).filter(failed).map(|at| here[at]));
            here.iter().zip(replies).for_each(|(&at, result)| results[at] = result);
        }
        let deletions = moved.into_iter().map(|at| {
            let Target { lease, stands_until } = &undos[at].target;
            let (resources, neighbours) = (lease.resources().clone(), Arc::clone(neighbours));
            let deletion = neighbours.delete(resources, lease.owner(), *stands_until);
            async move { (at, deletion.await) }
        });
        for (at, deleted) in join_all(deletions).await {
            results[at] = match deleted {
                Some(true) => UndoResult::Deleted,
                Some(false) => UndoResult::Missing,
                None => UndoResult::Failed,
            };
        }
        results
    }

    /// The results for which a reply came, in order.
    async fn delete(&self, undos: &[&Undo<Target>]) -> Vec<UndoResult> {
        let now = self.context.clock.boot();
        let response = self
            .context
            .shared
            .exchange(2 + undos.len(), |packer, out| {
                // Always loaded, which is simpler than repeating calls, and this is rare. The first call is
                // by its text, for a user who may not load it. Each lease has a call of its own, so that an
                // error for one of them does not keep the others from being deleted.
                RELEASE.pack_load(packer, out);
                LEAVE_REST.pack_load(packer, out);
                let keys = &self.context.settings.keys;
                let mut by_text = [true; 2];
                for undo in undos {
                    let rest = undo.target.rest(now);
                    let script = if rest.is_some() { &LEAVE_REST } else { &RELEASE };
                    let by_text = std::mem::take(&mut by_text[usize::from(rest.is_some())]);
                    let lease = std::iter::once(rest.as_ref().unwrap_or(&undo.target.lease));
                    packer.by_text(by_text, |packer| script.pack(keys, lease, packer, out));
                }
            })
            .await;
        let replies = response.map_or_else(|_| Vec::new(), |response| response.replies);
        let results = replies.iter().skip(2).zip(undos).map(|(reply, undo)| {
            let is_left = undo.target.rest(now).is_some() && undo.if_missing != IfMissing::Done;
            // What may come late would prolong the rest that was left.
            if is_left && result(reply) == UndoResult::Deleted { UndoResult::Missing } else { result(reply) }
        });
        results.collect()
    }
}

/// The reply of a release, or of `leave_rest.lua`, for one lease. A lease is written atomically: if any lock
/// of it was there, all were, and now all are deleted, or end with the rest.
fn result(reply: &Value) -> UndoResult {
    match reply {
        Value::Array(list) if matches!(list[..], [Value::Int(1..)]) => UndoResult::Deleted,
        Value::Array(list) if matches!(list[..], [Value::Int(_)]) => UndoResult::Missing,
        _ => UndoResult::Failed,
    }
}
