//! One primary with its replicas, at a fixed address.

use std::fmt;
use std::sync::Arc;

use crate::backend::redis::config::Settings;
use crate::backend::redis::config::address::Address;
use crate::backend::redis::config::endpoint::{Endpoint, ServerKind};
use crate::backend::redis::connection::route::{FixedAddress, Route};
use crate::backend::redis::node::Node;
use crate::runtime::clock::Clock;

pub(crate) struct Standalone {
    endpoint: Arc<Endpoint>,
    primary: Arc<Node>,
}

impl fmt::Debug for Standalone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

impl Standalone {
    pub fn new(address: Address, settings: Arc<Settings>, clock: Clock) -> Self {
        let kind = ServerKind::Primary;
        let endpoint = Arc::new(Endpoint { address, kind, settings: Arc::clone(&settings) });
        let route = Arc::new(Route::new(Arc::new(FixedAddress(Arc::clone(&endpoint)))));
        Self { endpoint, primary: Arc::new(Node::new(settings, route, clock)) }
    }

    /// The primary, which owns every resource.
    pub fn owner(&self) -> Arc<Node> {
        Arc::clone(&self.primary)
    }
}
