//! Strong locks: leases on one Redis primary, proved by its replicas' acknowledgements.
//!
//! From the contract down to the socket; each layer knows only those below it:
//!
//! ```text
//! mod          the contract (backend::contract), dispatched to the node that owns the resources
//! topology     which server owns a resource now
//! node         one server: grants, extensions, releases; background rollbacks; waking of waiters
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
mod node;
mod node_context;
mod pipeline;
mod protocol;
#[cfg(test)]
#[cfg(unix)] // for the signals that pause servers
mod tests;
mod topology;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{join_all, try_join_all};

pub use self::config::{Config, Location, Options, SentinelLogin, SentinelOptions, TlsOptions};
use self::describe::merge::merge;
use self::node::Node;
use self::topology::Topology;
use crate::backend::contract::{Attempt, Info, LockBackend, Request};
use crate::backend::guarantees::Guarantee;
use crate::backend::waiter::Waiter;
use crate::error::{Error, Result};
use crate::lease::{AckPolicy, Owner, Resources, Ttl};
use crate::runtime::clock::{BootInstant, Clock};
use crate::runtime::executor::Executor;

/// One Redis primary with its replicas.
pub struct RedisBackend {
    topology: Topology,
    closed: AtomicBool,
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.topology.fmt(f)
    }
}

impl RedisBackend {
    /// No I/O.
    pub fn new(config: Config, clock: Clock) -> Self {
        Self { topology: Topology::new(config, clock), closed: AtomicBool::new(false) }
    }

    async fn owner_of(&self, resources: &Resources) -> Result<Arc<Node>> {
        self.check_open()?;
        self.topology.owner_of(resources).await
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}

impl LockBackend for RedisBackend {
    fn executor(&self) -> Result<Executor> {
        Executor::io().cloned()
    }

    async fn connect(&self) -> Result<()> {
        self.check_open()?;
        let nodes = self.topology.nodes();
        try_join_all(nodes.iter().map(|node| node.connect())).await.map(drop)
    }

    async fn acquire(&self, request: &Request) -> Result<Attempt> {
        self.owner_of(&request.resources).await?.acquire(request).await
    }

    async fn join_queue(&self, resources: &Resources, waiter: &Waiter) -> Result<()> {
        self.owner_of(resources).await?.wait_queue().join(resources, waiter).await
    }

    async fn leave_queue(&self, resources: &Resources, waiter: &Waiter) {
        if let Ok(node) = self.topology.owner_of(resources).await {
            node.wait_queue().leave(resources, waiter).await;
        }
    }

    async fn extend(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        acks: AckPolicy,
    ) -> Result<BootInstant> {
        self.owner_of(resources).await?.extend(resources, owner, ttl, acks).await
    }

    async fn release(&self, resources: &Resources, owner: Owner, ttl: Ttl) -> Result<bool> {
        self.topology.owner_of(resources).await?.release(resources, owner, ttl).await
    }

    async fn inspect(&self, resource: &str) -> Result<Option<Info>> {
        let resources = Resources::one(resource)?;
        self.owner_of(&resources).await?.inspect(&resources).await
    }

    async fn force_release(&self, resource: &str) -> Result<bool> {
        let resources = Resources::one(resource)?;
        self.owner_of(&resources).await?.force_release(&resources).await
    }

    async fn describe(&self, acks: u32) -> Result<Guarantee> {
        self.check_open()?;
        let nodes = self.topology.nodes();
        let guarantees = try_join_all(nodes.iter().map(|node| node.describe(acks))).await?;
        Ok(merge(guarantees).expect("a topology has at least one node"))
    }

    fn pending_cleanups(&self) -> usize {
        self.topology.nodes().iter().map(|node| node.pending_rollbacks()).sum()
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let nodes = self.topology.nodes();
        join_all(nodes.iter().map(|node| node.close())).await;
    }
}

impl Drop for RedisBackend {
    /// Workers own what they need; without this they would wait for work forever.
    fn drop(&mut self) {
        self.topology.nodes().iter().for_each(|node| node.stop_accepting());
    }
}
