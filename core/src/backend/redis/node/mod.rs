//! What does one server do? A primary with its replicas, and what a grant, an extension and a release are on
//! it.

mod adopt;
mod capabilities;
mod error;
mod failover;
mod holders;
mod inspect;
mod recent_deletions;
mod release;
mod replicas;
mod rollback;
mod scan;
mod wait_queue;

use std::sync::{Arc, Weak};
use std::time::Duration;

use self::capabilities::Capabilities;
pub(crate) use self::error::{NodeError, NodeResult};
use self::failover::FailoverWatch;
pub(crate) use self::inspect::token_of;
use self::recent_deletions::RecentDeletions;
use self::replicas::ConnectedReplicas;
pub(crate) use self::rollback::Neighbours;
use self::rollback::Rollbacks;
pub(crate) use self::scan::Scan;
pub(crate) use self::wait_queue::WaitQueue;
use super::config::Settings;
use super::config::keys::KeyKind;
use super::config::lock_names::LockNames;
use super::connection::route::Route;
use super::describe;
use super::pipeline::batch::{Late, LeaseOutcome};
#[cfg(unix)]
use super::pipeline::inline_connector::InlineConnector;
use super::pipeline::scheduler::WorkerLimits;
use super::pipeline::workers::Workers;
use super::protocol::lease_args::{Grouping, LeaseArgs};
use super::protocol::operation::Operation;
use super::protocol::replies::proof::Proof;
use super::protocol::scripts::{ACQUIRE, ADOPT, EXTEND, LEAVE_REST, RELEASE};
use crate::backend::contract::{Attempt, Busy, FailoverListener, Grant, Info, Request};
use crate::backend::guarantees::Guarantee;
use crate::backend::redis::node_context::NodeContext;
use crate::error::{Error, Result};
use crate::lease::{AckPolicy, Acks, Holder, Owner, Resources, Ttl};
use crate::runtime::clock::{BootInstant, Clock};

/// Two workers a class keep client and server busy at the same time.
const ACQUIRE_WORKERS: WorkerLimits = WorkerLimits { workers: 8, per_class: 2 };
/// Extensions have their own workers, because they must not wait behind grants.
const EXTEND_WORKERS: WorkerLimits = WorkerLimits { workers: 4, per_class: 1 };
/// Leases are rarely handed over.
const ADOPT_WORKERS: WorkerLimits = WorkerLimits { workers: 2, per_class: 1 };
/// Releases use the shared connection, one batch at a time: meanwhile the next batch grows.
const RELEASE_WORKERS: WorkerLimits = WorkerLimits { workers: 1, per_class: 1 };

/// One server. Connections are made on demand.
pub(crate) struct Node {
    context: NodeContext,
    wait_queue: Arc<WaitQueue>,
    rollbacks: Arc<Rollbacks>,
    deletions: Arc<RecentDeletions>,
    acquire: Arc<Workers>,
    extend: Arc<Workers>,
    adopt: Arc<Workers>,
    release: Arc<Workers>,
    leave_rest: Arc<Workers>,
    replicas: ConnectedReplicas,
    capabilities: Capabilities,
    failovers: Arc<FailoverWatch>,
    /// For requests that are alone.
    #[cfg(unix)]
    inline: Option<Arc<InlineConnector>>,
}

impl Node {
    /// The only node of its deployment.
    pub fn new(settings: Arc<Settings>, route: Arc<Route>, clock: Clock) -> Self {
        Self::with(NodeContext::new(settings, route, clock, false), None)
    }

    /// One of several nodes of a cluster.
    pub fn of_cluster(
        settings: Arc<Settings>,
        route: Arc<Route>,
        clock: Clock,
        neighbours: Weak<dyn Neighbours>,
    ) -> Self {
        Self::with(NodeContext::new(settings, route, clock, true), Some(neighbours))
    }

    /// One of the independent nodes of a quorum.
    pub fn of_quorum(context: NodeContext) -> Self {
        Self::with(context, None)
    }

    fn with(context: NodeContext, neighbours: Option<Weak<dyn Neighbours>>) -> Self {
        let workers =
            |script, operation, limits| Arc::new(Workers::new(context.clone(), script, operation, limits));
        #[cfg(unix)]
        let inline = InlineConnector::new(&context);
        let own = |script, operation, limits| {
            let workers = Workers::new(context.clone(), script, operation, limits);
            #[cfg(unix)]
            let workers = workers.with_inline(inline.as_ref());
            Arc::new(workers)
        };
        let rollbacks = Arc::new(Rollbacks::new(context.clone(), neighbours.clone()));
        let changes = context.connector.route().changes();
        Self {
            wait_queue: Arc::new(WaitQueue::new(context.clone())),
            deletions: Arc::new(RecentDeletions::new(context.clock.clone(), Arc::clone(&rollbacks), changes)),
            rollbacks,
            acquire: own(&ACQUIRE, Operation::Acquire, ACQUIRE_WORKERS),
            extend: workers(&EXTEND, Operation::Extend, EXTEND_WORKERS),
            adopt: workers(&ADOPT, Operation::Adopt, ADOPT_WORKERS),
            release: own(&RELEASE, Operation::Release, RELEASE_WORKERS),
            leave_rest: own(&LEAVE_REST, Operation::Release, RELEASE_WORKERS),
            replicas: ConnectedReplicas::new(context.clone()),
            capabilities: Capabilities::new(context.clone()),
            failovers: Arc::new(FailoverWatch::new(context.clone(), neighbours)),
            #[cfg(unix)]
            inline,
            context,
        }
    }

