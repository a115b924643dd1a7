//! Parts of this folder that benches/core runs by themselves, each as a lane does.

use std::time::Duration;

use redis::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::config::Address;
use super::config::keys::Keys;
use super::connection::{Connection, Stream};
use super::pipeline::batch::{Batch, Entry, Outcome, settle};
use super::pipeline::round_trip::Sorter;
use super::pipeline::scheduler::{Limits, Next, Queue};
use super::protocol::replies::{About, Proof, Subject};
use super::protocol::scripts::{ACQUIRE, Item, Packer, RELEASE, Script};
use crate::backend::contract::Request;
use crate::error::Result;
use crate::runtime::clock::BootInstant;

/// Far more than anything here may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Packs the calls for a batch of requests.
pub struct Packing {
    keys: Keys,
    acquires: Vec<Item>,
    releases: Vec<Item>,
    packer: Packer,
    out: Vec<u8>,
}

impl Packing {
    /// For these requests, and for the releases of their leases.
    pub fn new(requests: &[Request]) -> Result<Self> {
        Ok(Self {
            keys: Keys::new("fencelock")?,
            acquires: requests.iter().map(Item::acquire).collect(),
            releases: requests
                .iter()
                .map(|request| Item::release(&request.resources, request.owner))
                .collect(),
            packer: Packer::default(),
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
        items: &[Item],
        packer: &mut Packer,
        out: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        out.clear();
        script.pack(keys, items.iter(), packer, out);
        out
    }
}

/// Takes requests, and gives them out as batches.
pub struct Queueing(Queue);

impl Default for Queueing {
    fn default() -> Self {
        Self(Queue::new(Limits { lanes: 8, per_policy: 2 }))
    }
}

impl Queueing {
    /// Every request comes, a lane takes all that are there, and is through with them. Answers how many it took.
    pub fn pass(&mut self, requests: &[Request]) -> usize {
        for request in requests {
            let entry = Entry { item: Item::acquire(request), done: oneshot::channel().0 };
            let _ = self.0.push(request.acks, entry);
        }
        let Next::Carry(policy, batch) = self.0.next(true).0 else { return 0 };
        self.0.done(policy);
        batch.len()
    }
}

/// Reads what a server answers to a batch, and tells each request what became of it.
pub struct Replies {
    connection: Connection,
    address: Address,
}

impl Replies {
    /// Over a stream whose other end answers every byte with a list of tokens and the reply to WAIT.
    pub fn start(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        let stream = Stream { reader: Box::new(reader), writer: Box::new(writer), accepts_exactly: true };
        let address = Address::Tcp { host: "127.0.0.1".into(), port: 6379 };
        Self { connection: Connection::start(stream, None), address }
    }

    /// One batch. Answers how many were granted.
    pub async fn settle(&self, requests: &[Request]) -> usize {
        let about = About { address: &self.address, subject: Subject::Grant, required: 2 };
        let (batch, outcomes): (Batch, Vec<_>) = requests
            .iter()
            .map(|request| {
                let (done, outcome) = oneshot::channel();
                (Entry { item: Item::acquire(request), done }, outcome)
            })
            .unzip();
        let sent = self.connection.send([1, 1], LIMIT, |_, out| out.push(b'.'));
        let Ok([scripts, wait]) = sent else { return 0 };
        let mut sorter = Sorter::new(about, false, None);
        let reply = self.connection.answer(scripts).await.replies.pop();
        sorter.call(batch, reply.unwrap_or(Value::Nil));
        let proof = self.connection.answer(wait).await.replies.pop();
        let Proof::Acks(acks) = about.proof(&proof.unwrap_or(Value::Nil)) else { return 0 };
        for (entry, reply) in sorter.written {
            settle(entry, Outcome::Written { reply, sent: BootInstant::from_micros(0), acks });
        }
        let granted = |mut outcome: oneshot::Receiver<Outcome>| {
            matches!(outcome.try_recv(), Ok(Outcome::Written { acks: 2, .. }))
        };
        outcomes.into_iter().map(granted).filter(|&granted| granted).count()
    }
}
