//! The leases of one `LockManager`: which it holds, until when, and how each call on them ended.

mod acquire;
mod close;
mod expiry;
mod extend;
mod failover;
mod hand_over;
mod held_lease;
mod holder;
mod inspect;
mod observer;
mod release;
mod renewal;
mod stats;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use self::acquire::OnWait;
use self::acquire::wait_queue::WaitQueues;
pub use self::acquire::wanted::Wanted;
pub use self::close::closing::StillHeld;
use self::close::closing::{Closing, Phase};
pub use self::expiry::lease_end::LeaseEnd;
use self::failover::record::Failovers;
pub use self::held_lease::{HeldLease, LeaseId};
use self::held_lease::{LeaseHasher, RELEASED, Was};
use self::holder::announcement::Announcement;
pub use self::inspect::{Found, Listing};
pub use self::observer::{Event, LeaseFacts, LossCause, Observer, Topic};
pub use self::renewal::policy::{Heartbeat, RenewalLimits};
use self::stats::{Counters, Histogram, count};
pub use self::stats::{Stats, Summary};
use crate::backend::Backend;
use crate::backend::contract::{Busy, LockBackend, SyncBackend};
use crate::backend::guarantees::Guarantee;
use crate::error::{Error, Result};
use crate::lease::{AckPolicy, Acks, Holder, HolderId, Owner, PerStrategy, Strategy, Ttl};
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
    /// The first bits of its owners.
    holder_id: HolderId,
    holder: Holder,
    clock: Clock,
    listener: ExpiryListener,
    heartbeat: Arc<dyn Heartbeat>,
    leases: Mutex<Leases>,
    counters: Counters,
    /// How long calls waited that did.
    waits: Histogram,
    /// How long leases were held that were released, handed over or lost.
    holds: Histogram,
    observer: OnceLock<Box<dyn Observer>>,
    /// Notified when the last pending call ends.
    idle: tokio::sync::Notify,
    closing: Closing,
    /// Ends all waiting.
    stop_waiting: CancellationToken,
    /// Ends calls that only read.
    closed: CancellationToken,
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
    announcement: Announcement,
}

/// Why a backend lost leases.
const FILE_GONE: &str = "its lock file was deleted or replaced";

/// Why a lease is lost that its owner does not have any more.
const TAKEN: &str = "another owner took it, it was released by force, or the backend lost its data";

impl Configured {
    fn new(backend: Backend) -> Self {
        let (used, lost_before) = (AtomicBool::new(false), AtomicU64::new(0));
        let (queues, failovers) = (WaitQueues::default(), Failovers::default());
        let announcement = Announcement::new(backend.is_shared());
        Self { backend: Arc::new(backend), queues, used, lost_before, failovers, announcement }
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
    /// No I/O. `holder` is what others see of it. `heartbeat` tells whether the holders of renewed leases are
    /// alive.
    pub fn new(
        backends: impl IntoIterator<Item = (Strategy, Backend)>,
        holder: Holder,
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
            holder_id: HolderId::random(),
            holder,
            clock,
            listener,
            heartbeat,
            leases: Mutex::new(Leases { held: HashMap::default(), phase: Phase::Open, exiting: false }),
            counters: Counters::default(),
            waits: Histogram::default(),
            holds: Histogram::default(),
            observer: OnceLock::new(),
            idle: tokio::sync::Notify::new(),
            closing: Closing::default(),
            stop_waiting: CancellationToken::new(),
            closed: CancellationToken::new(),
        });
        for (strategy, configured) in manager.backends.iter() {
            let Some(configured) = configured else { continue };
            manager.follow_failovers(strategy, &configured.backend);
            manager.follow_connections(strategy, &configured.backend);
            let manager = Arc::downgrade(&manager);
            configured.backend.on_loss(Arc::new(move |since| {
                if let Some(manager) = manager.upgrade() {
                    manager.mark_lost_before(strategy, since);
                }
            }));
        }
        manager
    }

    fn follow_connections(self: &Arc<Self>, strategy: Strategy, backend: &Backend) {
        for connections in backend.connections() {
            let manager = Arc::downgrade(self);
            connections.on_change(Box::new(move |change| {
                if let Some(manager) = manager.upgrade()
                    && let Some(observer) = manager.observer(Topic::Connections)
                {
                    observer.notify(Event::Connection { strategy, change });
                }
            }));
        }
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

    /// Forgets a lease whose handle was dropped. It is not released, because its holder may have kept only
    /// the token. Returns the resource if the lease was still active.
    pub fn forget(&self, id: LeaseId) -> Option<String> {
        let held = self.leases.lock().held.remove(&id)?;
        let was_active = held.end(RELEASED) != Was::Ended && self.clock.boot() < held.deadline();
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

    fn find(&self, id: LeaseId) -> Option<Arc<HeldLease>> {
        self.leases.lock().held.get(&id).cloned()
    }

    /// Ends the lease of a resource, regardless of its owner.
    pub async fn force_release(self: &Arc<Self>, strategy: Strategy, resource: &str) -> Result<bool> {
        let pending = PendingCall::new(self);
        let released = pending.0.accepting(strategy)?.backend.force_release(resource).await;
        released.map_err(|error| self.closed_before(error))
    }

    /// The error of a call: what failed without a trace failed because the manager was closed, if it was.
    fn closed_before(&self, error: Error) -> Error {
        match error {
            Error::BackendUnavailable(_) if self.closed.is_cancelled() => Error::Closed,
            error => error,
        }
    }

    /// What a strategy guarantees on this deployment to locks that require this many acknowledgements.
    pub async fn describe(&self, strategy: Strategy, acks: AckPolicy, ttl: Ttl) -> Result<Guarantee> {
        let backend = self.open_backend(strategy)?;
        unless_closed(&self.closed, backend.describe(acks, ttl)).await
    }

    /// Connects the backend of a strategy.
    pub async fn connect(&self, strategy: Strategy) -> Result<()> {
        let backend = &self.accepting(strategy)?.backend;
        unless_closed(&self.stop_waiting, backend.connect()).await
    }
}

/// What a call returns that can be left at any time, because it grants and ends nothing; an error once this
/// is cancelled.
async fn unless_closed<T>(closed: &CancellationToken, call: impl Future<Output = Result<T>>) -> Result<T> {
    // Looks first whether the call has ended.
    closed.run_until_cancelled(call).await.unwrap_or(Err(Error::Closed))
}
