//! The counters of a manager, as JavaScript receives them.

use napi_derive::napi;

use fencelock_core::manager::{self, Manager, Summary};

macro_rules! mirror {
    (
        gauges { $($(#[$gauge_doc:meta])* $gauge:ident,)+ }
        counters { $($(#[$counter_doc:meta])* $counter:ident,)+ }
    ) => {
        /// What a manager has done since it was created; `ManagerStats` in index.d.ts describes the fields.
        #[napi(object, object_from_js = false)]
        pub struct Stats {
            $(pub $gauge: f64,)+
            $(pub $counter: f64,)+
        }

        impl From<manager::Stats> for Stats {
            fn from(stats: manager::Stats) -> Self {
                Self { $($gauge: stats.$gauge as f64,)+ $($counter: stats.$counter as f64,)+ }
            }
        }
    };
}

fencelock_core::with_counters!(mirror);

/// How long something took, in milliseconds.
#[napi(object, object_from_js = false)]
pub struct Percentiles {
    pub count: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl From<Summary> for Percentiles {
    fn from(Summary { count, p50, p90, p99, max }: Summary) -> Self {
        let [p50, p90, p99, max] = [p50, p90, p99, max].map(|it| it.as_secs_f64() * 1_000.0);
        Self { count: count as f64, p50, p90, p99, max }
    }
}

/// A server that there was a connection to.
#[napi(object, object_from_js = false)]
pub struct ServerConnections {
    /// The number of the strategy.
    pub strategy: u32,
    pub server_address: String,
    pub server_port: Option<u32>,
    pub open: u32,
}

/// All that `stats()` shows.
#[napi(object, object_from_js = false)]
pub struct StatsReport {
    pub counts: Stats,
    /// Leases held right now, by the number of the strategy.
    pub held_by_strategy: Vec<f64>,
    /// Whether each strategy has a backend.
    pub configured: Vec<bool>,
    pub wait_ms: Percentiles,
    pub hold_ms: Percentiles,
    pub connections: Vec<ServerConnections>,
}

impl StatsReport {
    pub(crate) fn of(manager: &Manager) -> Self {
        let connections =
            manager.connections().into_iter().map(|(strategy, server, open)| ServerConnections {
                strategy: strategy.index() as u32,
                server_address: server.address,
                server_port: server.port.map(u32::from),
                open: open as u32,
            });
        let held = manager.held();
        Self {
            counts: manager.stats().into(),
            held_by_strategy: held.iter().map(|(_, held)| held.unwrap_or(0) as f64).collect(),
            configured: held.iter().map(|(_, held)| held.is_some()).collect(),
            wait_ms: manager.waits().into(),
            hold_ms: manager.holds().into(),
            connections: connections.collect(),
        }
    }
}
