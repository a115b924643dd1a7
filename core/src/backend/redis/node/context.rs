//! What all parts of a node share.

use std::sync::Arc;

use crate::backend::redis::config::Config;
use crate::backend::redis::connection::connect::Dialer;
use crate::backend::redis::connection::shared::Control;
use crate::runtime::clock::Clock;

/// The way to one server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub dialer: Arc<Dialer>,
    pub control: Arc<Control>,
}

impl Link {
    /// No I/O.
    pub fn new(config: Config, clock: Clock) -> Self {
        let config = Arc::new(config);
        let dialer = Arc::new(Dialer::new());
        let control = Arc::new(Control::new(config.clone(), dialer.clone()));
        Self { config, clock, dialer, control }
    }
}
