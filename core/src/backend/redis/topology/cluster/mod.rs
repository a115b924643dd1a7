//! A Redis Cluster: several primaries, each of which has some of the 16,384 slots.
//!
//! [`map`] says which primary has which slot; [`discovery`] keeps it up to date, by a [`question`]
//! to several nodes; [`nodes`] holds a [`shard`]
//! for each primary; [`detour`] finds the way when a node does not serve a request; [`deletion`] ends leases,
//! and [`inspection`] reads them, even while their slot is moving; [`moved`] tells of leases whose slot has.

mod deletion;
mod detour;
mod discovery;
mod inspection;
mod map;
mod moved;
mod nodes;
mod question;
mod shard;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::detour::OnMigration;
use self::detour::{Detour, NextStop};
use self::discovery::Discovery;
use self::nodes::Nodes;
use crate::backend::contract::{FailoverListener, Info};
use crate::backend::redis::config::slot::slot_of;
use crate::backend::redis::config::{ClusterConfig, Settings};
use crate::backend::redis::node::{Node, NodeError, NodeResult};
use crate::backend::redis::protocol::replies::redirect::Elsewhere;
use crate::backend::waiter::Waiter;
use crate::error::{Error, Result};
use crate::lease::{Owner, Resources, Ttl};
use crate::runtime::clock::BootInstant;
use crate::runtime::clock::Clock;

pub(crate) struct Cluster {
    seeds: String,
    nodes: Arc<Nodes>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.seeds)
    }
}

impl Cluster {
    /// No I/O.
    pub fn new(config: ClusterConfig, settings: Arc<Settings>, clock: Clock) -> Self {
        let seeds = format!("{:?}", config.seeds);
        let discovery = Discovery::new(config, Arc::clone(&settings));
        Self { seeds, nodes: Arc::new(Nodes::new(discovery, settings, clock)) }
    }

    /// The node that has the slot of all of these resources.
    pub async fn owner_of(&self, resources: &Resources) -> Result<Arc<Node>> {
        self.nodes.find(common_slot(resources)?).await
    }

    /// Sends a request again that this node did not serve, until one does.
    pub async fn follow<T, F>(
        &self,
        resources: &Resources,
        mut node: Arc<Node>,
        mut elsewhere: Elsewhere,
        (on_migration, time): (OnMigration, Duration),
        call: impl Fn(Arc<Node>, bool) -> F,
    ) -> Result<T>
    where
        F: Future<Output = NodeResult<T>>,
    {
        let mut detour = Detour::new(on_migration, time);
        loop {
            let asking;
            (node, asking) = match self.nodes.redirected(resources, &node, elsewhere, &mut detour).await? {
                NextStop::Node(node) => (node, false),
                NextStop::Asking(node) => (node, true),
                NextStop::Moving => (node, false),
            };
            elsewhere = match call(Arc::clone(&node), asking).await {
                Ok(done) => return Ok(done),
                Err(NodeError::Failed(error)) => return Err(error),
                Err(NodeError::Elsewhere(elsewhere)) => *elsewhere,
            };
        }
    }

    /// Ends a lease; see [`LockBackend::release`](crate::backend::contract::LockBackend::release).
    pub async fn release(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        stands_until: Option<BootInstant>,
    ) -> Result<bool> {
        let error = match self.nodes.delete(resources, Some(owner), stands_until).await {
            Ok(deleted) => {
                if let Some(node) = self.nodes.owner(slot_of(resources.first())) {
                    node.was_released(resources, owner, ttl, stands_until);
                }
                return Ok(usize::try_from(deleted) == Ok(resources.as_slice().len()));
            }
            Err(error) => error,
        };
        // Any node finds the one that has it.
        let node = self.nodes.owner(slot_of(resources.first())).or_else(|| self.known().into_iter().next());
        if let Some(node) = node {
            node.release_later(resources, owner, ttl, stands_until);
        }
        Err(error)
    }

    /// Ends the lease of a resource, regardless of its owner.
    pub async fn force_release(&self, resources: &Resources) -> Result<bool> {
        self.nodes.delete(resources, None, None).await.map(|deleted| deleted > 0)
    }

    /// The holder of a resource.
    pub async fn inspect(&self, resources: &Resources) -> Result<Option<Info>> {
        self.nodes.inspect(resources).await
    }

    /// See [`LockBackend::on_failover`](crate::backend::contract::LockBackend::on_failover).
    pub fn on_failover(&self, listener: FailoverListener) {
        let _ = self.nodes.failovers.set(listener);
    }

    /// All nodes.
    pub async fn discovered(&self) -> Result<Vec<Arc<Node>>> {
        if self.nodes.discovery.map().is_none() {
            self.nodes.discovery.refreshed().await?;
        }
        Ok(self.known())
    }

    /// All nodes, by a map that was asked for now.
    pub async fn refreshed(&self) -> Result<Vec<Arc<Node>>> {
        self.nodes.discovery.refreshed().await?;
        Ok(self.known())
    }

    /// Whether any slot is this node's.
    pub fn has_slots(&self, node: &Arc<Node>) -> bool {
        self.nodes.has_slots(node)
    }

    /// All nodes that are known.
    pub fn known(&self) -> Vec<Arc<Node>> {
        self.nodes.shards().iter().map(|shard| Arc::clone(&shard.node)).collect()
    }

    /// The waiter waits at this node, which owns the slot of its resources now.
    pub async fn wait_at(&self, node: &Arc<Node>, resources: &Resources, waiter: &Waiter) -> Result<()> {
        if self.nodes.place_of(waiter).is_some_and(|place| Arc::ptr_eq(&place, node)) {
            return Ok(());
        }
        node.wait_queue().join(resources, waiter).await?;
        // Its entry has moved with the slot.
        if let Some(before) = self.nodes.waits_at(waiter, slot_of(resources.first()), node) {
            before.wait_queue().forget(waiter);
        }
        Ok(())
    }

    /// The waiter waits no more. Returns whether it did.
    pub fn stop_waiting(&self, waiter: &Waiter) -> bool {
        self.nodes.waits_no_more(waiter).is_some_and(|node| node.wait_queue().forget(waiter))
    }
}

/// The slot of all of these resources.
fn common_slot(resources: &Resources) -> Result<u16> {
    let first = slot_of(resources.first());
    let rest = resources.as_slice().iter().skip(1);
    match rest.map(|name| (name, slot_of(name))).find(|&(_, slot)| slot != first) {
        None => Ok(first),
        Some((name, slot)) => Err(Error::unsupported(format!(
            "the resources of one lock must be in one slot of the Redis Cluster: {:?} is in slot {first}, \
             {name:?} in slot {slot}; nothing was granted; give them one beginning in braces, \
             {{order:5}}:stock and {{order:5}}:bill",
            resources.first()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_of_several_slots_are_refused_with_their_slots() {
        let slot = |names: &[&str]| {
            common_slot(&Resources::many(names.iter().map(ToString::to_string).collect()).unwrap())
        };
        assert_eq!(slot(&["a"]), Ok(15_495));
        assert!(slot(&["{order:5}:stock", "{order:5}:bill"]).is_ok());
        let error = slot(&["a", "b"]).unwrap_err();
        assert_eq!(error.code(), "UNSUPPORTED");
        for part in [r#""a" is in slot 15495, "b" in slot 3300"#, "{order:5}:stock and {order:5}:bill"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
