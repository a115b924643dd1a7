//! Deletions that a failover may undo. Replication is asynchronous, and after a planned failover the old
//! primary accepts writes for a second before clients know of the new one: what was deleted there lives on
//! at the new primary, and would keep others waiting for as long as its TTL. So the last deletions are made
//! again when another server has taken over.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::rollback::Rollbacks;
use crate::backend::redis::pipeline::batch::Late;
use crate::lease::{Owner, Resources, Ttl};
use crate::runtime::clock::{BootInstant, Clock};
use crate::runtime::sync::Mutex;

/// The most deletions of each kind that are remembered: together as many as can be undone at one time.
const MOST_RELEASES: usize = 8_000;
const MOST_ROLLBACKS: usize = 2_000;
/// How long before the last release another one is remembered. Not how long ago: a primary that died is
/// replaced after half a minute, and the releases of its last moments are those that are lost.
const RELEASES: Duration = Duration::from_secs(1);

pub(super) struct RecentDeletions {
    clock: Clock,
    rollbacks: Arc<Rollbacks>,
    changes: watch::Receiver<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    released: VecDeque<Deletion>,
    /// Grants that were not proved. The replica that has taken over may be the one that had them, so they
    /// are remembered for their TTL.
    rolled_back: VecDeque<Deletion>,
    is_watching: bool,
}

struct Deletion {
    resources: Resources,
    owner: Owner,
    ttl: Ttl,
    /// Until when the rest of its minimum is to be left.
    stands_until: Option<BootInstant>,
    at: BootInstant,
}

impl RecentDeletions {
    pub fn new(clock: Clock, rollbacks: Arc<Rollbacks>, changes: watch::Receiver<u64>) -> Self {
        Self { clock, rollbacks, changes, state: Mutex::default() }
    }

    /// A lease was released.
    pub fn released(
        self: &Arc<Self>,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        stands_until: Option<BootInstant>,
    ) {
        let mut state = self.state.lock();
        self.watch(&mut state);
        let (resources, at) = (resources.clone(), self.clock.boot());
        state.released(Deletion { resources, owner, ttl, stands_until, at });
    }

    /// A grant without proof was undone, or is being undone.
    pub fn rolled_back(self: &Arc<Self>, resources: &Resources, owner: Owner, ttl: Ttl) {
        let mut state = self.state.lock();
        self.watch(&mut state);
        let (resources, at) = (resources.clone(), self.clock.boot());
        state.rolled_back(Deletion { resources, owner, ttl, stands_until: None, at });
    }

    /// Starts the task that notices when another server takes over. It ends with the node.
    fn watch(self: &Arc<Self>, state: &mut State) {
        if !std::mem::replace(&mut state.is_watching, true) {
            let mut changes = self.changes.clone();
            changes.mark_unchanged();
            tokio::spawn(repeat_after_changes(Arc::downgrade(self), changes));
        }
    }

    /// Has all of them made again in the background.
    fn repeat(&self) {
        let deletions = self.state.lock().take(self.clock.boot());
        for Deletion { resources, owner, ttl, stands_until, .. } in deletions {
            self.rollbacks.add(&resources, owner, ttl, stands_until, Late::Impossible);
        }
    }
}

impl State {
    fn released(&mut self, deletion: Deletion) {
        let too_old = |first: &Deletion| first.at + RELEASES < deletion.at;
        while self.released.front().is_some_and(too_old) || self.released.len() == MOST_RELEASES {
            self.released.pop_front();
        }
        self.released.push_back(deletion);
    }

    fn rolled_back(&mut self, deletion: Deletion) {
        let is_over = |first: &Deletion| first.end() <= deletion.at;
        while self.rolled_back.front().is_some_and(is_over) || self.rolled_back.len() == MOST_ROLLBACKS {
            self.rolled_back.pop_front();
        }
        self.rolled_back.push_back(deletion);
    }

    /// Those whose lease is not over by itself.
    fn take(&mut self, now: BootInstant) -> Vec<Deletion> {
        let (released, rolled_back) =
            (std::mem::take(&mut self.released), std::mem::take(&mut self.rolled_back));
        released.into_iter().chain(rolled_back).filter(|deletion| deletion.end() > now).collect()
    }
}

impl Deletion {
    /// When its lease is over at the latest.
    fn end(&self) -> BootInstant {
        self.at + self.ttl.as_duration()
    }
}

async fn repeat_after_changes(deletions: Weak<RecentDeletions>, mut changes: watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        let Some(deletions) = deletions.upgrade() else { return };
        deletions.repeat();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> BootInstant {
        BootInstant::from_micros(ms * 1_000)
    }

    fn deletion(name: &str, ttl_ms: u32, ms: u64) -> Deletion {
        let (resources, ttl) = (Resources::one(name).unwrap(), Ttl::from_millis(ttl_ms).unwrap());
        Deletion { resources, owner: Owner::random(), ttl, stands_until: None, at: at(ms) }
    }

    fn taken(state: &mut State, ms: u64) -> Vec<String> {
        state.take(at(ms)).iter().map(|deletion| deletion.resources.first().to_owned()).collect()
    }

    #[test]
    fn the_releases_of_the_last_second_of_a_primary_are_repeated_however_long_its_failover_takes() {
        let mut state = State::default();
        for (name, ttl, ms) in [("old", 60_000, 0), ("over", 10_000, 900), ("last", 60_000, 1_800)] {
            state.released(deletion(name, ttl, ms));
        }
        assert_eq!(taken(&mut state, 30_000), ["last"]);
        for (name, ttl, ms) in [("old", 60_000, 0), ("before", 60_000, 900), ("last", 60_000, 1_800)] {
            state.released(deletion(name, ttl, ms));
        }
        assert_eq!(taken(&mut state, 30_000), ["before", "last"]);
        assert!(taken(&mut state, 30_000).is_empty(), "once");
    }

    #[test]
    fn rollbacks_are_repeated_as_long_as_their_lease_would_last() {
        let mut state = State::default();
        for (name, ttl, ms) in [("over", 5_000, 0), ("long", 60_000, 0), ("late", 10_000, 10_000)] {
            state.rolled_back(deletion(name, ttl, ms));
        }
        assert_eq!(taken(&mut state, 15_000), ["long", "late"]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut state = State::default();
        for _ in 0..20_000 {
            state.released(deletion("a", 60_000, 0));
            state.rolled_back(deletion("b", 60_000, 0));
        }
        assert_eq!(taken(&mut state, 0).len(), MOST_RELEASES + MOST_ROLLBACKS);
    }
}
