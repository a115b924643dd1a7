//! What a manager says of itself. Reads counters, and looks at the leases that are held; no I/O.

use super::{Stats, Summary};
use crate::backend::connections::Server;
use crate::backend::contract::LockBackend;
use crate::lease::{PerStrategy, Strategy};
use crate::manager::Manager;

impl Manager {
    /// What this manager has done so far.
    pub fn stats(&self) -> Stats {
        let backends = self.backends.iter().filter_map(|(_, configured)| configured.as_ref());
        let cleanups = backends.map(|configured| configured.backend.pending_cleanups() as u64).sum();
        let held = self.held().iter().filter_map(|(_, held)| *held).sum();
        let counts = self.counters.read();
        let Stats { lost_expired, lost_taken, lost_failover, lost_file, .. } = counts;
        Stats { held, cleanups, lost: lost_expired + lost_taken + lost_failover + lost_file, ..counts }
    }

    /// How long calls waited that did.
    pub fn waits(&self) -> Summary {
        self.waits.summary()
    }

    /// How long leases were held that have ended.
    pub fn holds(&self) -> Summary {
        self.holds.summary()
    }

    /// The servers that there were connections to, with the number of those that are open.
    pub fn connections(&self) -> Vec<(Strategy, Server, usize)> {
        let backends = self.backends.iter().filter_map(|(strategy, it)| Some((strategy, it.as_ref()?)));
        let all = backends.flat_map(|(strategy, configured)| {
            let servers = configured.backend.connections().iter().flat_map(|connections| connections.open());
            servers.map(move |(server, open)| (strategy, server, open))
        });
        all.collect()
    }

    /// How many leases of each strategy are held right now; `None` without a backend for it.
    pub fn held(&self) -> PerStrategy<Option<u64>> {
        let mut counts = PerStrategy::from_fn(|strategy| self.backends.get(strategy).is_some().then_some(0));
        let now = self.clock.boot();
        for lease in self.leases.lock().held.values().filter(|lease| !lease.remaining(now).is_zero()) {
            if let Some(count) = counts.get_mut(lease.strategy) {
                *count += 1;
            }
        }
        counts
    }
}
