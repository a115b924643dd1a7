//! Calls to one node. Those of one moment leave together, and all are executed in the order in which they
//! were sent, so that a release behind a proposal finds what that has written.

use std::collections::VecDeque;
use std::sync::Arc;

use redis::Value;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::admission::{Admission, Admitted, TimeSample};
use super::scripts::{NUMBERS_A_PROPOSAL, Proposal, Renewal};
use crate::backend::redis::connection::Response;
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::lease_args::LeaseArgs;
use crate::backend::redis::protocol::operation::Operation;
use crate::backend::redis::protocol::packer::Packer;
use crate::backend::redis::protocol::replies::refusals::{is_not_loaded, is_refusal};
use crate::backend::redis::protocol::scripts::{LEAVE_REST, RELEASE};
use crate::error::Error;
use crate::runtime::clock::BootInstant;
use crate::runtime::sync::Mutex;

/// The most names, and the most calls, that share a call of a script.
const MAX_NAMES: usize = 128;
const MAX_CALLS: usize = 64;
/// Batches that are under way at the same time: meanwhile the next one grows.
const MAX_BATCHES: usize = 2;

/// The calls to one node.
pub(super) struct Calls {
    context: NodeContext,
    admission: Arc<Admission>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Entry>,
    /// Batches under way, or about to be sent.
    batches: usize,
}

pub(super) enum Call {
    Propose(Proposal),
    Renew(Renewal),
    Release(LeaseArgs),
    /// A release that leaves the rest of a minimum.
    LeaveRest(LeaseArgs),
}

struct Entry {
    call: Call,
    done: oneshot::Sender<RawReply>,
}

/// Why a node did not answer a call.
#[derive(Debug, Clone)]
pub(crate) struct NoVote {
    /// Whether the call may have been, or may still be executed.
    pub sent: bool,
    pub error: Error,
}

/// The answer to a call, as it came.
pub(crate) struct RawReply {
    /// The connection by which it came: what was sent on the same one before is executed. `None`: none came.
    pub(super) connection: Option<u64>,
    pub(super) time: Option<TimeSample>,
    pub(super) outcome: Result<Vec<Value>, NoVote>,
}

/// What may share a call of a script.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Propose,
    Renew,
    Release,
    LeaveRest,
}

impl Kind {
    const fn operation(self) -> Operation {
        match self {
            Self::Propose => Operation::Acquire,
            Self::Renew => Operation::Extend,
            Self::Release | Self::LeaveRest => Operation::Release,
        }
    }
}

impl Call {
    const fn kind(&self) -> Kind {
        match self {
            Self::Propose(_) => Kind::Propose,
            Self::Renew(_) => Kind::Renew,
            Self::Release(_) => Kind::Release,
            Self::LeaveRest(_) => Kind::LeaveRest,
        }
    }

    /// The only connection on which it may be sent.
    const fn connection(&self) -> Option<u64> {
        match self {
            Self::Propose(proposal) => Some(proposal.connection),
            // Nor would it be known on which connection it is under way.
            Self::Renew(renewal) => renewal.heal,
            Self::Release(_) | Self::LeaveRest(_) => None,
        }
    }

    fn names(&self) -> usize {
        match self {
            Self::Propose(proposal) => proposal.resources.as_slice().len(),
            Self::Renew(renewal) => renewal.resources.as_slice().len(),
            Self::Release(lease) | Self::LeaveRest(lease) => lease.names(),
        }
    }
}

impl Calls {
    pub fn new(context: NodeContext, admission: Arc<Admission>) -> Self {
        Self { context, admission, queue: Mutex::default() }
    }

    /// Sends a call with others of this moment.
    pub fn send(self: &Arc<Self>, call: Call) -> oneshot::Receiver<RawReply> {
        let (done, reply) = oneshot::channel();
        let start = {
            let mut queue = self.queue.lock();
            queue.waiting.push_back(Entry { call, done });
            let start = queue.batches < MAX_BATCHES;
            queue.batches += usize::from(start);
            start
        };
        if start {
            tokio::spawn(Arc::clone(self).run());
        }
        reply
    }

    /// Sends batches until there is nothing to send.
    async fn run(self: Arc<Self>) {
        let _ended = scopeguard::guard((), |()| self.queue.lock().batches -= 1);
        loop {
            if self.admission.current().is_none() {
                self.reconnect().await;
            }
            let batch = self.queue.lock().next_batch();
            if batch.is_empty() {
                return;
            }
            self.exchange(batch).await;
        }
    }

