//! Strong locks: leases on one Redis primary, proved by its replicas' acknowledgements.
//!
//! From the contract down to the socket; each layer knows only those below it:
//!
//! ```text
//! mod          the contract (backend::contract), dispatched to the node that owns the resources
//! holders      who holds them
//! listing      all locks
//! missing      which leases are still there after a failover
//! topology     which server owns a resource now
//! node         one server: grants, extensions, releases; background rollbacks; waking of waiters
//! voter        one node of a quorum: whether it may vote, its proposals and renewals
//! pipeline     workers that send batches of requests, each followed by one WAIT
//! describe     what the deployment guarantees
//! node_context what these parts of a node share: its configuration, its connections
//! connection   pipelined, and keeps the replies that it read before a break
//! protocol     the Lua scripts, and what replies mean
//! config       URL, credentials, TLS, names of keys
//! ```

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod config;
mod connection;
mod describe;
mod holders;
pub(crate) mod listing;
mod missing;
mod node;
mod node_context;
mod pipeline;
mod protocol;
#[cfg(test)]
#[cfg(unix)] // for the signals that pause servers
pub(crate) mod tests;
mod topology;
pub(crate) mod voter;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};

#[cfg(unix)]
pub use self::config::ReadingLoop;
pub use self::config::{
    Ask, AskedCredentials, Config, Location, Options, SentinelLogin, SentinelOptions, TlsOptions,
};
use self::listing::RedisListing;
use self::node::{Node, NodeError};
pub use self::protocol::values::reply_code;
use self::topology::Topology;
use self::topology::cluster::OnMigration;
use crate::backend::connections::Connections;
use crate::backend::contract::{
    Attempt, FailoverListener, Grant, Info, LockBackend, Locks, Presence, Request,
};
use crate::backend::guarantees::Guarantee;
use crate::backend::pending_connects::PendingConnects;
use crate::backend::waiter::Waiter;
use crate::error::{Error, Result};
use crate::lease::{AckPolicy, Holder, HolderId, Owner, Resources, Ttl};
use crate::runtime::clock::{BootInstant, Clock};
use crate::runtime::executor::Executor;

/// How long the attempt of a waiter waits for the end of a move or an outage at most: its caller's time may
/// be over meanwhile, and the waiter tries again by itself.
const WAITERS_PATIENCE: Duration = Duration::from_millis(500);

/// One Redis primary with its replicas, or several in a cluster.
pub struct RedisBackend {
    topology: Topology,
    /// How long a request may be sent from node to node.
    patience: Duration,
    connect_timeout: Duration,
    closed: AtomicBool,
    connections: [Arc<Connections>; 1],
    pending_connects: Arc<PendingConnects>,
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.topology.fmt(f)
    }
}

impl RedisBackend {
    /// No I/O.
    pub fn new(config: Config, clock: Clock) -> Self {
        let (patience, connect_timeout) = (config.settings.command_timeout, config.settings.connect_timeout);
        let connections = [Arc::clone(&config.settings.connections)];
        let pending_connects = Arc::clone(&config.settings.pending_connects);
        let topology = Topology::new(config, clock);
        let closed = AtomicBool::new(false);
        Self { topology, patience, connect_timeout, closed, connections, pending_connects }
    }

    async fn acquire_in_cluster(&self, request: &Request) -> Result<Attempt> {
        let Request { resources, waiter, .. } = request;
        let time = if waiter.is_some() { self.patience.min(WAITERS_PATIENCE) } else { self.patience };
        let call = |node: Arc<Node>, _| async move {
            if let (Topology::Cluster(cluster), Some(waiter)) = (&self.topology, waiter) {
                Box::pin(cluster.wait_at(&node, resources, waiter)).await?;
            }
            node.acquire(request).await
        };
        self.topology.on_owner(resources, (OnMigration::Wait, time), call).await
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}

impl LockBackend for RedisBackend {
    type Listing = RedisListing;

    fn on_failover(&self, listener: FailoverListener) {
        self.topology.on_failover(listener);
    }

    async fn find_missing(&self, leases: &[(Resources, Owner)]) -> Vec<Presence> {
        self.presence_of(leases).await
    }

    fn connections(&self) -> &[Arc<Connections>] {
        &self.connections
    }

    fn executor(&self) -> Result<Executor> {
        Executor::io().cloned()
    }

    async fn connect(&self) -> Result<()> {
        self.check_open()?;
        let nodes = self.topology.discovered().await?;
        try_join_all(nodes.iter().map(|node| node.connect())).await.map(drop)
    }

    async fn acquire(&self, request: &Request) -> Result<Attempt> {
        self.check_open()?;
        // Apart from the rest: the futures of common calls are moved around, so they are kept small.
        match self.topology.only_node() {
            Some(node) => node.acquire(request).await.map_err(NodeError::into_error),
            None => Box::pin(self.acquire_in_cluster(request)).await,
        }
    }

