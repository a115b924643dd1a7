//! What all parts of a node share.

use std::sync::Arc;

use crate::backend::redis::config::Config;
use crate::backend::redis::connection::connect::Connector;
use crate::backend::redis::connection::shared::{ExchangeError, SharedConnection};
use crate::backend::redis::protocol::replies::{Operation, ReplyContext};
use crate::error::Error;
use crate::runtime::clock::Clock;

/// One server and the ways to reach it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct NodeContext {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub connector: Arc<Connector>,
    pub shared: Arc<SharedConnection>,
}

impl NodeContext {
    /// No I/O.
    pub fn new(config: Config, clock: Clock) -> Self {
        let config = Arc::new(config);
        let connector = Arc::new(Connector::new());
        let shared = Arc::new(SharedConnection::new(config.clone(), connector.clone()));
        Self { config, clock, connector, shared }
    }

    pub fn reply_context(&self, operation: Operation, required: u32) -> ReplyContext<'_> {
        ReplyContext { address: &self.config.address, operation, required }
    }

    /// The error of a query without a reply.
    pub fn query_failed(&self, error: ExchangeError) -> Error {
        match error {
            ExchangeError::Connect(error) => error,
            ExchangeError::Broken(broken) => self.reply_context(Operation::Query, 0).no_reply(&broken),
        }
    }
}
