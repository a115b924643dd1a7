//! Which server owns a resource now?
//!
//! One variant for each kind of deployment; the rest of the backend works with the nodes it gets from here.
//! Sentinel and Cluster would each be a folder here, and a variant.

mod standalone;

use std::fmt;
use std::sync::Arc;

use self::standalone::Standalone;
use super::config::{Config, Deployment};
use super::node::Node;
use crate::error::Result;
use crate::lease::Resources;
use crate::runtime::clock::Clock;

/// A closed enum rather than a trait object, so that the lookup before every request allocates nothing.
pub(crate) enum Topology {
    Standalone(Standalone),
}

impl Topology {
    /// The topology for this configuration. No I/O.
    pub fn new(config: Config, clock: Clock) -> Self {
        let Config { deployment, settings } = config;
        match deployment {
            Deployment::Standalone(address) => Self::Standalone(Standalone::new(address, settings, clock)),
            Deployment::Sentinel(_) => unimplemented!("not yet"),
            Deployment::Cluster(_) => unimplemented!("not yet"),
        }
    }

    /// The node that owns all of these resources. A lease is written atomically, so it has one owner;
    /// resources of different nodes are an error. Asynchronous, because an owner may have to be looked up.
    #[expect(clippy::unused_async, reason = "only a standalone primary is known without asking")]
    pub async fn owner_of(&self, _resources: &Resources) -> Result<Arc<Node>> {
        match self {
            Self::Standalone(standalone) => Ok(standalone.owner()),
        }
    }

    /// All nodes that are known now; at least one.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        match self {
            Self::Standalone(standalone) => vec![standalone.owner()],
        }
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standalone(standalone) => f.debug_tuple("Standalone").field(standalone).finish(),
        }
    }
}