    pub fn wait_queue(&self) -> &Arc<WaitQueue> {
        &self.wait_queue
    }

    /// How it is reached.
    pub fn route(&self) -> &Arc<Route> {
        self.context.connector.route()
    }

    /// See [`LockBackend::on_failover`](crate::backend::contract::LockBackend::on_failover).
    pub fn on_failover(&self, listener: FailoverListener) {
        self.failovers.listen(listener);
    }

    /// Whether each of these leases is there. One call, so they must be as few as
    /// [fit](super::protocol::lease_args::call_sizes).
    pub async fn find_held(&self, leases: &[LeaseArgs]) -> NodeResult<Vec<bool>> {
        failover::find_held(&self.context, leases).await
    }

    /// Which requests may share a call.
    pub fn grouping(&self) -> Grouping {
        self.context.grouping()
    }

    pub async fn connect(&self) -> Result<()> {
        self.context.shared.get().await.map(drop)
    }

    pub async fn acquire(&self, request: &Request) -> NodeResult<Attempt> {
        let Request { resources, owner, acks, waiter, .. } = request;
        let proof = Proof::of(*acks);
        let context = self.context.reply_context(Operation::Acquire).requiring(proof);
        self.capabilities.check(proof).await?;
        if let Some(waiter) = waiter
            && let Some(held) = Box::pin(self.wait_queue.enqueue_if_held(resources, waiter)).await
        {
            return Ok(Attempt::Busy(busy(held)));
        }
        let outcome = self.acquire.run(finite(*acks), LeaseArgs::acquire(request)).await;
        if let (LeaseOutcome::Written { received, .. }, Some(waiter)) = (&outcome, waiter) {
            self.wait_queue.written(waiter, proof.is_met_by(*received));
        }
        match outcome {
            LeaseOutcome::Written { reply, sent, received } if proof.is_met_by(received) => {
                let token = u64::try_from(reply).expect("the reply of a grant is positive");
                Ok(Attempt::Granted(Grant {
                    token,
                    sent,
                    acks: (acks.required > 0)
                        .then_some(Acks { required: acks.required, received: received.replicas }),
                }))
            }
            LeaseOutcome::Written { received, .. } => {
                // The replicas may follow another primary by now.
                self.context.connector.route().doubt("too few replicas acknowledged");
                let rolled_back = Box::pin(self.roll_back(request, Late::Impossible)).await;
                let connected = Box::pin(self.replicas.count()).await;
                Err(context.shortfall(received, acks.timeout_ms, connected, rolled_back).into())
            }
            LeaseOutcome::Declined(reply) => Ok(Attempt::Busy(busy(reply))),
            LeaseOutcome::Elsewhere(elsewhere) => Err(NodeError::Elsewhere(elsewhere)),
            LeaseOutcome::Refused(error) => {
                self.capabilities.reconsider(&error);
                Err(error.into())
            }
            LeaseOutcome::Undo(error, late) => {
                self.capabilities.reconsider(&error);
                let undone = Box::pin(self.roll_back(request, late)).await;
                // Its cause only: its message says that nothing was granted.
                let why = error.cause().unwrap_or("the server returned an error").to_owned();
                Err(if undone { error } else { context.unknown(resources.first(), &why) }.into())
            }
            LeaseOutcome::Unknown(why) => {
                self.deletions.rolled_back(resources, *owner, request.lasts());
                self.rollbacks.add(resources, *owner, request.lasts(), None, Late::Possible);
                Err(context.unknown(resources.first(), &why).into())
            }
        }
    }

    /// `asking`: the slot is moving to this node.
    pub async fn extend(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        acks: AckPolicy,
        asking: bool,
    ) -> NodeResult<BootInstant> {
        let proof = Proof::of(acks);
        let context = self.context.reply_context(Operation::Extend).requiring(proof);
        let mut lease = LeaseArgs::extend(resources, owner, ttl);
        lease.asking = asking;
        let error = match self.extend.run(finite(acks), lease).await {
            LeaseOutcome::Written { sent, received, .. } if proof.is_met_by(received) => {
                return Ok(sent);
            }
            LeaseOutcome::Written { received, .. } => {
                self.context.connector.route().doubt("too few replicas acknowledged");
                let connected = Box::pin(self.replicas.count()).await;
                context.shortfall(received, acks.timeout_ms, connected, false)
            }
            LeaseOutcome::Declined(_) => Error::lost(format!(
                "the lease of {:?} ended or was taken by another owner; stop the work it protects",
                resources.first()
            )),
            LeaseOutcome::Elsewhere(elsewhere) => return Err(NodeError::Elsewhere(elsewhere)),
            // The lease still exists, and an extension needs no undo.
            LeaseOutcome::Refused(error) | LeaseOutcome::Undo(error, _) => error,
            LeaseOutcome::Unknown(why) => context.unknown(resources.first(), &why),
        };
        Err(error.into())
    }

