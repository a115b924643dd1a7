//! The end of a manager. First it drains: it accepts no acquires, and waits until its leases have ended. Then
//! what is left is released, pending calls are awaited, and its backends are closed.

pub(super) mod closing;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::closing::{Begun, Phase, StillHeld};
use super::Manager;
use super::expiry::lease_end::LeaseEnd;
use super::held_lease::{HeldLease, RELEASED, Was};
use super::release::{Ended, release_held};
use crate::backend::Backend;
use crate::backend::contract::LockBackend;
use crate::lease::Strategy;

/// How long a closing manager waits for attempts that are still in flight. The backends bound each of them.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often calls are looked for that wait for a connection meanwhile.
const ABANDON_EVERY: Duration = Duration::from_millis(10);
/// Timers of the runtime pause while the host is suspended, time limits do not: no sleep is longer than this.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
impl Manager {
    /// Accepts no acquire from now on, and ends all waiting. The leases that are held go on for at most
    /// `drain`; then they are released, and the backends closed, as far as their time limits allow. Calls
    /// `done` at the end, from a thread of ours or before this returns.
    ///
    /// All calls share one end. A later call with a shorter limit shortens it.
    pub fn close(self: &Arc<Self>, drain: Duration, done: impl FnOnce(&StillHeld) + Send + 'static) {
        match self.closing.join(self.clock.boot() + drain, Box::new(done)) {
            Begun::Earlier => {}
            Begun::First => self.end(!drain.is_zero()),
        }
    }

    /// The process ends: closes at once, but lets synchronous calls get locks until it has ended, because
    /// exit listeners of the program may run later. Nothing needs to release those: their holder is dead
    /// then.
    pub fn close_at_exit(self: &Arc<Self>, done: impl FnOnce() + Send + 'static) {
        {
            let mut leases = self.leases.lock();
            leases.exiting = leases.phase == Phase::Open;
        }
        self.close(Duration::ZERO, |_| done());
    }

    fn end(self: &Arc<Self>, drains: bool) {
        let held = self.stop_accepting();
        // Each task has a clone. The calls return when the last one is dropped, also when a task panics or
        // cannot start.
        let finished = Arc::new(scopeguard::guard(Arc::clone(self), |manager| manager.closing.finish()));
        let executor =
            held.first().and_then(|lease| self.used_backend(lease.strategy).ok()?.backend.executor().ok());
        let Some(executor) = executor.filter(|_| drains) else {
            return self.close_now(false, &finished);
        };
        let manager = Arc::clone(self);
        executor.spawn(async move {
            manager.drain(held).await;
            manager.close_now(true, &finished);
        });
    }

    /// Accepts no further acquire. Returns the leases to wait for.
    fn stop_accepting(&self) -> Vec<Arc<HeldLease>> {
        let held = {
            let mut leases = self.leases.lock();
            leases.phase = Phase::Draining;
            let now = self.clock.boot();
            leases.held.values().filter(|held| held.is_awaited(now)).cloned().collect()
        };
        self.stop_waiting.cancel();
        held
    }

    /// Returns when all these leases have ended, or time is up.
    async fn drain(&self, mut held: Vec<Arc<HeldLease>>) {
        while let Some(lease) = held.last() {
            let (now, limit) = (self.clock.boot(), self.closing.limit());
            if now >= limit {
                return;
            }
            if !lease.is_awaited(now) {
                held.pop();
                continue;
            }
            let pause = now.until(limit.min(lease.deadline())).min(LONGEST_SLEEP);
            self.closing.pause(pause).await;
        }
    }

    /// Releases everything and closes the backends. `finished` is dropped at the end.
    fn close_now(self: &Arc<Self>, drained: bool, finished: &Arc<impl Send + Sync + 'static>) {
        let held = self.take_all(drained);
        for (strategy, backend) in self.used() {
            let Ok(executor) = backend.executor() else { continue };
            let leases: Vec<_> =
                held.iter().filter(|(lease, _)| lease.strategy == strategy).cloned().collect();
            let (manager, backend, finished) = (Arc::clone(self), Arc::clone(backend), Arc::clone(finished));
            executor.spawn(async move {
                manager.release_all(&backend, leases).await;
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, manager.settled(&backend)).await;
                backend.close().await;
                drop(finished);
            });
        }
    }

    /// Ends all leases, and hands them over: the caller releases them.
    fn take_all(&self, drained: bool) -> Vec<(Arc<HeldLease>, Ended)> {
        let held: Vec<_> = {
            let mut leases = self.leases.lock();
            leases.phase = Phase::Closed;
            leases.held.drain().map(|(_, held)| held).collect()
        };
        self.closed.cancel();
        let now = self.clock.boot();
        let mut still_held = StillHeld::default();
        // Lost ones as well: an extension without acknowledgement may have revived them, and releasing
        // compares owners.
        let mut taken = Vec::with_capacity(held.len());
        for lease in held {
            let is_awaited = lease.is_awaited(now);
            if drained && is_awaited {
                still_held.add(lease.resources.first());
            }
            let was = lease.end(RELEASED);
            if was != Was::Ended && lease.watched.load(Ordering::SeqCst) {
                (self.listener)(lease.id, LeaseEnd::closed(drained));
            }
            // Closing ends it as a release does, which is no loss.
            let ended = Ended::new(&lease, was, now);
            taken.push((lease, ended));
        }
        self.closing.end_leases(drained, still_held);
        taken
    }

    /// Why a lease ended that closing took away; `None` if nothing was taken away yet.
    pub(super) fn closed_end(&self) -> Option<LeaseEnd> {
        let closed = self.leases.lock().phase == Phase::Closed;
        closed.then(|| LeaseEnd::closed(self.closing.has_drained()))
    }

    /// The backends that were used, each with its strategy.
    fn used(&self) -> impl Iterator<Item = (Strategy, &Arc<Backend>)> {
        self.backends.iter().filter_map(|(strategy, configured)| {
            let configured = configured.as_ref().filter(|it| it.used.load(Ordering::Relaxed))?;
            Some((strategy, &configured.backend))
        })
    }

    async fn release_all(&self, backend: &Arc<Backend>, leases: Vec<(Arc<HeldLease>, Ended)>) {
        let mut releases = tokio::task::JoinSet::new();
        for (lease, ended) in leases {
            let backend = Arc::clone(backend);
            releases.spawn(async move {
                let outcome = release_held(&backend, &lease, ended.in_time).await;
                (lease, ended, outcome)
            });
        }
        while let Some(released) = releases.join_next().await {
            if let Ok((lease, ended, outcome)) = released {
                let _ = self.record_release(&lease, ended, outcome);
            }
        }
    }

    /// Returns when no call is pending. Has those fail that wait for a connection, also if they come to that
    /// later.
    async fn settled(&self, backend: &Backend) {
        loop {
            backend.abandon_connects();
            if tokio::time::timeout(ABANDON_EVERY, self.idle()).await.is_ok() {
                return;
            }
        }
    }

    /// Returns when no call is pending.
    async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.counters.pending.load(Ordering::Relaxed) == 0 {
                return;
            }
            idle.await;
        }
    }
}
