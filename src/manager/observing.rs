//! What a manager says of itself and of its leases, at once and without I/O.

use napi_derive::napi;

use crate::convert::event::ServerPlace;
use crate::convert::stats::StatsReport;
use crate::convert::wanted::strategy;
use crate::manager::NativeManager;

#[napi]
impl NativeManager {
    /// The counters so far, and what there is right now.
    #[napi(catch_unwind)]
    pub fn stats(&self) -> StatsReport {
        StatsReport::of(&self.manager)
    }

    /// How long a lease has been held, in milliseconds; -1 if it has ended.
    #[napi(catch_unwind)]
    pub fn held_ms(&self, lease: f64) -> f64 {
        self.manager.held_for(lease as u64).map_or(-1.0, |held| held.as_secs_f64() * 1_000.0)
    }

    /// The server that has all leases of a strategy, as it was reached last; nothing if several share them,
    /// or none was reached yet.
    #[napi(catch_unwind)]
    pub fn server(&self, number: u32) -> Option<ServerPlace> {
        self.manager.server(strategy(number).ok()?).map(ServerPlace::from)
    }

    /// Changes when `server` does; 0 as long as there is none.
    #[napi(catch_unwind)]
    pub fn server_epoch(&self, number: u32) -> u32 {
        strategy(number).map_or(0, |strategy| self.manager.server_epoch(strategy))
    }
}
