//! Which server owns a resource now?
//!
//! One variant for each kind of deployment; the rest of the backend works with the nodes it gets from here.

pub(crate) mod cluster;
mod sentinel;
mod standalone;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::cluster::{Cluster, OnMigration};
use self::sentinel::Sentinels;
use self::standalone::Standalone;
use super::config::{Config, Deployment};
use super::describe::merge::merge_shards;
use super::node::{Node, NodeError, NodeResult};
use crate::backend::contract::{FailoverListener, Info};
use crate::backend::guarantees::Guarantee;
use crate::error::Result;
use crate::lease::Resources;
use crate::runtime::clock::Clock;

/// A closed enum rather than a trait object, so that the lookup before every request allocates nothing.
pub(crate) enum Topology {
    Standalone(Standalone),
    Cluster(Cluster),
    Sentinel(Sentinels),
}

impl Topology {
    /// The topology for this configuration. No I/O.
    pub fn new(config: Config, clock: Clock) -> Self {
        let Config { deployment, settings } = config;
        match deployment {
            Deployment::Standalone(address) => Self::Standalone(Standalone::new(address, settings, clock)),
            Deployment::Cluster(config) => Self::Cluster(Cluster::new(config, settings, clock)),
            Deployment::Sentinel(config) => Self::Sentinel(Sentinels::new(config, settings, clock)),
        }
    }

    /// The node that owns all of these resources. A lease is written atomically, so it has one owner;
    /// resources of different nodes are an error. Asynchronous, because an owner may have to be looked up.
    pub async fn owner_of(&self, resources: &Resources) -> Result<Arc<Node>> {
        match self {
            Self::Standalone(standalone) => Ok(standalone.owner()),
            Self::Cluster(cluster) => cluster.owner_of(resources).await,
            Self::Sentinel(sentinels) => Ok(sentinels.owner()),
        }
    }

    /// The node that owns all resources, if there is only one.
    pub fn only_node(&self) -> Option<Arc<Node>> {
        match self {
            Self::Standalone(standalone) => Some(standalone.owner()),
            Self::Sentinel(sentinels) => Some(sentinels.owner()),
            Self::Cluster(_) => None,
        }
    }

    /// The holder of a resource.
    pub async fn inspect(&self, resources: &Resources) -> Result<Option<Info>> {
        if let Self::Cluster(cluster) = self {
            return Box::pin(cluster.inspect(resources)).await;
        }
        let node = self.owner_of(resources).await?;
        node.inspect(resources).await.map_err(NodeError::into_error)
    }

    /// Makes a request of the node that owns these resources, or of another one if that turns out to have
    /// them. While their slot is moving between nodes, `call` is told whether it asks the new one.
    pub async fn on_owner<T, F>(
        &self,
        resources: &Resources,
        patience: (OnMigration, Duration),
        call: impl Fn(Arc<Node>, bool) -> F,
    ) -> Result<T>
    where
        F: Future<Output = NodeResult<T>>,
    {
        let node = self.owner_of(resources).await?;
        match (call(Arc::clone(&node), false).await, self) {
            (Ok(done), _) => Ok(done),
            (Err(NodeError::Elsewhere(elsewhere)), Self::Cluster(cluster)) => {
                Box::pin(cluster.follow(resources, node, *elsewhere, patience, call)).await
            }
            (Err(error), _) => Err(error.into_error()),
        }
    }

    /// Sets the listener for failovers of all nodes, those to come included. Called before anything else.
    pub fn on_failover(&self, listener: FailoverListener) {
        match self {
            Self::Standalone(standalone) => standalone.owner().on_failover(listener),
            Self::Sentinel(sentinels) => sentinels.node().on_failover(listener),
            Self::Cluster(cluster) => cluster.on_failover(listener),
        }
    }

    /// All nodes, as soon as they are known; at least one.
    pub async fn discovered(&self) -> Result<Vec<Arc<Node>>> {
        match self {
            Self::Standalone(standalone) => Ok(vec![standalone.owner()]),
            Self::Sentinel(sentinels) => Ok(vec![sentinels.owner()]),
            Self::Cluster(cluster) => cluster.discovered().await,
        }
    }

    /// All nodes, as the deployment says now.
    pub async fn refreshed(&self) -> Result<Vec<Arc<Node>>> {
        match self {
            Self::Standalone(_) | Self::Sentinel(_) => self.discovered().await,
            Self::Cluster(cluster) => cluster.refreshed().await,
        }
    }

    /// Whether any resource can be this node's.
    pub fn has_resources(&self, node: &Arc<Node>) -> bool {
        match self {
            Self::Standalone(_) | Self::Sentinel(_) => true,
            Self::Cluster(cluster) => cluster.has_slots(node),
        }
    }

    /// All nodes that are known now.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        match self {
            Self::Standalone(standalone) => vec![standalone.owner()],
            Self::Cluster(cluster) => cluster.known(),
            Self::Sentinel(sentinels) => vec![sentinels.node()],
        }
    }

    /// The guarantee of the deployment as a whole, by those of its nodes.
    pub async fn describe(
        &self,
        nodes: &[Arc<Node>],
        mut guarantees: Vec<Result<Guarantee>>,
        acks: u32,
    ) -> Result<Guarantee> {
        match self {
            Self::Standalone(_) => guarantees.swap_remove(0),
            Self::Sentinel(sentinels) => {
                let mut guarantee = guarantees.swap_remove(0)?;
                sentinels.describe(&mut guarantee, acks).await;
                Ok(guarantee)
            }
            Self::Cluster(_) => {
                let addresses = nodes.iter().map(|node| node.route().to_string());
                merge_shards(addresses.zip(guarantees).collect())
            }
        }
    }

    /// Closes what does not belong to a node.
    pub fn close(&self) {
        match self {
            Self::Standalone(_) | Self::Cluster(_) => {}
            Self::Sentinel(sentinels) => sentinels.close(),
        }
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standalone(standalone) => f.debug_tuple("Standalone").field(standalone).finish(),
            Self::Cluster(cluster) => f.debug_tuple("Cluster").field(cluster).finish(),
            Self::Sentinel(sentinels) => f.debug_tuple("Sentinel").field(sentinels).finish(),
        }
    }
}
