//! Keeps leases alive from a native thread, so that a blocked event loop loses none. [`policy`] decides; this
//! does it.

pub mod policy;

use std::sync::{Arc, Weak};
use std::time::Duration;

use self::policy::{Decision, Run, burst_delay, next_tick};
use super::Manager;
use super::held_lease::{HeldLease, LeaseId};
use crate::backend::contract::LockBackend;
use crate::runtime::clock::BootInstant;
use crate::runtime::deadline_queue::{DeadlineQueue, Timed};

/// The renewals of all leases of the process.
static RENEWALS: DeadlineQueue<RenewalTask> = DeadlineQueue::new();

/// A lease that is renewed, and the run of its renewals. It keeps neither lease nor manager alive.
struct RenewalTask(Weak<Manager>, Weak<HeldLease>, Run);

impl Timed for RenewalTask {
    fn until(&self, at: BootInstant) -> Option<Duration> {
        (self.1.strong_count() > 0).then_some(())?;
        Some(self.0.upgrade()?.clock.boot().until(at))
    }

    fn fire(&self) -> Option<BootInstant> {
        self.0.upgrade()?.renew_if_due(&self.1.upgrade()?, self.2)
    }

    fn is_gone(&self) -> bool {
        self.1.strong_count() == 0
    }
}

impl Manager {
    /// Renews a new lease from now on, if its holder asked for it.
    pub(super) fn keep_alive(self: &Arc<Self>, held: &Arc<HeldLease>) {
        self.renew_at(held, held.due(), Run::FIRST);
    }

    /// Renews these leases now, whether it is due or not: those first that would end first.
    pub(super) fn renew_now(self: &Arc<Self>, mut leases: Vec<Arc<HeldLease>>) {
        leases.sort_by_cached_key(|held| held.warning());
        let now = self.clock.boot();
        for (place, held) in leases.iter().enumerate() {
            if let Some(renewal) = held.renewal() {
                self.renew_at(held, now + burst_delay(place), renewal.hurry());
            }
        }
    }

    /// The holder has taken a lease that was [delivered](HeldLease::deliver).
    pub fn hold(&self, id: LeaseId) {
        if let Some(held) = self.find(id) {
            held.take();
        }
    }

    /// Starts a renewal that is due, or returns when to check again.
    pub(super) fn renew_if_due(self: &Arc<Self>, held: &Arc<HeldLease>, run: Run) -> Option<BootInstant> {
        let renewal = held.renewal()?;
        if !renewal.is_current(run) {
            return None;
        }
        let mut times = held.times();
        if run.hurried {
            times.due = times.granted;
        }
        match renewal.decide(&times, self.clock.boot(), &*self.heartbeat) {
            Decision::Stop => {
                // No holder would ever release it.
                if renewal.is_abandoned() {
                    self.forget(held.id);
                }
                None
            }
            Decision::Wait(at) => Some(next_tick(at, held.ttl)),
            Decision::Renew => {
                match self.open_backend(held.strategy).and_then(|backend| backend.executor()) {
                    Ok(executor) => {
                        executor.spawn(Arc::clone(self).renew(Arc::clone(held), run));
                        None
                    }
                    Err(error) => renewal.record(&held.times(), Err(error), self.clock.boot()),
                }
            }
        }
    }

    /// Renews once. Like every extension, it never revives a lease.
    pub(super) async fn renew(self: Arc<Self>, held: Arc<HeldLease>, run: Run) {
        let times = (held.due(), self.clock.boot());
        let result = self.extend_held(&held, held.ttl).await;
        self.record_renewal(&held, times, &result);
        let Some(renewal) = held.renewal() else { return };
        let run = run.after(&result);
        if let Some(at) = renewal.record(&held.times(), result, self.clock.boot()) {
            self.renew_at(&held, at, run);
        }
    }

    fn renew_at(self: &Arc<Self>, held: &Arc<HeldLease>, at: BootInstant, run: Run) {
        let Some(renewal) = held.renewal().filter(|renewal| renewal.is_current(run)) else { return };
        let task = RenewalTask(Arc::downgrade(self), Arc::downgrade(held), run);
        let at = if run.hurried { at } else { next_tick(at, held.ttl) };
        if let Err(error) = RENEWALS.add(at, task) {
            renewal.fail(error);
        }
    }
}
