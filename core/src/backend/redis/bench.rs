//! Parts of this folder that benches/core runs on their own, each as a worker does.

use std::time::Duration;

use redis::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::config::address::Address;
use super::config::keys::Keys;
use super::connection::{Connection, Transport};
use super::pipeline::batch::{BatchEntry, LeaseOutcome, RequestBatch, settle};
use super::pipeline::round_trip::ReplySorter;
use super::pipeline::scheduler::{Assignment, Scheduler, WorkerLimits};
use super::protocol::decoder::Decoder;
use super::protocol::lease_args::LeaseArgs;
use super::protocol::operation::Operation;
use super::protocol::packer::Packer;
use super::protocol::replies::ReplyContext;
use super::protocol::replies::acknowledgement::Acknowledgement;
use super::protocol::replies::expected::{ExpectedReply, ScriptReply};
use super::protocol::replies::proof::{Proof, Received};
use super::protocol::scripts::{ACQUIRE, RELEASE, Script};
use crate::backend::contract::Request;
use crate::error::Result;
use crate::runtime::clock::BootInstant;

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(600);

/// Packs the calls for a batch of requests.
pub struct Packing {
    keys: Keys,
    acquires: Vec<LeaseArgs>,
    releases: Vec<LeaseArgs>,
    packer: Packer,
    out: Vec<u8>,
}

impl Packing {
    /// For these requests, and for the releases of their leases.
    pub fn new(requests: &[Request]) -> Result<Self> {
        Ok(Self {
            keys: Keys::new("fencelock")?,
            acquires: requests.iter().map(LeaseArgs::acquire).collect(),
            releases: requests
                .iter()
                .map(|request| LeaseArgs::release(&request.resources, request.owner))
                .collect(),
            packer: Packer::new(),
            out: Vec::new(),
        })
    }

    /// One call for all acquires.
    pub fn acquires(&mut self) -> &[u8] {
        Self::pack(&ACQUIRE, &self.keys, &self.acquires, &mut self.packer, &mut self.out)
    }

    /// One call for all releases.
    pub fn releases(&mut self) -> &[u8] {
        Self::pack(&RELEASE, &self.keys, &self.releases, &mut self.packer, &mut self.out)
    }

    fn pack<'a>(
        script: &Script,
        keys: &Keys,
        items: &[LeaseArgs],
        packer: &mut Packer,
        out: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        out.clear();
        script.pack(keys, items.iter(), packer, out);
        let _ = packer.next_expected();
        out
    }
}

/// Takes requests, and hands them out as batches.
pub struct Queueing(Scheduler);

impl Default for Queueing {
    fn default() -> Self {
        Self(Scheduler::new(WorkerLimits { workers: 8, per_class: 2 }))
    }
}

impl Queueing {
    /// Adds every request; a worker takes all of them and is done. Returns how many it took.
    pub fn pass(&mut self, requests: &[Request]) -> usize {
        for request in requests {
            let lease = LeaseArgs::acquire(request);
            let _ = self.0.push(BatchEntry { lease, acks: request.acks, done: oneshot::channel().0 });
        }
        let Assignment::Send(class, batch) = self.0.next(true).0 else { return 0 };
        self.0.done(class);
        batch.len()
    }
}

/// Reads the replies to a batch, and gives each request its outcome.
pub struct Replies {
    connection: Connection,
    address: Address,
}

impl Replies {
    /// Over a stream whose other end replies to two numbers (8 bytes each, big endian) as a server does to an
    /// acquire with the first as its echo, a WAIT, and a PING with the second.
    pub fn start(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        let transport =
            Transport { reader: Box::new(reader), writer: Box::new(writer), accepts_exactly: true };
        let address = Address::Tcp { host: "127.0.0.1".into(), port: 6379 };
        Self { connection: Connection::start(transport, None, Decoder::default()), address }
    }

    /// One batch. Returns how many requests were granted.
    pub async fn settle(&self, requests: &[Request]) -> usize {
        let context = ReplyContext {
            address: &self.address,
            operation: Operation::Acquire,
            proof: Proof { replicas: 2, fsync: false },
            declared: 2,
            of_cluster: false,
            prefix: "fencelock",
        };
        let (batch, outcomes): (RequestBatch, Vec<_>) = requests
            .iter()
            .map(|request| {
                let (done, outcome) = oneshot::channel();
                (BatchEntry { lease: LeaseArgs::acquire(request), acks: request.acks, done }, outcome)
            })
            .unzip();
        let sent = self.connection.send([1, 2], LIMIT, |packer, out| {
            let (echo, shape) = (packer.next_echo(), ScriptReply::Numbers(requests.len()));
            let ping = packer.next_echo();
            packer.expect(ExpectedReply::Script { echo, shape });
            packer.expect(ExpectedReply::Integer);
            packer.expect(ExpectedReply::Echo(ping));
            out.extend(echo.to_be_bytes());
            out.extend(ping.to_be_bytes());
        });
        let Ok([scripts, wait]) = sent else { return 0 };
        let mut sorter = ReplySorter::new(context, false);
        let reply = self.connection.receive(scripts).await.replies.pop();
        sorter.add_call(batch, reply.unwrap_or(Value::Nil));
        let reply = self.connection.receive(wait).await.replies.into_iter().next();
        let Acknowledgement::Received(received) = context.acknowledgement(&reply.unwrap_or(Value::Nil))
        else {
            return 0;
        };
        for (entry, reply) in sorter.written {
            settle(entry, LeaseOutcome::Written { reply, sent: BootInstant::from_micros(0), received });
        }
        let granted = |mut outcome: oneshot::Receiver<LeaseOutcome>| {
            matches!(
                outcome.try_recv(),
                Ok(LeaseOutcome::Written { received: Received { replicas: 2, .. }, .. })
            )
        };
        outcomes.into_iter().map(granted).filter(|&granted| granted).count()
    }
}
