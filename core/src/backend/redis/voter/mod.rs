//! What does one node of a quorum do? It votes: it accepts proposals, extends and releases leases. Whether it
//! may vote is decided at each connection ([`admission`]); calls of one moment share a script call
//! ([`calls`]).

mod admission;
mod calls;
mod restart;
mod scripts;

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::sync::oneshot;

use self::admission::Admission;
pub(crate) use self::admission::{Admitted, Agreement, TimeSample};
pub(crate) use self::calls::NoVote;
use self::calls::{Call, Calls, RawReply};
pub(crate) use self::scripts::{Proposal, Renewal};
use super::config::endpoint::{Endpoint, ServerKind};
use super::config::{Config, Deployment};
use super::connection::route::{FixedAddress, Route};
use super::describe::describe_voter;
pub(crate) use super::node::Scan;
use super::node::{Node, NodeError, WaitQueue};
use super::node_context::NodeContext;
pub(crate) use super::pipeline::batch::Late;
use super::protocol::lease_args::LeaseArgs;
use super::protocol::operation::Operation;
use super::protocol::replies::refusals::is_refusal;
use crate::backend::connections::Connections;
use crate::backend::contract::Info;
use crate::backend::guarantees::Guarantee;
use crate::error::{Error, Result};
use crate::lease::{Holder, Owner, Resources, Ttl};
use crate::runtime::clock::{BootInstant, Clock};

/// One of several independent servers, reached through one connection for all calls and one for wake-ups.
pub(crate) struct Voter {
    context: NodeContext,
    node: Node,
    admission: Arc<Admission>,
    calls: Arc<Calls>,
}

/// A call whose answer is still to come.
pub(crate) type Pending = oneshot::Receiver<RawReply>;

/// What a node said to a proposal.
#[derive(Debug)]
pub(crate) enum ProposalReply {
    Granted,
    Held {
        /// Which of the resources.
        resource: usize,
        left: Option<Duration>,
        token: u64,
    },
    Low(u64),
    High(u64),
}

/// What a node said to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RenewalReply {
    Extended,
    /// It is free there, or was until this renewal took it.
    Free,
    Taken,
}

/// The answer to a call.
pub(crate) struct Answered<T> {
    /// The connection by which it came: what was sent on the same one before is executed. `None`: none came.
    pub connection: Option<u64>,
    /// What time it is there, if it said so.
    pub time: Option<TimeSample>,
    pub vote: std::result::Result<T, NoVote>,
}

impl Voter {
    /// No I/O. An error: this is not one server at a fixed address.
    pub fn new(config: Config, agreement: Agreement, clock: Clock) -> Result<Self> {
        config.fixed_address()?;
        let Config { deployment, settings } = config;
        let Deployment::Standalone(address) = deployment else { unreachable!("its address is fixed") };
        let endpoint = Endpoint { address, kind: ServerKind::Voter, settings: Arc::clone(&settings) };
        let route = Arc::new(Route::new(Arc::new(FixedAddress(Arc::new(endpoint)))));
        let context = NodeContext::new(settings, route, clock, false);
        let node = Node::of_quorum(context.clone());
        let admission = Arc::new(Admission::new(context.clone(), agreement));
        let calls = Arc::new(Calls::new(context.clone(), Arc::clone(&admission)));
        Ok(Self { context, node, admission, calls })
    }

    /// Its address, for people and for what clients agree on.
    pub fn address(&self) -> String {
        self.context.connector.route().to_string()
    }

