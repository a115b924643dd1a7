//! The leases of one `LockManager`: which it holds, until when, and how each call on them ended.

mod acquire;
mod close;
mod expiry;
mod extend;
mod failover;
mod grant;
mod hand_over;
mod held_lease;
mod lease_end;
mod loss;
mod renewal;
mod stats;
#[cfg(test)]
mod tests;
mod wait_queue;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use self::acquire::Wanted;
pub use self::close::closing::StillHeld;
use self::close::closing::{Closing, Phase};
use self::failover::record::Failovers;
pub use self::held_lease::{HeldLease, LeaseId};
use self::held_lease::{LeaseHasher, RELEASED};
pub use self::lease_end::LeaseEnd;
pub use self::renewal::policy::{Heartbeat, RenewalLimits};
pub use self::stats::Stats;
use self::stats::{Counters, count};
use self::wait_queue::WaitQueues;
use crate::backend::Backend;
use crate::backend::contract::{Busy, Info, LockBackend, SyncBackend};
use crate::backend::guarantees::Guarantee;
use crate::error::{Error, Result};
use crate::lease::{AckPolicy, Acks, Owner, PerStrategy, Strategy, Ttl};
use crate::runtime::clock::{BootInstant, Clock};
use crate::runtime::executor::Executor;
use crate::runtime::sync::Mutex;

/// Is notified that a watched lease ends: which one, and why. Called from any thread; must not block or call
/// back.
pub type ExpiryListener = Box<dyn Fn(LeaseId, LeaseEnd) + Send + Sync>;

/// What an acquire returns to its caller.
#[derive(Debug)]
pub enum Acquired {
    /// A new lease.
    Granted {
        /// Names it from now on.
        id: LeaseId,
        /// Its owner.
        owner: Owner,
        /// Its fencing token.
        token: u64,
        /// The lease, which may be lost before the caller gets it.
        held: Arc<HeldLease>,
        /// What proved it, for backends with replicas.
        acks: Option<Acks>,
    },
    /// Another owner has it.
    Busy(Busy),
}

/// The leases of one `LockManager`, and the backends that keep them.
pub struct Manager {
    backends: PerStrategy<Option<Configured>>,
    clock: Clock,
    listener: ExpiryListener,
    heartbeat: Arc<dyn Heartbeat>,
    leases: Mutex<Leases>,
    counters: Counters,
    /// Notified when the last pending call ends.
    idle: tokio::sync::Notify,
    closing: Closing,
    /// Ends all waiting.
    stop_waiting: CancellationToken,
}

/// A backend, and what its manager knows of it.
#[derive(Debug)]
struct Configured {
    backend: Arc<Backend>,
    queues: WaitQueues,
    /// Whether any call asked for it: an unused backend has nothing to close, not even a thread.
    used: AtomicBool,
    /// Microseconds on the boot clock: what was granted before is lost.
    lost_before: AtomicU64,
    failovers: Failovers,
}

/// Why a backend lost leases.
const FILE_GONE: &str = "its lock file was deleted or replaced";

/// Why a lease is lost that its owner does not have any more.
const TAKEN: &str = "another owner took it, it was released by force, or the backend lost its data";

impl Configured {
    fn new(backend: Backend) -> Self {
        let (used, lost_before) = (AtomicBool::new(false), AtomicU64::new(0));
        let (queues, failovers) = (WaitQueues::default(), Failovers::default());
        Self { backend: Arc::new(backend), queues, used, lost_before, failovers }
    }

    /// Whether a lease that was asked for at this moment is lost.
    fn has_lost(&self, sent: BootInstant) -> bool {
        sent.as_micros() < self.lost_before.load(Ordering::Acquire)
    }

    /// What the backend does on the calling thread.
    fn sync(&self) -> Result<&dyn SyncBackend> {
        self.backend.as_sync().ok_or_else(|| Error::invalid("this strategy has no synchronous calls"))
    }
}

struct Leases {
    held: HashMap<LeaseId, Arc<HeldLease>, BuildHasherDefault<LeaseHasher>>,
    phase: Phase,
    /// The process ends: synchronous calls still get leases.
    exiting: bool,
}

impl Leases {
    /// Whether new leases are held.
    fn accepts(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether those of synchronous calls are.
    fn accepts_sync(&self) -> bool {
        self.accepts() || self.exiting
    }
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manager").field("backends", &self.backends).finish_non_exhaustive()
    }
}

