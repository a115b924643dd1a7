//! One primary with its replicas, as the Sentinels that watch them see it.
//!
//! [`locator`] knows the primary and decides when to ask for it; [`round`] asks all Sentinels ([`registry`],
//! [`instance`]) at once; [`answers`] reads their replies, and [`election`] decides.

mod answers;
mod describe;
mod election;
mod instance;
mod locator;
mod registry;
mod round;

use std::fmt;
use std::sync::Arc;

use self::locator::Locator;
use crate::backend::guarantees::Guarantee;
use crate::backend::redis::config::{SentinelConfig, Settings};
use crate::backend::redis::connection::route::{Locate, Route};
use crate::backend::redis::node::Node;
use crate::runtime::clock::Clock;

pub(crate) struct Sentinels {
    locator: Arc<Locator>,
    /// Whatever server is the primary.
    primary: Arc<Node>,
}

impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {}", self.locator.name, self.locator.sentinels)
    }
}

impl Sentinels {
    /// No I/O.
    pub fn new(config: SentinelConfig, settings: Arc<Settings>, clock: Clock) -> Self {
        let locator = Locator::new(config, Arc::clone(&settings));
        let route = Arc::new(Route::new(Arc::clone(&locator) as Arc<dyn Locate>));
        locator.set_route(&route);
        Self { locator, primary: Arc::new(Node::new(settings, route, clock)) }
    }

    /// The primary, which owns every resource.
    pub fn owner(&self) -> Arc<Node> {
        self.locator.touch();
        Arc::clone(&self.primary)
    }

    pub fn node(&self) -> Arc<Node> {
        Arc::clone(&self.primary)
    }

    /// Adds what the Sentinels say to the guarantee of the primary.
    pub async fn describe(&self, guarantee: &mut Guarantee, acks: u32) {
        let survey = self.locator.survey().await;
        describe::describe(guarantee, &self.locator, &survey, acks);
    }

    /// Stops listening to the Sentinels.
    pub fn close(&self) {
        self.locator.sentinels.close();
    }
}
