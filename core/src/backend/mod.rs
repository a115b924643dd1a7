//! Where leases live: what a grant is on each backend, and how it is proved. [`contract`] is what all of them
//! do.

pub mod connections;
pub mod contract;
pub mod guarantees;
pub mod memory;
pub(crate) mod pending_connects;
pub mod quorum;
pub mod redis;
pub mod sqlite;
mod waiter;

use std::sync::Arc;
use std::time::Duration;

use self::connections::Connections;
use self::contract::{
    Attempt, FailoverListener, Grant, Info, LockBackend, Locks, LossListener, Presence, Request, SyncBackend,
};
use self::guarantees::Guarantee;
pub use self::waiter::Waiter;
use crate::error::{Call, Error, Result};
use crate::lease::{AckPolicy, Holder, HolderId, Owner, Resources, Ttl};
use crate::runtime::clock::BootInstant;
use crate::runtime::executor::Executor;

/// The backends there are: this type only dispatches, and has errors say what they mean for the call. Closed
/// on purpose, because each strategy's guarantee is ours to keep.
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

/// A listing of one of them.
#[derive(Debug)]
pub enum Listing {
    /// On Redis primaries.
    Redis(<redis::RedisBackend as LockBackend>::Listing),
    /// On the nodes of a quorum.
    Quorum(<quorum::QuorumBackend as LockBackend>::Listing),
    /// In a lock file.
    Sqlite(<sqlite::SqliteBackend as LockBackend>::Listing),
    /// In memory.
    Memory(<memory::MemoryBackend as LockBackend>::Listing),
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
    type Listing = Listing;

    fn on_loss(&self, listener: LossListener) {
        dispatch!(self, backend => backend.on_loss(listener));
    }

    fn on_failover(&self, listener: FailoverListener) {
        dispatch!(self, backend => backend.on_failover(listener));
    }

    async fn find_missing(&self, leases: &[(Resources, Owner)]) -> Vec<Presence> {
        dispatch!(self, backend => backend.find_missing(leases).await)
    }

    fn connections(&self) -> &[Arc<Connections>] {
        dispatch!(self, backend => backend.connections())
    }

    fn executor(&self) -> Result<Executor> {
        dispatch!(self, backend => backend.executor())
    }

    async fn connect(&self) -> Result<()> {
        dispatch!(self, backend => backend.connect().await)
    }

    async fn acquire(&self, request: &Request) -> Result<Attempt> {
        dispatch!(self, backend => backend.acquire(request).await).map_err(|error| error.of(Call::Acquire))
    }

    async fn join_queue(&self, resources: &Resources, waiter: &Waiter) -> Result<()> {
        dispatch!(self, backend => backend.join_queue(resources, waiter).await)
            .map_err(|error| error.of(Call::Acquire))
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
            .map_err(|error| error.of(Call::Extend))
    }

    async fn release(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        stands_until: Option<BootInstant>,
    ) -> Result<bool> {
        dispatch!(self, backend => backend.release(resources, owner, ttl, stands_until).await)
            .map_err(|error| error.of(Call::Release))
    }

    async fn hand_over(&self, resources: &Resources, owner: Owner) -> Result<()> {
        dispatch!(self, backend => backend.hand_over(resources, owner).await)
            .map_err(|error| error.of(Call::HandOver))
    }

    async fn adopt(&self, request: &Request, from: Owner) -> Result<Grant> {
        dispatch!(self, backend => backend.adopt(request, from).await).map_err(|error| error.of(Call::Adopt))
    }

    async fn inspect(&self, resource: &str) -> Result<Option<Info>> {
        dispatch!(self, backend => backend.inspect(resource).await).map_err(|error| error.of(Call::Inspect))
    }

    fn list(&self, prefix: &str) -> Listing {
        match self {
            Self::Redis(backend) => Listing::Redis(backend.list(prefix)),
            Self::Quorum(backend) => Listing::Quorum(backend.list(prefix)),
            Self::Sqlite(backend) => Listing::Sqlite(backend.list(prefix)),
            Self::Memory(backend) => Listing::Memory(backend.list(prefix)),
        }
    }

    async fn next_page(&self, listing: &mut Listing) -> Result<Option<Locks>> {
        let page = match (self, listing) {
            (Self::Redis(backend), Listing::Redis(listing)) => backend.next_page(listing).await,
            (Self::Quorum(backend), Listing::Quorum(listing)) => backend.next_page(listing).await,
            (Self::Sqlite(backend), Listing::Sqlite(listing)) => backend.next_page(listing).await,
            (Self::Memory(backend), Listing::Memory(listing)) => backend.next_page(listing).await,
            _ => Err(Error::invalid("this listing is of another strategy")),
        };
        page.map_err(|error| error.of(Call::List))
    }

    fn is_shared(&self) -> bool {
        dispatch!(self, backend => backend.is_shared())
    }

    async fn announce(&self, id: HolderId, holder: &Holder, lasts: Duration) -> Result<()> {
        dispatch!(self, backend => backend.announce(id, holder, lasts).await)
    }

    async fn look_up_holder(&self, id: HolderId) -> Option<Holder> {
        dispatch!(self, backend => backend.look_up_holder(id).await)
    }

    async fn force_release(&self, resource: &str) -> Result<bool> {
        dispatch!(self, backend => backend.force_release(resource).await)
            .map_err(|error| error.of(Call::ForceRelease))
    }

    async fn describe(&self, acks: AckPolicy, ttl: Ttl) -> Result<Guarantee> {
        dispatch!(self, backend => backend.describe(acks, ttl).await)
    }

    fn pending_cleanups(&self) -> usize {
        dispatch!(self, backend => backend.pending_cleanups())
    }

    fn abandon_connects(&self) {
        dispatch!(self, backend => backend.abandon_connects());
    }

    async fn close(&self) {
        dispatch!(self, backend => backend.close().await);
    }
}