/// A call that has not ended: closing waits for it.
struct PendingCall(Arc<Manager>);

impl PendingCall {
    fn new(manager: &Arc<Manager>) -> Self {
        count(&manager.counters.pending);
        Self(Arc::clone(manager))
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if self.0.counters.pending.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl Manager {
    /// No I/O. `heartbeat` tells whether the holders of renewed leases are alive.
    pub fn new(
        backends: impl IntoIterator<Item = (Strategy, Backend)>,
        clock: Clock,
        listener: ExpiryListener,
        heartbeat: Arc<dyn Heartbeat>,
    ) -> Arc<Self> {
        let mut configured = PerStrategy::default();
        for (strategy, backend) in backends {
            *configured.get_mut(strategy) = Some(Configured::new(backend));
        }
        let manager = Arc::new(Self {
            backends: configured,
            clock,
            listener,
            heartbeat,
            leases: Mutex::new(Leases { held: HashMap::default(), phase: Phase::Open, exiting: false }),
            counters: Counters::default(),
            idle: tokio::sync::Notify::new(),
            closing: Closing::default(),
            stop_waiting: CancellationToken::new(),
        });
        for (strategy, configured) in manager.backends.iter() {
            let Some(configured) = configured else { continue };
            manager.follow_failovers(strategy, &configured.backend);
            let manager = Arc::downgrade(&manager);
            configured.backend.on_loss(Arc::new(move |since| {
                if let Some(manager) = manager.upgrade() {
                    manager.mark_lost_before(strategy, since);
                }
            }));
        }
        manager
    }

    fn configured(&self, strategy: Strategy) -> Result<&Configured> {
        self.backends.get(strategy).as_ref().ok_or_else(|| Error::invalid(strategy.not_configured()))
    }

    /// The backend of a strategy, which also works once the manager is closed: releases need it.
    fn used_backend(&self, strategy: Strategy) -> Result<&Configured> {
        let configured = self.configured(strategy)?;
        configured.used.store(true, Ordering::Relaxed);
        Ok(configured)
    }

    /// What a strategy acquires with, unless the manager drains or was closed.
    fn accepting(&self, strategy: Strategy) -> Result<&Configured> {
        if !self.leases.lock().accepts() {
            return Err(Error::Closed);
        }
        self.used_backend(strategy)
    }

    /// The backend of a strategy, unless the manager was closed.
    pub fn open_backend(&self, strategy: Strategy) -> Result<&Arc<Backend>> {
        if self.leases.lock().phase == Phase::Closed {
            return Err(Error::Closed);
        }
        Ok(&self.used_backend(strategy)?.backend)
    }

    /// The thread of a strategy's backend. A closed manager starts none.
    pub fn open_executor(&self, strategy: Strategy) -> Result<Executor> {
        self.open_backend(strategy)?.executor()
    }

    /// The thread of a backend that leases were acquired from.
    pub fn used_executor(&self, strategy: Strategy) -> Result<Executor> {
        self.used_backend(strategy)?.backend.executor()
    }

    /// How much longer the holder may count on the lease; zero when it may not.
    pub fn remaining(&self, id: LeaseId) -> Duration {
        self.find(id).map_or(Duration::ZERO, |held| held.remaining(self.clock.boot()))
    }

    /// Ends a lease. It is no longer held once this returns, so a manager that is closed next has nothing to
    /// end. The future does the rest, and returns `false` if the backend no longer had the lease. `None`: it
    /// is not held.
    pub fn release(
        self: &Arc<Self>,
        id: LeaseId,
    ) -> Option<impl Future<Output = Result<bool>> + Send + use<>> {
        // From before the lease ends: a manager that drains waits for both.
        let pending = PendingCall::new(self);
        let held = self.take_out(id)?;
        let in_time = self.clock.boot() < held.deadline();
        Some(async move {
            let manager = &pending.0;
            let backend = &manager.used_backend(held.strategy)?.backend;
            manager.record_release(release_held(backend, &held, in_time).await)
        })
    }

    /// Ends a lease on the calling thread, with a strategy whose backend can.
    pub fn release_sync(self: &Arc<Self>, id: LeaseId) -> Result<bool> {
        let _pending = PendingCall::new(self);
        let Some(held) = self.take_out(id) else { return Ok(false) };
        let in_time = self.clock.boot() < held.deadline();
        let backend = self.used_backend(held.strategy)?.sync()?;
        let stands_until = held.stands_until();
        // See `release_held`.
        let _turn = stands_until.map(|_| held.extending().blocking_lock());
        let released = backend.release_sync(&held.resources, held.owner, stands_until);
        self.record_release(released.map(|was_there| was_there && (in_time || stands_until.is_none())))
    }

    fn record_release(&self, released: Result<bool>) -> Result<bool> {
        match released {
            Ok(true) => count(&self.counters.released),
            Ok(false) => count(&self.counters.lost),
            Err(_) => {}
        }
        released
    }

    /// Forgets a lease whose handle was dropped. It is not released, because its holder may have kept only
    /// the token. Returns the resource if the lease was still active.
    pub fn forget(&self, id: LeaseId) -> Option<String> {
        let held = self.leases.lock().held.remove(&id)?;
        let was_active = held.end(RELEASED) && self.clock.boot() < held.deadline();
        self.closing.lease_ended();
        was_active.then(|| held.resources.first().to_owned())
    }

    /// Keeps a renewed lease whose handle was dropped: it is held and renewed as before, but no holder is
    /// left that could release it, so a manager that drains does not wait for it. Its end is reported to the
    /// listener. Returns the resource; `None` if the lease is not renewed, or about to end.
    pub fn keep_dropped(self: &Arc<Self>, id: LeaseId) -> Option<String> {
        let held = self.find(id)?;
        held.renewal()?;
        matches!(self.watch(id), Ok(true)).then_some(())?;
        held.dropped.store(true, Ordering::SeqCst);
        self.closing.lease_ended();
        Some(held.resources.first().to_owned())
    }

    /// Takes a lease out of those that are held. Only one caller gets it.
    fn take_out(&self, id: LeaseId) -> Option<Arc<HeldLease>> {
        let (held, phase) = {
            let mut leases = self.leases.lock();
            (leases.held.remove(&id)?, leases.phase)
        };
        held.end(RELEASED);
        if phase != Phase::Open {
            self.closing.lease_ended();
        }
        Some(held)
    }

    fn find(&self, id: LeaseId) -> Option<Arc<HeldLease>> {
        self.leases.lock().held.get(&id).cloned()
    }

    /// Who holds a resource.
    pub async fn inspect(&self, strategy: Strategy, resource: &str) -> Result<Option<Info>> {
        self.open_backend(strategy)?.inspect(resource).await
    }

    /// Ends the lease of a resource, regardless of its owner.
    pub async fn force_release(&self, strategy: Strategy, resource: &str) -> Result<bool> {
        self.accepting(strategy)?.backend.force_release(resource).await
    }

    /// What a strategy guarantees on this deployment to locks that require this many acknowledgements.
    pub async fn describe(&self, strategy: Strategy, acks: AckPolicy, ttl: Ttl) -> Result<Guarantee> {
        self.open_backend(strategy)?.describe(acks, ttl).await
    }

    /// Connects the backend of a strategy.
    pub async fn connect(&self, strategy: Strategy) -> Result<()> {
        self.accepting(strategy)?.backend.connect().await
    }

    /// What this manager has done so far.
    pub fn stats(&self) -> Stats {
        let backends = self.backends.iter().filter_map(|(_, configured)| configured.as_ref());
        let cleanups = backends.map(|configured| configured.backend.pending_cleanups() as u64).sum();
        let now = self.clock.boot();
        let leases = self.leases.lock();
        let held = leases.held.values().filter(|lease| !lease.remaining(now).is_zero()).count() as u64;
        drop(leases);
        Stats { held, cleanups, ..self.counters.read() }
    }
}

/// Ends a lease on its backend. The backend keeps the owner for as long as the minimum lasts, so an extension
/// that was executed after the release would find it, and extend what is left: so it is awaited. For the same
/// reason the backend has the lease even if it ended for its holder, `in_time` or not.
async fn release_held(backend: &Backend, held: &HeldLease, in_time: bool) -> Result<bool> {
    let stands_until = held.stands_until();
    let _turn = match stands_until {
        None => None,
        Some(_) => Some(held.extending().lock().await),
    };
    let HeldLease { resources, owner, .. } = held;
    let was_there = backend.release(resources, *owner, held.longest(), stands_until).await?;
    Ok(was_there && (in_time || stands_until.is_none()))
}
