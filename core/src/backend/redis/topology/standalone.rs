//! One primary with its replicas, at a fixed address.

use std::sync::Arc;

use crate::backend::redis::config::Config;
use crate::backend::redis::node::Node;
use crate::runtime::clock::Clock;

pub(crate) struct Standalone {
    primary: Arc<Node>,
}

impl Standalone {
    pub fn new(config: Config, clock: Clock) -> Self {
        Self { primary: Arc::new(Node::new(config, clock)) }
    }

    /// The primary, which owns every resource.
    pub fn owner(&self) -> Arc<Node> {
        Arc::clone(&self.primary)
    }
}
