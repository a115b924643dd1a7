//! When the server of leases failed over or was restarted: renews them at once, and finds those that are
//! lost, so that their holders need not wait for the deadline.

pub(super) mod record;

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;

use super::Manager;
use super::held_lease::HeldLease;
use super::observer::LossCause;
use crate::backend::Backend;
use crate::backend::contract::{LockBackend, Outage, Presence};
use crate::lease::Strategy;
use crate::runtime::backoff::Backoff;

/// Why a lease is lost.
const NOT_THERE: &str = "the server failed over, was restarted, or gave its slot to another node, and the one \
                         that answers now does not have it";
/// The most leases in one look-up.
const BATCH: usize = 256;
/// Between tries to reach the server, and to get an answer from it.
const RETRY: Backoff = Backoff::jittered(Duration::from_millis(20), Duration::from_millis(500));
/// How long grants that were in flight during an outage are collected.
const COLLECT: Duration = Duration::from_millis(10);

impl Manager {
    pub(super) fn follow_failovers(self: &Arc<Self>, strategy: Strategy, backend: &Backend) {
        let manager = Arc::downgrade(self);
        backend.on_failover(Arc::new(move |outage| {
            if let Some(manager) = manager.upgrade() {
                manager.handle_outage(strategy, outage);
            }
        }));
    }

    /// Finds out whether there was a failover, for as long as there are leases that it concerns.
    pub(super) fn handle_outage(self: &Arc<Self>, strategy: Strategy, outage: Arc<dyn Outage>) {
        let Ok(configured) = self.configured(strategy) else { return };
        configured.failovers.note(self.clock.boot());
        if let Ok(executor) = configured.backend.executor() {
            executor.spawn(await_successor(Arc::downgrade(self), strategy, outage));
        }
    }

    /// Those leases of a strategy that still count.
    fn counting(&self, strategy: Strategy) -> Vec<Arc<HeldLease>> {
        let now = self.clock.boot();
        let leases = self.leases.lock();
        let all = leases.held.values().filter(|held| held.strategy == strategy);
        all.filter(|held| !held.remaining(now).is_zero()).cloned().collect()
    }

    /// Looks up a lease whose grant came while its server may have been replaced.
    pub(super) fn look_up_soon(self: &Arc<Self>, held: &Arc<HeldLease>) {
        let Ok(configured) = self.configured(held.strategy) else { return };
        let first = {
            let mut late = configured.failovers.late.lock();
            late.push(Arc::clone(held));
            late.len() == 1
        };
        if first && let Ok(executor) = configured.backend.executor() {
            executor.spawn(look_up_late(Arc::downgrade(self), held.strategy));
        }
    }

    /// Looks up some leases, and returns those that it knows nothing about yet.
    async fn look_up(&self, strategy: Strategy, leases: &[Arc<HeldLease>]) -> Vec<Arc<HeldLease>> {
        let now = self.clock.boot();
        let counting = leases.iter().filter(|held| !held.remaining(now).is_zero());
        let leases: Vec<_> = counting.cloned().collect();
        let Ok(configured) = self.configured(strategy) else { return Vec::new() };
        let asked: Vec<_> = leases.iter().map(|held| (held.resources.clone(), held.owner)).collect();
        let answers = configured.backend.find_missing(&asked).await;
        self.note_presence(leases, answers)
    }

    /// Ends those that are missing, and returns those that nothing is known about. One that was released
    /// meanwhile stays released.
    pub(super) fn note_presence(
        &self,
        leases: Vec<Arc<HeldLease>>,
        answers: Vec<Presence>,
    ) -> Vec<Arc<HeldLease>> {
        let mut unknown = Vec::new();
        for (held, presence) in leases.into_iter().zip(answers) {
            match presence {
                Presence::Held => {}
                Presence::Missing => self.mark_lost(&held, LossCause::Failover, NOT_THERE),
                Presence::Unknown => unknown.push(held),
            }
        }
        unknown
    }
}

/// Waits for a server that answers, and handles its leases if it is another one.
async fn await_successor(manager: Weak<Manager>, strategy: Strategy, outage: Arc<dyn Outage>) {
    let concerned = |manager: &Manager| {
        let mut leases = manager.counting(strategy);
        leases.retain(|held| outage.concerns(&held.resources));
        leases
    };
    let mut retry = RETRY;
    loop {
        if manager.upgrade().is_none_or(|manager| concerned(&manager).is_empty()) {
            return;
        }
        match outage.is_failover().await {
            Ok(true) => break,
            Ok(false) => return,
            Err(_) => sleep(retry.next_pause()).await,
        }
    }
    let Some(holder) = manager.upgrade() else { return };
    if let Ok(configured) = holder.configured(strategy) {
        // Before the leases are collected: a grant that is registered later is looked up for itself.
        configured.failovers.note(holder.clock.boot());
        configured.announcement.forgotten();
    }
    let leases = concerned(&holder);
    drop(outage);
    let (renewed, mut leases): (Vec<_>, Vec<_>) =
        leases.into_iter().partition(|held| held.renewal().is_some());
    let deadlines: Vec<_> = renewed.iter().map(|held| held.deadline()).collect();
    holder.renew_now(renewed.clone());
    drop(holder);
    leases = look_up_once(&manager, strategy, leases).await;
    // Most are renewed by now. Others, which wait for a sign of life of their holder or for replicas, may be
    // lost as well.
    let not_renewed = renewed.into_iter().zip(deadlines).filter(|(held, before)| held.deadline() == *before);
    leases.extend(not_renewed.map(|(held, _)| held));
    look_up_all(manager, strategy, leases).await;
}

/// Looks up the leases of grants that were in flight during an outage.
async fn look_up_late(manager: Weak<Manager>, strategy: Strategy) {
    // Several come together.
    sleep(COLLECT).await;
    let Some(holder) = manager.upgrade() else { return };
    let Ok(configured) = holder.configured(strategy) else { return };
    let late = std::mem::take(&mut *configured.failovers.late.lock());
    drop(holder);
    look_up_all(manager, strategy, late).await;
}

/// Looks up leases until the server has answered for each, or none of them counts any more.
async fn look_up_all(manager: Weak<Manager>, strategy: Strategy, mut leases: Vec<Arc<HeldLease>>) {
    let mut retry = RETRY;
    loop {
        leases = look_up_once(&manager, strategy, leases).await;
        if leases.is_empty() {
            return;
        }
        sleep(retry.next_pause()).await;
    }
}

/// Looks up leases, and returns those that nothing is known about.
async fn look_up_once(
    manager: &Weak<Manager>,
    strategy: Strategy,
    leases: Vec<Arc<HeldLease>>,
) -> Vec<Arc<HeldLease>> {
    let mut unknown = Vec::new();
    let mut batches = leases.chunks(BATCH);
    while let Some(batch) = batches.next() {
        let Some(manager) = manager.upgrade() else { return Vec::new() };
        let before = unknown.len();
        unknown.extend(manager.look_up(strategy, batch).await);
        if unknown.len() - before == batch.len() {
            // Most likely no server answers: the others would not get an answer, either.
            unknown.extend(batches.by_ref().flatten().cloned());
        }
    }
    unknown
}
