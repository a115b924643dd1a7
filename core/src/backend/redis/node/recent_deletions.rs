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

/// The most deletions of each kind that are remembered.
const MOST: usize = 10_000;
/// How long the release of a lease is remembered, at most for its TTL.
const RELEASES: Duration = Duration::from_secs(2);

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
    /// It is remembered until then.
    until: BootInstant,
}

impl RecentDeletions {
    pub fn new(clock: Clock, rollbacks: Arc<Rollbacks>, changes: watch::Receiver<u64>) -> Self {
        Self { clock, rollbacks, changes, state: Mutex::default() }
    }

    /// A lease was released.
    pub fn released(self: &Arc<Self>, resources: &Resources, owner: Owner, ttl: Ttl) {
        let lasts = ttl.as_duration().min(RELEASES);
        let mut state = self.state.lock();
        self.watch(&mut state);
        self.remember(&mut state.released, (resources, owner, ttl), lasts);
    }

    /// A grant without proof was undone.
    pub fn rolled_back(self: &Arc<Self>, resources: &Resources, owner: Owner, ttl: Ttl) {
        let mut state = self.state.lock();
        self.watch(&mut state);
        self.remember(&mut state.rolled_back, (resources, owner, ttl), ttl.as_duration());
    }

    fn remember(
        &self,
        deletions: &mut VecDeque<Deletion>,
        (resources, owner, ttl): (&Resources, Owner, Ttl),
        lasts: Duration,
    ) {
        let now = self.clock.boot();
        while deletions.front().is_some_and(|first| first.until <= now || deletions.len() == MOST) {
            deletions.pop_front();
        }
        deletions.push_back(Deletion { resources: resources.clone(), owner, ttl, until: now + lasts });
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
        let (released, rolled_back) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.released), std::mem::take(&mut state.rolled_back))
        };
        let now = self.clock.boot();
        for deletion in released.into_iter().chain(rolled_back).filter(|deletion| deletion.until > now) {
            let Deletion { resources, owner, ttl, .. } = deletion;
            self.rollbacks.add(&resources, owner, ttl, Late::Impossible);
        }
    }
}

async fn repeat_after_changes(deletions: Weak<RecentDeletions>, mut changes: watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        let Some(deletions) = deletions.upgrade() else { return };
        deletions.repeat();
    }
}
