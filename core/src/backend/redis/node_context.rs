//! What all parts of a node share.

use std::sync::Arc;

use crate::backend::redis::config::Settings;
use crate::backend::redis::connection::connect::Connector;
use crate::backend::redis::connection::route::Route;
use crate::backend::redis::connection::shared::{ExchangeError, SharedConnection};
use crate::backend::redis::protocol::replies::{Operation, ReplyContext};
use crate::error::Error;
use crate::runtime::clock::Clock;

/// One server and the ways to reach it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct NodeContext {
    pub settings: Arc<Settings>,
    pub clock: Clock,
    pub connector: Arc<Connector>,
    pub shared: Arc<SharedConnection>,
}

impl NodeContext {
    /// No I/O.
    pub fn new(settings: Arc<Settings>, route: Arc<Route>, clock: Clock) -> Self {
        let connector = Arc::new(Connector::new(settings.clone(), route));
        let shared = Arc::new(SharedConnection::new(settings.clone(), connector.clone()));
        Self { settings, clock, connector, shared }
    }

    pub fn reply_context(&self, operation: Operation, required: u32) -> ReplyContext<'_> {
        ReplyContext { address: &**self.connector.route(), operation, required }
    }

    /// The error of a query without a reply.
    pub fn query_failed(&self, error: ExchangeError) -> Error {
        match error {
            ExchangeError::Connect(error) => error,
            ExchangeError::Broken(broken) => self.reply_context(Operation::Query, 0).no_reply(&broken),
        }
    }
}
