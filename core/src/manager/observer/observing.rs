//! Tells the observer what happens to the leases and connections of a manager.

use std::time::Duration;

use super::{Event, LossCause, Observer, Topic};
use crate::backend::connections::Server;
use crate::backend::contract::LockBackend;
use crate::error::Result;
use crate::lease::Strategy;
use crate::manager::Manager;
use crate::manager::held_lease::{HeldLease, LeaseId};
use crate::manager::stats::count;
use crate::runtime::clock::BootInstant;

impl Manager {
    /// Sets the observer, once.
    pub fn set_observer(&self, observer: Box<dyn Observer>) {
        let _ = self.observer.set(observer);
    }

    /// The observer, if it wants to hear of this.
    pub(in crate::manager) fn observer(&self, topic: Topic) -> Option<&dyn Observer> {
        self.observer.get().map(AsRef::as_ref).filter(|observer| observer.wants(topic))
    }

    /// How long a lease has been held; `None` if it has ended.
    pub fn held_for(&self, id: LeaseId) -> Option<Duration> {
        let now = self.clock.boot();
        self.find(id).filter(|held| !held.remaining(now).is_zero()).map(|held| held.held_for(now))
    }

    /// The server that has all leases of a strategy, as it was reached last.
    pub fn server(&self, strategy: Strategy) -> Option<Server> {
        match self.configured(strategy).ok()?.backend.connections() {
            [connections] => connections.primary(),
            _ => None,
        }
    }

    /// Changes when [`Self::server`] does; 0 as long as there is none.
    pub fn server_epoch(&self, strategy: Strategy) -> u32 {
        let Ok(configured) = self.configured(strategy) else { return 0 };
        match configured.backend.connections() {
            [connections] => connections.epoch(),
            _ => 0,
        }
    }

    /// A lease is lost: counts it, and tells the observer.
    pub(in crate::manager) fn record_loss(
        &self,
        held: &HeldLease,
        cause: LossCause,
        message: impl FnOnce() -> String,
    ) {
        match cause {
            LossCause::Expired => count(&self.counters.lost_expired),
            LossCause::Taken => count(&self.counters.lost_taken),
            LossCause::Failover => count(&self.counters.lost_failover),
            LossCause::File => count(&self.counters.lost_file),
        }
        let now = self.clock.boot();
        self.holds.record(held.held_for(now));
        if let Some(observer) = self.observer(Topic::Losses) {
            observer.notify(Event::Lost { lease: held.facts(now), cause, message: message() });
        }
    }

    /// An attempt to renew a lease has ended.
    pub(in crate::manager) fn record_renewal(
        &self,
        held: &HeldLease,
        (due, began): (BootInstant, BootInstant),
        result: &Result<()>,
    ) {
        // The reply to one that its holder released meanwhile says nothing about it.
        if held.is_released() {
            return;
        }
        if let Some(observer) = self.observer(Topic::Renewals) {
            let now = self.clock.boot();
            observer.notify(Event::Renewed {
                lease: held.facts(now),
                lag: due.until(began),
                took: began.until(now),
                remaining: held.remaining(now),
                result: result.clone(),
            });
        }
    }
}