    async fn join_queue(&self, resources: &Resources, waiter: &Waiter) -> Result<()> {
        self.check_open()?;
        let node = self.topology.owner_of(resources).await?;
        match &self.topology {
            Topology::Cluster(cluster) => cluster.wait_at(&node, resources, waiter).await,
            _ => node.wait_queue().join(resources, waiter).await,
        }
    }

    async fn leave_queue(&self, resources: &Resources, waiter: &Waiter) {
        if let Some(node) = self.topology.only_node() {
            return node.wait_queue().leave(resources, waiter).await;
        }
        if let Topology::Cluster(cluster) = &self.topology
            && cluster.stop_waiting(waiter)
        {
            // An entry that cannot be removed now is soon taken for dead, or found by a heartbeat.
            let call = |node: Arc<Node>, _| async move { node.wait_queue().remove(resources, waiter).await };
            let _ = self.topology.on_owner(resources, (OnMigration::Wait, self.patience), call).await;
        }
    }

    async fn extend(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        acks: AckPolicy,
    ) -> Result<BootInstant> {
        self.check_open()?;
        if let Some(node) = self.topology.only_node() {
            let extended = node.extend(resources, owner, ttl, acks, false).await;
            return extended.map_err(NodeError::into_error);
        }
        let call =
            |node: Arc<Node>, asking| async move { node.extend(resources, owner, ttl, acks, asking).await };
        Box::pin(self.topology.on_owner(resources, (OnMigration::Ask, self.patience), call)).await
    }

    async fn release(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        stands_until: Option<BootInstant>,
    ) -> Result<bool> {
        let node = match &self.topology {
            Topology::Standalone(standalone) => standalone.owner(),
            Topology::Sentinel(sentinels) => sentinels.owner(),
            Topology::Cluster(cluster) => {
                return Box::pin(cluster.release(resources, owner, ttl, stands_until)).await;
            }
        };
        node.release(resources, owner, ttl, stands_until).await
    }

    /// Nothing on a server says which process holds a lease.
    async fn hand_over(&self, _resources: &Resources, _owner: Owner) -> Result<()> {
        self.check_open()
    }

    async fn adopt(&self, request: &Request, from: Owner) -> Result<Grant> {
        self.check_open()?;
        // While a slot moves, its keys are on one of both sides, as those of an extension.
        let call = |node: Arc<Node>, asking| async move { node.adopt(request, from, asking).await };
        Box::pin(self.topology.on_owner(&request.resources, (OnMigration::Ask, self.patience), call)).await
    }

    async fn inspect(&self, resource: &str) -> Result<Option<Info>> {
        let resources = Resources::one(resource)?;
        self.check_open()?;
        self.topology.inspect(&resources).await
    }

    fn list(&self, prefix: &str) -> RedisListing {
        RedisListing::new(prefix)
    }

    async fn next_page(&self, listing: &mut RedisListing) -> Result<Option<Locks>> {
        self.check_open()?;
        Box::pin(listing.next_page(&self.topology, self.connect_timeout)).await
    }

    async fn announce(&self, id: HolderId, holder: &Holder, lasts: Duration) -> Result<()> {
        Box::pin(self.write_holder(id, holder, lasts)).await
    }

    async fn look_up_holder(&self, id: HolderId) -> Option<Holder> {
        Box::pin(self.read_holder(id)).await.ok().flatten()
    }

    async fn force_release(&self, resource: &str) -> Result<bool> {
        let resources = Resources::one(resource)?;
        self.check_open()?;
        if let Topology::Cluster(cluster) = &self.topology {
            return cluster.force_release(&resources).await;
        }
        let node = self.topology.owner_of(&resources).await?;
        node.force_release(&resources).await.map_err(NodeError::into_error)
    }

    async fn describe(&self, acks: AckPolicy, ttl: Ttl) -> Result<Guarantee> {
        self.check_open()?;
        let nodes = self.topology.discovered().await?;
        let guarantees = join_all(nodes.iter().map(|node| node.describe(acks, ttl))).await;
        self.topology.describe(&nodes, guarantees, acks.required).await
    }

    fn pending_cleanups(&self) -> usize {
        self.topology.nodes().iter().map(|node| node.pending_rollbacks()).sum()
    }

    fn abandon_connects(&self) {
        self.pending_connects.abandon();
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let nodes = self.topology.nodes();
        join_all(nodes.iter().map(|node| node.close())).await;
        self.topology.close();
    }
}

impl Drop for RedisBackend {
    /// Workers own what they need; without this they would wait for work forever.
    fn drop(&mut self) {
        self.topology.nodes().iter().for_each(|node| node.stop_accepting());
        self.topology.close();
    }
}
