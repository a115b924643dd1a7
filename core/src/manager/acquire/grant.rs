//! Calls that acquire: from what is wanted to a lease that this manager holds.

use std::sync::Arc;

use futures_util::future::Either;
use tokio_util::sync::CancellationToken;

use super::wanted::Wanted;
use super::{Cancellation, OnWait, Settled, Wait, attempt, check, release_unused};
use crate::backend::contract::{Attempt, Busy, Grant, Request};
use crate::error::{Error, Result};
use crate::lease::Strategy;
use crate::manager::close::closing::Phase;
use crate::manager::held_lease::HeldLease;
use crate::manager::observer::Topic;
use crate::manager::renewal::policy::RenewalLimits;
use crate::manager::stats::{Counted, count};
use crate::manager::{Acquired, Configured, FILE_GONE, Leases, Manager, PendingCall};

impl Manager {
    /// Gets a lease, with one attempt or with as many as its time allows, unless it is cancelled. The call is
    /// pending from now on, however late the future is polled.
    pub fn acquire(
        self: &Arc<Self>,
        strategy: Strategy,
        wanted: Wanted,
        cancel: Option<CancellationToken>,
    ) -> impl Future<Output = Result<Acquired>> + Send + use<> {
        self.acquire_noticed(strategy, wanted, cancel, None)
    }

    /// As [`Self::acquire`]; calls `on_wait` if it begins to wait.
    pub fn acquire_noticed(
        self: &Arc<Self>,
        strategy: Strategy,
        wanted: Wanted,
        cancel: Option<CancellationToken>,
        on_wait: Option<OnWait>,
    ) -> impl Future<Output = Result<Acquired>> + Send + use<> {
        // Until a grant that came too late is released, too: closing waits for that.
        let pending = PendingCall::new(self);
        if !wanted.wait.is_zero() {
            return Either::Right(Box::pin(async move {
                let manager = &pending.0;
                let configured = manager.accepting(strategy)?;
                let outcome = manager.wait(configured, &wanted, &cancel.unwrap_or_default(), on_wait).await;
                manager.settle(strategy, wanted.renew, outcome).await
            }));
        }
        // Most calls do not wait. Their future has only what one attempt needs.
        let (request, renew) = (wanted.first(), wanted.renew);
        Either::Left(async move {
            let manager = &pending.0;
            let backend = &manager.accepting(strategy)?.backend;
            let attempt = attempt(backend, &manager.clock, &request).await;
            let outcome = attempt.map(|attempt| Settled::new(request, attempt));
            manager.settle(strategy, renew, outcome).await
        })
    }

    async fn wait(
        &self,
        Configured { backend, queues, .. }: &Configured,
        wanted: &Wanted,
        call: &CancellationToken,
        on_wait: Option<OnWait>,
    ) -> Result<Settled> {
        let _waiting = Counted::new(&self.counters.waiting);
        let cancellation = Cancellation { call, manager: &self.stop_waiting };
        let wait = Wait::new(backend, queues, &self.clock, wanted, cancellation, on_wait);
        let outcome = wait.run().await;
        if let Some(waited) = wait.waited() {
            self.waits.record(waited);
        }
        outcome
    }

    /// Registers a grant, and counts what came of the call.
    pub(in crate::manager) async fn settle(
        self: &Arc<Self>,
        strategy: Strategy,
        renew: Option<RenewalLimits>,
        outcome: Result<Settled>,
    ) -> Result<Acquired> {
        match outcome {
            Ok(Settled::Granted(request, grant)) => {
                let registered = self.register(strategy, &request, &grant, renew, Leases::accepts);
                if matches!(registered, Err(Error::Closed)) {
                    release_unused(&self.used_backend(strategy)?.backend, request).await;
                }
                registered
            }
            Ok(Settled::Busy(busy)) => Ok(self.record_busy(busy)),
            Err(error) => match self.closed_before(error) {
                Error::Closed => Err(Error::Closed),
                error => Err(self.record_failure(error)),
            },
        }
    }

    /// Makes one attempt on the calling thread, with a strategy whose backend can. Like other calls it is
    /// pending until it ends: another thread that closes the manager waits for it.
    pub fn acquire_sync(self: &Arc<Self>, strategy: Strategy, wanted: &Wanted) -> Result<Acquired> {
        let _pending = PendingCall::new(self);
        let request = &wanted.first();
        let phase = {
            let leases = self.leases.lock();
            if !leases.accepts_sync() {
                return Err(Error::Closed);
            }
            leases.phase
        };
        let backend = self.used_backend(strategy)?.sync()?;
        if phase == Phase::Closed {
            backend.reopen();
        }
        let attempt = backend.acquire_sync(request).map_err(|error| self.record_failure(error))?;
        if let Err(error) = check(&attempt, &self.clock, request) {
            let _ = backend.release_sync(&request.resources, request.owner, None);
            return Err(self.record_failure(error));
        }
        match attempt {
            Attempt::Granted(grant) => {
                let registered = self.register(strategy, request, &grant, wanted.renew, Leases::accepts_sync);
                if matches!(registered, Err(Error::Closed)) {
                    let _ = backend.release_sync(&request.resources, request.owner, None);
                }
                registered
            }
            Attempt::Busy(busy) => Ok(self.record_busy(busy)),
        }
    }

    /// Holds a granted lease from now on. [`Error::Closed`]: the manager does not accept it any more.
    fn register(
        self: &Arc<Self>,
        strategy: Strategy,
        request: &Request,
        grant: &Grant,
        renew: Option<RenewalLimits>,
        accepts: impl FnOnce(&Leases) -> bool,
    ) -> Result<Acquired> {
        let deadline = request.ttl.deadline(grant.sent);
        // From now, which is after the grant, so that no clock of the backend is needed to keep it.
        let stands_until = (!request.min_hold.is_zero()).then(|| self.clock.boot() + request.min_hold);
        let held = HeldLease::new(strategy, request, grant, deadline, renew, stands_until);
        let (held, in_doubt) = {
            let mut leases = self.leases.lock();
            if !accepts(&leases) {
                return Err(Error::Closed);
            }
            // Under the lock: a thread that marks leases lost sees this one, or is seen here.
            let configured = self.configured(held.strategy)?;
            if configured.has_lost(held.sent) {
                return Err(Error::lost(format!("{FILE_GONE}. Try again")));
            }
            let held = Arc::new(held);
            leases.held.insert(held.id, Arc::clone(&held));
            // Likewise.
            let in_doubt = configured.failovers.may_have_hit(held.sent);
            (held, in_doubt)
        };
        if in_doubt {
            self.look_up_soon(&held);
        }
        count(&self.counters.granted);
        self.announce_for(strategy, grant.sent, grant.sent + request.lasts().as_duration());
        if self.observer(Topic::Losses).is_some() {
            self.notice_expiry(&held);
        }
        self.keep_alive(&held);
        let Grant { token, acks, .. } = *grant;
        Ok(Acquired::Granted { id: held.id, owner: held.owner, token, held, acks })
    }

    fn record_busy(&self, busy: Busy) -> Acquired {
        count(&self.counters.busy);
        Acquired::Busy(busy)
    }

    fn record_failure(&self, error: Error) -> Error {
        count(match error {
            Error::InsufficientReplicas(_) => &self.counters.insufficient,
            Error::OutcomeUnknown(_) => &self.counters.unknown,
            _ => &self.counters.failed,
        });
        error
    }
}
