//! How a holder learns that its lease ends, or is already lost.

pub(in crate::manager) mod lease_end;
pub(in crate::manager) mod loss;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use self::lease_end::LeaseEnd;
use super::held_lease::{HeldLease, LOST, LeaseId, Was};
use super::observer::LossCause;
use super::{FILE_GONE, Manager};
use crate::error::Result;
use crate::lease::Strategy;
use crate::runtime::clock::BootInstant;
use crate::runtime::deadline_queue::{DeadlineQueue, Timed};

/// The warnings of all watched leases of the process.
static WARNINGS: DeadlineQueue<Warning> = DeadlineQueue::new();

/// A watched lease. It keeps neither lease nor manager alive.
struct Warning(Weak<Manager>, Weak<HeldLease>);

impl Timed for Warning {
    fn until(&self, at: BootInstant) -> Option<Duration> {
        (self.1.strong_count() > 0).then_some(())?;
        Some(self.0.upgrade()?.clock.boot().until(at))
    }

    fn fire(&self) -> Option<BootInstant> {
        self.0.upgrade()?.warn_if_due(&*self.1.upgrade()?)
    }

    fn is_gone(&self) -> bool {
        self.1.strong_count() == 0
    }
}

/// The deadlines of the leases whose expiry is to be noticed in time, of the process.
static EXPIRIES: DeadlineQueue<Expiry> = DeadlineQueue::new();

/// A lease whose expiry is to be noticed in time. It keeps neither lease nor manager alive.
struct Expiry(Weak<Manager>, Weak<HeldLease>);

impl Timed for Expiry {
    fn until(&self, at: BootInstant) -> Option<Duration> {
        (self.1.strong_count() > 0).then_some(())?;
        Some(self.0.upgrade()?.clock.boot().until(at))
    }

    fn fire(&self) -> Option<BootInstant> {
        let (manager, held) = (self.0.upgrade()?, self.1.upgrade()?);
        if !held.is_active() {
            return None;
        }
        let deadline = held.deadline();
        if manager.clock.boot() < deadline {
            return Some(deadline);
        }
        manager.mark_expired(&held);
        None
    }

    fn is_gone(&self) -> bool {
        self.1.strong_count() == 0
    }
}

impl Manager {
    /// Has the listener notified before the lease ends. `false`: it is too late for that.
    pub fn watch(self: &Arc<Self>, id: LeaseId) -> Result<bool> {
        let Some(held) = self.find(id) else { return Ok(false) };
        if !held.is_active() || self.clock.boot() >= held.warning() {
            return Ok(false);
        }
        held.watched.store(true, Ordering::SeqCst);
        WARNINGS.add(held.warning(), Warning(Arc::downgrade(self), Arc::downgrade(&held)))?;
        // A thread that marked it lost in between may not have seen that it is watched.
        Ok(held.is_active())
    }

    /// Notifies the listener if the warning is due, or returns when it will be: the lease may have been
    /// extended.
    pub(super) fn warn_if_due(&self, held: &HeldLease) -> Option<BootInstant> {
        let warning = held.warning();
        let now = self.clock.boot();
        if !held.is_active() {
            return None;
        }
        if now < warning {
            return Some(warning);
        }
        (self.listener)(held.id, held.expires());
        None
    }

    /// Has the expiry of this lease noticed when it comes. Otherwise it is when the lease is next asked for:
    /// that is soon enough for its holder, but not for an observer.
    pub(super) fn notice_expiry(self: &Arc<Self>, held: &Arc<HeldLease>) {
        // Without a thread for it, it is noticed late.
        let _ = EXPIRIES.add(held.deadline(), Expiry(Arc::downgrade(self), Arc::downgrade(held)));
    }

    /// The observer wants to hear of losses from now on.
    pub fn notice_expiries(self: &Arc<Self>) {
        let held: Vec<_> = self.leases.lock().held.values().cloned().collect();
        for held in &held {
            self.notice_expiry(held);
        }
    }

    /// The lease is lost. Does nothing if it had ended before.
    pub(super) fn mark_lost(&self, held: &HeldLease, cause: LossCause, why: &str) {
        let was = held.lose(why);
        self.report_loss(held, was, cause, || LeaseEnd::Lost { why: why.to_owned() });
    }

    /// The deadline of the lease has passed. Does nothing if it had ended before.
    pub(super) fn mark_expired(&self, held: &HeldLease) {
        let was = held.end(LOST);
        self.report_loss(held, was, LossCause::Expired, || held.expires());
    }

    fn report_loss(&self, held: &HeldLease, was: Was, cause: LossCause, end: impl Fn() -> LeaseEnd) {
        match was {
            Was::Ended => return,
            // Its holder never had it. The call that asked for it says so when it ends.
            Was::Granted => {}
            Was::Held => self.record_loss(held, cause, || end().message(self.clock.boot())),
        }
        if held.watched.load(Ordering::SeqCst) {
            (self.listener)(held.id, end());
        }
        self.closing.lease_ended();
    }

    /// Why a lease ends or has ended, for its holder; `None` while it counts, and if it was released.
    pub fn lease_end(&self, id: LeaseId) -> Option<LeaseEnd> {
        match self.find(id) {
            Some(held) => held.lease_end(self.clock.boot()),
            None => self.closed_end(),
        }
    }

    /// The backend lost all leases that were granted before this moment.
    pub(super) fn mark_lost_before(&self, strategy: Strategy, since: BootInstant) {
        let Ok(configured) = self.configured(strategy) else { return };
        configured.lost_before.fetch_max(since.as_micros(), Ordering::AcqRel);
        configured.announcement.forgotten();
        let lost: Vec<_> = {
            let leases = self.leases.lock();
            let all = leases.held.values();
            all.filter(|held| held.strategy == strategy && configured.has_lost(held.sent)).cloned().collect()
        };
        for held in lost {
            self.mark_lost(&held, LossCause::File, FILE_GONE);
        }
    }
}
