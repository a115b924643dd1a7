//! How a holder learns that its lease ends, or is lost already.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::held_lease::{HeldLease, LOST, LeaseId};
use super::renewal::policy::Renewal;
use super::stats::count;
use super::watch;
use super::{FILE_GONE, Manager};
use crate::error::Result;
use crate::lease::Strategy;
use crate::runtime::clock::BootInstant;

impl Manager {
    /// Has the observer told before the lease ends. `false`: it is too late for that.
    pub fn watch(self: &Arc<Self>, id: LeaseId) -> Result<bool> {
        let Some(held) = self.find(id) else { return Ok(false) };
        if !held.is_active() || self.clock.boot() >= held.warning() {
            return Ok(false);
        }
        held.watched.store(true, Ordering::SeqCst);
        watch::add(self, &held)?;
        // It may have been lost in between, by somebody who saw nobody watching.
        Ok(held.is_active())
    }

    /// The wheel's turn: tells the observer if the time has come, or answers when to look again.
    pub(crate) fn look(&self, held: &HeldLease) -> Option<BootInstant> {
        let warning = held.warning();
        let now = self.clock.boot();
        if !held.is_active() {
            return None;
        }
        if now < warning {
            return Some(warning);
        }
        let left = now.until(held.deadline()).as_millis();
        let why = held.renewal().and_then(Renewal::obstacle);
        let why = why.as_deref().unwrap_or("it was not extended");
        (self.observer)(
            held.id,
            format!("the lease ends in {left} ms: {why}; stop working on what it protects, or fence it"),
        );
        None
    }

    pub(super) fn lose(&self, held: &HeldLease, why: &str) {
        if held.end(LOST) {
            count(&self.counters.lost);
            if held.watched.load(Ordering::SeqCst) {
                (self.observer)(held.id, format!("the lease is lost: {why}"));
            }
        }
    }

    /// The backend lost all leases that were granted before this moment.
    pub(super) fn lose_before(&self, strategy: Strategy, since: BootInstant) {
        let Ok(configured) = self.configured(strategy) else { return };
        configured.lost_before.fetch_max(since.as_micros(), Ordering::AcqRel);
        let gone: Vec<_> = {
            let leases = self.lock();
            let all = leases.held.values();
            all.filter(|held| held.strategy == strategy && configured.lost(held.sent)).cloned().collect()
        };
        for held in gone {
            self.lose(&held, FILE_GONE);
        }
    }
}