    /// Its connections.
    pub fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.context.settings.connections)
    }

    /// How long a command may take.
    pub fn command_timeout(&self) -> Duration {
        self.context.settings.command_timeout
    }

    /// How long connecting may take.
    pub fn connect_timeout(&self) -> Duration {
        self.context.settings.connect_timeout
    }

    /// Its connection and what it said there; `None`: it is not connected.
    pub fn admitted(&self) -> Option<Arc<Admitted>> {
        self.admission.current()
    }

    /// Connects if necessary.
    pub async fn admit(&self) -> Result<Arc<Admitted>> {
        self.admission.admit().await
    }

    /// Connects in the background, unless it is connected or connecting.
    pub fn admit_soon(&self) {
        self.admission.admit_soon();
    }

    /// Why the last attempt to connect failed.
    pub fn last_error(&self) -> Option<Error> {
        self.admission.last_error()
    }

    /// Notes again on the node what its clients agree on, if it is time.
    pub fn keep_agreement(&self) {
        self.admission.keep_agreement();
    }

    /// Sends a proposal: at once, or with others of this moment. Calls are executed in the order in which
    /// they were sent.
    pub fn propose(&self, proposal: Proposal) -> Pending {
        self.calls.send(Call::Propose(proposal))
    }

    /// Sends a renewal.
    pub fn renew(&self, renewal: Renewal) -> Pending {
        self.calls.send(Call::Renew(renewal))
    }

    /// Sends a comparison and deletion, which leaves the rest of a minimum.
    pub fn release(&self, resources: &Resources, owner: Owner, stands_until: Option<BootInstant>) -> Pending {
        self.calls.send(match self.node.rest(stands_until) {
            None => Call::Release(LeaseArgs::release(resources, owner)),
            Some(rest) => Call::LeaveRest(LeaseArgs::leave_rest(resources, owner, rest)),
        })
    }

    /// Reads the answer to a proposal for these resources.
    pub fn proposal_reply(&self, resources: &Resources, reply: RawReply) -> Answered<ProposalReply> {
        const UNKNOWN_MS: i64 = (1 << 40) - 1;
        self.read(reply, Operation::Acquire, Some(resources), |numbers| match numbers {
            [1, ..] => Some(ProposalReply::Granted),
            [2, encoded, last] => {
                let left_ms = encoded & UNKNOWN_MS;
                let left = (left_ms < UNKNOWN_MS).then(|| Duration::from_millis(left_ms.unsigned_abs()));
                let resource = usize::try_from(encoded >> 40).ok()?;
                Some(ProposalReply::Held { resource, left, token: last.unsigned_abs() })
            }
            [3, last, _] => Some(ProposalReply::Low(last.unsigned_abs())),
            [4, most, _] => Some(ProposalReply::High(most.unsigned_abs())),
            _ => None,
        })
    }

    /// Reads the answer to a renewal.
    pub fn renewal_reply(&self, reply: RawReply) -> Answered<RenewalReply> {
        self.read(reply, Operation::Extend, None, |numbers| match numbers[0] {
            1 => Some(RenewalReply::Extended),
            2 => Some(RenewalReply::Free),
            3 => Some(RenewalReply::Taken),
            _ => None,
        })
    }

    /// Reads the answer to a release: how many locks were the owner's.
    pub fn release_reply(&self, reply: RawReply) -> Answered<u64> {
        self.read(reply, Operation::Release, None, |numbers| u64::try_from(numbers[0]).ok())
    }

    fn read<T>(
        &self,
        reply: RawReply,
        operation: Operation,
        resources: Option<&Resources>,
        read: impl FnOnce([i64; 3]) -> Option<T>,
    ) -> Answered<T> {
        let RawReply { connection, time, outcome } = reply;
        let context = self.context.reply_context(operation);
        let vote = outcome.and_then(|values| {
            // Of several locks, some may have been written before one was refused.
            let is_single = resources.is_some_and(|resources| resources.as_slice().len() == 1);
            let refused = |reply: &Value| NoVote {
                sent: !(is_single && matches!(reply, Value::ServerError(error) if is_refusal(error))),
                error: resources
                    .and_then(|resources| context.no_token(resources, reply))
                    .unwrap_or_else(|| context.error(reply)),
            };
            let mut numbers = [0; 3];
            for (number, value) in numbers.iter_mut().zip(&values) {
                match value {
                    Value::Int(value) => *number = *value,
                    other => return Err(refused(other)),
                }
            }
            read(numbers).ok_or_else(|| refused(&Value::Nil))
        });
        Answered { connection, time, vote }
    }

    /// Releases in the background until it is certainly gone.
    pub fn release_later(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        stands_until: Option<BootInstant>,
        late: Late,
    ) {
        self.node.undo_later(resources, owner, ttl, stands_until, late);
    }

    /// The waiters that are queued at this node.
    pub fn wait_queue(&self) -> &Arc<WaitQueue> {
        self.node.wait_queue()
    }

    pub async fn inspect(&self, resources: &Resources) -> Result<Option<Info>> {
        self.node.inspect(resources).await.map_err(NodeError::into_error)
    }

    /// The resources of the next locks of a scan.
    pub async fn scan(&self, scan: &mut Scan) -> Result<Vec<String>> {
        self.node.scan(scan).await
    }

    /// A scan of this node for locks of resources that begin with this.
    pub fn new_scan(&self, prefix: &str) -> Scan {
        Scan::new(&Arc::new(self.node.lock_names(prefix)))
    }

    /// Stores who the manager with this id is, for so long.
    pub async fn write_holder(&self, id: &str, holder: &Holder, lasts: Duration) -> Result<()> {
        self.node.write_holder(id, (holder, lasts), false).await.map_err(NodeError::into_error)
    }

    /// Who the manager with this id is, if the node knows.
    pub async fn read_holder(&self, id: &str) -> Result<Option<Holder>> {
        self.node.read_holder(id, false).await.map_err(NodeError::into_error)
    }

    pub async fn force_release(&self, resources: &Resources) -> Result<bool> {
        self.node.force_release(resources).await.map_err(NodeError::into_error)
    }

    pub async fn describe(&self) -> Result<Guarantee> {
        describe_voter(&self.context).await
    }

    /// The number of leases being undone in the background.
    pub fn pending_rollbacks(&self) -> usize {
        self.node.pending_rollbacks()
    }

    /// Has what waits for its connection return.
    pub fn abandon_connects(&self) {
        self.context.settings.pending_connects.abandon();
    }

    /// Accepts no more proposals.
    pub fn stop_accepting(&self) {
        self.node.stop_accepting();
        self.admission.close();
    }

    /// Closes the connections once nothing is in flight.
    pub async fn close(&self) {
        self.stop_accepting();
        self.node.close().await;
    }
}
