//! How a holder ends its lease, and what came of it.

use std::sync::Arc;
use std::time::Duration;

use super::close::closing::Phase;
use super::held_lease::{HeldLease, LeaseId, RELEASED, Was};
use super::observer::LossCause;
use super::stats::count;
use super::{Manager, PendingCall, TAKEN};
use crate::backend::Backend;
use crate::backend::contract::LockBackend;
use crate::error::Result;
use crate::runtime::clock::BootInstant;

/// A lease at the moment its holder ended it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// Whether its holder had it, and it was not known to be lost.
    pub was_held: bool,
    /// Whether its deadline was still to come.
    pub in_time: bool,
    /// Whether a loss was reported before its deadline. What its backend finds does not change that: a
    /// write-ahead log may bring its row into the file that took the place of its own.
    pub was_lost: bool,
    /// How long it had been held.
    pub held: Duration,
}

impl Ended {
    /// A lease that was this when its holder ended it.
    pub(super) fn new(held: &HeldLease, was: Was, now: BootInstant) -> Self {
        Self {
            was_held: was == Was::Held,
            was_lost: was == Was::Ended && held.lost_because().is_some(),
            in_time: now < held.deadline(),
            held: held.held_for(now),
        }
    }
}

impl Manager {
    /// Ends a lease. It is no longer held once this returns, so a manager that is closed next has nothing to
    /// end. The future does the rest, and returns `false` if the backend no longer had the lease. `None`: it
    /// is not held.
    pub fn release(
        self: &Arc<Self>,
        id: LeaseId,
    ) -> Option<impl Future<Output = Result<bool>> + Send + use<>> {
        // From before the lease ends: a manager that drains waits for both.
        let pending = PendingCall::new(self);
        let (held, ended) = self.take_out(id)?;
        Some(async move {
            let manager = &pending.0;
            let backend = &manager.used_backend(held.strategy)?.backend;
            manager.record_release(&held, ended, release_held(backend, &held, ended.in_time).await)
        })
    }

    /// Ends a lease on the calling thread, with a strategy whose backend can.
    pub fn release_sync(self: &Arc<Self>, id: LeaseId) -> Result<bool> {
        let _pending = PendingCall::new(self);
        let Some((held, ended)) = self.take_out(id) else { return Ok(false) };
        let backend = self.used_backend(held.strategy)?.sync()?;
        let stands_until = held.stands_until();
        // See `release_held`.
        let _turn = stands_until.map(|_| held.extending().blocking_lock());
        let released = backend.release_sync(&held.resources, held.owner, stands_until);
        let released = released.map(|was_there| was_there && (ended.in_time || stands_until.is_none()));
        self.record_release(&held, ended, released)
    }

    /// Counts what came of a release. A loss that was found before counts once.
    pub(super) fn record_release(
        &self,
        held: &HeldLease,
        ended: Ended,
        released: Result<bool>,
    ) -> Result<bool> {
        let released = released.map(|was_there| was_there && !ended.was_lost);
        match released {
            Ok(true) => count(&self.counters.released),
            Ok(false) if ended.was_held => {
                let cause = if ended.in_time { LossCause::Taken } else { LossCause::Expired };
                let why = if ended.in_time { TAKEN } else { "its time had passed before it was released" };
                self.record_loss(held, cause, || format!("the lease was lost: {why}"));
                return released;
            }
            _ => {}
        }
        if ended.was_held {
            self.holds.record(ended.held);
        }
        released
    }

    /// Takes a lease out of those that are held. Only one caller gets it.
    pub(super) fn take_out(&self, id: LeaseId) -> Option<(Arc<HeldLease>, Ended)> {
        let (held, phase) = {
            let mut leases = self.leases.lock();
            (leases.held.remove(&id)?, leases.phase)
        };
        let was = held.end(RELEASED);
        if phase != Phase::Open {
            self.closing.lease_ended();
        }
        let now = self.clock.boot();
        let ended = Ended::new(&held, was, now);
        Some((held, ended))
    }
}

/// Ends a lease on its backend. The backend keeps the owner for as long as the minimum lasts, so an extension
/// that was executed after the release would find it, and extend what is left: so it is awaited. For the same
/// reason the backend has the lease even if it ended for its holder, `in_time` or not.
pub(super) async fn release_held(backend: &Backend, held: &HeldLease, in_time: bool) -> Result<bool> {
    let stands_until = held.stands_until();
    let _turn = match stands_until {
        None => None,
        Some(_) => Some(held.extending().lock().await),
    };
    let HeldLease { resources, owner, .. } = held;
    let was_there = backend.release(resources, *owner, held.longest(), stands_until).await?;
    Ok(was_there && (in_time || stands_until.is_none()))
}
