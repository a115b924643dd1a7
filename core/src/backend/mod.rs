//! Where leases live: what a grant is on each backend, and how it is proved. [`contract`] is what all of them
//! do.

pub mod contract;
pub mod guarantees;
pub mod memory;
pub mod quorum;
pub mod redis;
pub mod sqlite;
mod waiter;

use self::contract::{
    Attempt, FailoverListener, Grant, Info, LockBackend, LossListener, Presence, Request, SyncBackend,
};
use self::guarantees::Guarantee;
pub use self::waiter::Waiter;
use crate::error::Result;
use crate::lease::{AckPolicy, Owner, Resources, Ttl};
use crate::runtime::clock::BootInstant;
use crate::runtime::executor::Executor;

/// The backends there are: this type only dispatches. Closed on purpose, because each strategy's guarantee is
/// ours to keep.
#[derive(Debug)]
pub enum Backend {
    /// One Redis primary with its replicas.
    Redis(redis::RedisBackend),
    /// A majority of independent Redis nodes.
    Quorum(quorum::QuorumBackend),
    /// A SQLite file.
    Sqlite(sqlite::SqliteBackend),
    /// The memory of one manager.
    Memory(memory::MemoryBackend),
}

impl Backend {
    /// What it does on the calling thread, if it can.
    pub fn as_sync(&self) -> Option<&dyn SyncBackend> {
        match self {
            Self::Redis(_) | Self::Quorum(_) => None,
            Self::Sqlite(backend) => Some(backend),
            Self::Memory(backend) => Some(backend),
        }
    }
}

macro_rules! dispatch {
    ($self:ident, $backend:ident => $call:expr) => {
        match $self {
            Backend::Redis($backend) => $call,
            Backend::Quorum($backend) => $call,
            Backend::Sqlite($backend) => $call,
            Backend::Memory($backend) => $call,
        }
    };
}

impl LockBackend for Backend {
    fn on_loss(&self, listener: LossListener) {
        dispatch!(self, backend => backend.on_loss(listener));
    }

    fn on_failover(&self, listener: FailoverListener) {
        dispatch!(self, backend => backend.on_failover(listener));
    }

    async fn find_missing(&self, leases: &[(Resources, Owner)]) -> Vec<Presence> {
        dispatch!(self, backend => backend.find_missing(leases).await)
    }

    fn executor(&self) -> Result<Executor> {
        dispatch!(self, backend => backend.executor())
    }

    async fn connect(&self) -> Result<()> {
        dispatch!(self, backend => backend.connect().await)
    }

    async fn acquire(&self, request: &Request) -> Result<Attempt> {
        dispatch!(self, backend => backend.acquire(request).await)
    }

    async fn join_queue(&self, resources: &Resources, waiter: &Waiter) -> Result<()> {
        dispatch!(self, backend => backend.join_queue(resources, waiter).await)
    }

    async fn leave_queue(&self, resources: &Resources, waiter: &Waiter) {
        dispatch!(self, backend => backend.leave_queue(resources, waiter).await);
    }

    async fn extend(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        acks: AckPolicy,
    ) -> Result<BootInstant> {
        dispatch!(self, backend => backend.extend(resources, owner, ttl, acks).await)
    }

    async fn release(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        stands_until: Option<BootInstant>,
    ) -> Result<bool> {
        dispatch!(self, backend => backend.release(resources, owner, ttl, stands_until).await)
    }

    async fn hand_over(&self, resources: &Resources, owner: Owner) -> Result<()> {
        dispatch!(self, backend => backend.hand_over(resources, owner).await)
    }

    async fn adopt(&self, request: &Request, from: Owner) -> Result<Grant> {
        dispatch!(self, backend => backend.adopt(request, from).await)
    }

    async fn inspect(&self, resource: &str) -> Result<Option<Info>> {
        dispatch!(self, backend => backend.inspect(resource).await)
    }

    async fn force_release(&self, resource: &str) -> Result<bool> {
        dispatch!(self, backend => backend.force_release(resource).await)
    }

    async fn describe(&self, acks: AckPolicy, ttl: Ttl) -> Result<Guarantee> {
        dispatch!(self, backend => backend.describe(acks, ttl).await)
    }

    fn pending_cleanups(&self) -> usize {
        dispatch!(self, backend => backend.pending_cleanups())
    }

    async fn close(&self) {
        dispatch!(self, backend => backend.close().await);
    }
}