    pub async fn inspect(&self, resources: &Resources) -> NodeResult<Option<Info>> {
        inspect::inspect(&self.context, resources).await
    }

    /// How many wait for a resource, while its slot is moving; `asking`: this node.
    pub async fn count_waiters(&self, resource: &str, asking: bool) -> NodeResult<u32> {
        holders::count_waiters(&self.context, resource, asking).await
    }

    /// The resources of the next locks of a scan.
    pub async fn scan(&self, scan: &mut Scan) -> Result<Vec<String>> {
        scan.step(&self.context).await
    }

    /// Which of this node's keys are locks of resources that begin with this.
    pub fn lock_names(&self, prefix: &str) -> LockNames {
        LockNames::new(&self.context.settings.keys, prefix)
    }

    /// Stores who the manager with this id is, for so long; `asking`: to this node.
    pub async fn write_holder(&self, id: &str, holder: (&Holder, Duration), asking: bool) -> NodeResult<()> {
        holders::write_holder(&self.context, id, holder, asking).await
    }

    /// Who the manager with this id is, if the node knows; `asking`: this node.
    pub async fn read_holder(&self, id: &str, asking: bool) -> NodeResult<Option<Holder>> {
        holders::read_holder(&self.context, id, asking).await
    }

    pub async fn force_release(&self, resources: &Resources) -> NodeResult<bool> {
        inspect::force_release(&self.context, resources).await
    }

    /// One key of a resource, and for how much longer it is there, while its slot is moving; `asking`: to
    /// this node.
    pub async fn read_key(
        &self,
        resource: &str,
        kind: KeyKind,
        asking: bool,
    ) -> NodeResult<Option<(String, Duration)>> {
        inspect::read_key(&self.context, resource, kind, asking).await
    }

    pub async fn describe(&self, acks: AckPolicy, ttl: Ttl) -> Result<Guarantee> {
        describe::describe(&self.context, acks, ttl).await
    }

    /// The number of leases being undone in the background.
    pub fn pending_rollbacks(&self) -> usize {
        self.rollbacks.pending()
    }

    /// Accepts no more requests. Requests in flight end normally.
    pub fn stop_accepting(&self) {
        self.wait_queue.close();
        self.acquire.stop_accepting();
        self.extend.stop_accepting();
        self.adopt.stop_accepting();
    }

    /// Closes the connections once nothing is in flight, after the time of one command at most. Slower
    /// requests and rollbacks end when their own time is over.
    pub async fn close(&self) {
        self.stop_accepting();
        let joined = async {
            self.acquire.joined().await;
            self.extend.joined().await;
            self.adopt.joined().await;
        };
        let _ = tokio::time::timeout(self.context.settings.command_timeout, joined).await;
        #[cfg(unix)]
        if let Some(inline) = &self.inline {
            inline.close();
        }
        self.rollbacks.close();
    }

    /// Undoes a grant that was written, or may have been, and is not proved. Returns whether that is
    /// confirmed. Never a plain DEL: the lease may have expired, and another owner may have it.
    async fn roll_back(&self, request: &Request, late: Late) -> bool {
        let (Request { resources, owner, .. }, lasts) = (request, request.lasts());
        let deleted = self.delete(resources, *owner, None).await;
        let confirmed = deleted.is_ok_and(|deleted| deleted > 0 || late == Late::Impossible);
        self.deletions.rolled_back(resources, *owner, lasts);
        if !confirmed {
            self.rollbacks.add(resources, *owner, lasts, None, late);
        }
        confirmed
    }
}

/// A policy whose WAIT ends: a timeout of 0 would block forever.
fn finite(acks: AckPolicy) -> AckPolicy {
    let timeout_ms = if Proof::of(acks).is_needed() { acks.timeout_ms.max(1) } else { 0 };
    AckPolicy { timeout_ms, ..acks }
}

/// The acquire script's reply for a request that is busy: how long another owner's lease still lasts, and the
/// place of the resource.
fn busy(reply: i64) -> Busy {
    const UNKNOWN_MS: u64 = (1 << 40) - 1;
    let encoded = (-1 - reply).unsigned_abs();
    let left_ms = encoded & UNKNOWN_MS;
    Busy {
        resource: usize::try_from(encoded >> 40).unwrap_or(0),
        remaining: (left_ms < UNKNOWN_MS).then(|| Duration::from_millis(left_ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_reply_has_the_place_of_the_resource_and_its_time_if_that_is_known() {
        let of = |resource, remaining: Option<u64>| Busy {
            resource,
            remaining: remaining.map(Duration::from_millis),
        };
        assert_eq!(busy(-1), of(0, Some(0)));
        assert_eq!(busy(-501), of(0, Some(500)));
        assert_eq!(busy(-(1 << 40)), of(0, None), "a lock without a TTL");
        assert_eq!(busy(-501 - (999 << 40)), of(999, Some(500)));
        assert_eq!(busy(-(1 << 40) - (2 << 40)), of(2, None));
    }
}
