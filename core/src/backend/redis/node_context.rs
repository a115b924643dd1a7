//! What all parts of a node share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::backend::redis::config::Settings;
use crate::backend::redis::connection::connect::Connector;
use crate::backend::redis::connection::route::Route;
use crate::backend::redis::connection::server_clocks::ServerClocks;
use crate::backend::redis::connection::shared::{ExchangeError, SharedConnection};
use crate::backend::redis::protocol::lease_args::Grouping;
use crate::backend::redis::protocol::operation::Operation;
use crate::backend::redis::protocol::replies::ReplyContext;
use crate::backend::redis::protocol::replies::proof::Proof;
use crate::error::Error;
use crate::runtime::clock::Clock;

/// A cluster has many nodes: a connection for WAIT or for lone requests that is not used for this long is
/// closed.
pub(crate) const KEEP_IDLE: Duration = Duration::from_secs(60);

/// One server and the ways to reach it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct NodeContext {
    pub settings: Arc<Settings>,
    pub clock: Clock,
    pub connector: Arc<Connector>,
    pub shared: Arc<SharedConnection>,
    pub clocks: Arc<ServerClocks>,
    /// Whether it is a node of a cluster, and not all of it.
    pub of_cluster: bool,
    /// Whether only requests of one slot may share a call: of a cluster's node, or of a server that said so.
    pub by_slot: Arc<AtomicBool>,
}

impl NodeContext {
    /// No I/O.
    pub fn new(settings: Arc<Settings>, route: Arc<Route>, clock: Clock, of_cluster: bool) -> Self {
        let connector = Arc::new(Connector::new(settings.clone(), route));
        let shared = Arc::new(SharedConnection::new(settings.clone(), connector.clone()));
        let by_slot = Arc::new(AtomicBool::new(of_cluster));
        Self { settings, clock, connector, shared, clocks: Arc::default(), of_cluster, by_slot }
    }

    /// Which requests may share a call.
    pub fn grouping(&self) -> Grouping {
        if self.by_slot.load(Ordering::Relaxed) { Grouping::BySlot } else { Grouping::All }
    }

    pub fn reply_context(&self, operation: Operation) -> ReplyContext<'_> {
        let Self { settings, connector, of_cluster, .. } = self;
        ReplyContext {
            address: &**connector.route(),
            operation,
            proof: Proof::NONE,
            declared: settings.replicas,
            of_cluster: *of_cluster,
            prefix: settings.keys.prefix(),
        }
    }

    /// The error of a query without a reply.
    pub fn query_failed(&self, error: ExchangeError) -> Error {
        match error {
            ExchangeError::Connect(error) => error,
            // It was reached, so it may be about to be replaced: another attempt may meet its successor.
            ExchangeError::Broken(broken) => {
                self.reply_context(Operation::Query).no_reply(&broken).of_failover()
            }
        }
    }
}

#[cfg(test)]
impl NodeContext {
    /// Of the one server at this URL, for tests.
    pub fn of_server(url: &str) -> Self {
        use crate::backend::redis::config::endpoint::{Endpoint, ServerKind};
        use crate::backend::redis::config::{Config, Deployment, Location, Options};
        use crate::backend::redis::connection::route::FixedAddress;

        let Config { deployment, settings } =
            Config::new(Options::new(Location::Url(url.to_owned()))).unwrap();
        let Deployment::Standalone(address) = deployment else { panic!("a URL is of one server") };
        let endpoint = Endpoint { address, kind: ServerKind::Primary, settings: Arc::clone(&settings) };
        let route = Route::new(Arc::new(FixedAddress(Arc::new(endpoint))));
        Self::new(settings, Arc::new(route), Clock::System, false)
    }
}