    /// Connects for the calls that any connection serves. All others fail at once, and those if it takes too
    /// long.
    async fn reconnect(&self) {
        let operation = |entry: &Entry| entry.call.kind().operation();
        let fail = |entries: Vec<Entry>, error: Option<Error>| {
            for entry in entries {
                let replies = self.context.reply_context(operation(&entry));
                let error = error.clone().unwrap_or_else(|| replies.not_sent(&"it is not connected"));
                settle_all(vec![entry], &NoVote { sent: false, error });
            }
        };
        fail(self.queue.lock().take(|call| call.connection().is_some()), self.admission.last_error());
        if self.queue.lock().waiting.is_empty() {
            return;
        }
        // Goes on if it takes longer than there is time for here.
        self.admission.admit_soon();
        let limit = self.context.settings.command_timeout / 2;
        let failed = match timeout(limit, self.admission.admit()).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => Some(error),
            Err(_) => self.admission.last_error(),
        };
        fail(self.queue.lock().take(|_| true), failed);
    }

    /// Sends a batch, all calls of one kind, and settles it.
    async fn exchange(&self, mut batch: Vec<Entry>) {
        let Some(first) = batch.first() else { return };
        let replies = self.context.reply_context(first.call.kind().operation());
        let not_sent = |error: Error| NoVote { sent: false, error };
        let Some(admitted) = self.admission.current() else {
            let error =
                self.admission.last_error().unwrap_or_else(|| replies.not_sent(&"it is not connected"));
            return settle_all(batch, &not_sent(error));
        };
        // The server may have been restarted since it was found to vote.
        let is_outdated =
            |entry: &mut Entry| entry.call.connection().is_some_and(|serial| serial != admitted.serial);
        let outdated = batch.extract_if(.., is_outdated).collect();
        settle_all(outdated, &not_sent(replies.not_sent(&"it was connected again")));
        if batch.is_empty() {
            return;
        }
        let sent = self.context.clock.boot();
        let exchange = admitted.connection.send([1], self.context.settings.command_timeout, |packer, out| {
            pack(&self.context, &admitted, &batch, packer, out);
        });
        let exchange = match exchange {
            Ok([exchange]) => exchange,
            Err(broken) => return settle_all(batch, &not_sent(replies.not_sent(&broken))),
        };
        let Response { replies: values, broken } = admitted.connection.receive(exchange).await;
        let received = self.context.clock.boot();
        match (values.into_iter().next(), broken) {
            (Some(Value::Array(values)), _) => {
                self.admission.hear(received);
                settle(batch, &admitted, (sent, received), values);
            }
            (Some(reply), _) => {
                let unknown_script = matches!(&reply, Value::ServerError(error) if is_not_loaded(error));
                if unknown_script {
                    self.admission.readmit(&admitted);
                }
                // Other errors may be a proxy's, which may have passed the call on.
                let sent = !matches!(&reply, Value::ServerError(error) if is_refusal(error));
                settle_all(batch, &NoVote { sent, error: replies.error(&reply) });
            }
            (None, broken) => {
                let (sent, error) = match broken {
                    Some(broken) if broken.sent => (true, replies.silent(&broken)),
                    Some(broken) => (false, replies.no_reply(&broken)),
                    None => (true, replies.silent(&"the connection ended")),
                };
                settle_all(batch, &NoVote { sent, error });
            }
        }
    }
}

impl Queue {
    /// Takes the calls that match out of the queue.
    fn take(&mut self, matches: impl Fn(&Call) -> bool) -> Vec<Entry> {
        let mut taken = Vec::new();
        for entry in std::mem::take(&mut self.waiting) {
            if matches(&entry.call) {
                taken.push(entry);
            } else {
                self.waiting.push_back(entry);
            }
        }
        taken
    }

    /// The next calls that share a call of a script.
    fn next_batch(&mut self) -> Vec<Entry> {
        let Some(first) = self.waiting.front() else { return Vec::new() };
        let (kind, mut names) = (first.call.kind(), 0);
        let fits = |entry: &&Entry| {
            let first = names == 0;
            names += entry.call.names();
            entry.call.kind() == kind && (first || names <= MAX_NAMES)
        };
        let count = self.waiting.iter().take(MAX_CALLS).take_while(fits).count();
        self.waiting.drain(..count).collect()
    }
}

fn pack(context: &NodeContext, admitted: &Admitted, batch: &[Entry], packer: &mut Packer, out: &mut Vec<u8>) {
    let (keys, scripts) = (&context.settings.keys, &admitted.scripts);
    match batch[0].call {
        Call::Propose(_) => {
            let proposals: Vec<_> = calls(batch, |call| match call {
                Call::Propose(proposal) => Some(proposal),
                _ => None,
            });
            scripts.pack_proposals(keys, proposals.iter().copied(), packer, out);
        }
        Call::Renew(_) => {
            let renewals: Vec<_> = calls(batch, |call| match call {
                Call::Renew(renewal) => Some(renewal),
                _ => None,
            });
            scripts.pack_renewals(keys, renewals.iter().copied(), packer, out);
        }
        Call::Release(_) => {
            let releases: Vec<_> = calls(batch, |call| match call {
                Call::Release(lease) => Some(lease),
                _ => None,
            });
            RELEASE.pack(keys, releases.iter().copied(), packer, out);
        }
        Call::LeaveRest(_) => {
            let releases: Vec<_> = calls(batch, |call| match call {
                Call::LeaveRest(lease) => Some(lease),
                _ => None,
            });
            LEAVE_REST.pack(keys, releases.iter().copied(), packer, out);
        }
    }
}

fn calls<'a, T>(batch: &'a [Entry], of: impl Fn(&'a Call) -> Option<&'a T>) -> Vec<&'a T> {
    batch.iter().filter_map(|entry| of(&entry.call)).collect()
}

/// Gives each call its part of the reply.
fn settle(
    batch: Vec<Entry>,
    admitted: &Admitted,
    (sent, received): (BootInstant, BootInstant),
    values: Vec<Value>,
) {
    let mut values = values.into_iter();
    let (time, numbers) = match batch[0].call.kind() {
        Kind::Release | Kind::LeaveRest => (None, 1),
        kind => {
            let time = match values.next() {
                Some(Value::Int(now)) => u64::try_from(now).ok(),
                _ => None,
            };
            (time, if kind == Kind::Propose { NUMBERS_A_PROPOSAL } else { 1 })
        }
    };
    // It counts once for all of them.
    let mut time = time.map(|node_us| TimeSample { sent, received, node_us });
    for entry in batch {
        let outcome = Ok(values.by_ref().take(numbers).collect());
        let reply = RawReply { connection: Some(admitted.serial), time: time.take(), outcome };
        let _ = entry.done.send(reply);
    }
}

fn settle_all(batch: Vec<Entry>, no_vote: &NoVote) {
    for entry in batch {
        let reply = RawReply { connection: None, time: None, outcome: Err(no_vote.clone()) };
        let _ = entry.done.send(reply);
    }
}
