//! A manager's leases: which it holds, until when, and what became of them. Everything here works without JavaScript.

mod acquire;
mod close;
mod expiry;
mod extend;
mod held_lease;
mod renewal;
mod stats;
#[cfg(test)]
mod tests;
mod wait_queue;
mod watch;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use self::acquire::Wanted;
use self::acquire::{Cancels, Outcome};
pub use self::held_lease::{HeldLease, LeaseId};
use self::held_lease::{LeaseHasher, RELEASED};
pub use self::renewal::policy::{Limits, Pulse};
pub use self::stats::Stats;
use self::stats::{Counted, Counters, count};
use self::wait_queue::WaitQueues;
use crate::backend::Backend;
use crate::backend::contract::{Grant, Info, LockBackend, Request, SyncBackend};
use crate::backend::guarantees::Guarantee;
use crate::error::{Error, Result};
use crate::lease::{Acks, Owner, PerStrategy, Strategy};
use crate::runtime::cancellation::Cancel;
use crate::runtime::clock::{BootInstant, Clock};

/// Told of the end of a watched lease: which one, and why in words.
pub type Observer = Box<dyn Fn(LeaseId, String) + Send + Sync>;

/// What an acquire returns to its caller.
#[derive(Debug)]
pub enum Acquired {
    /// A new lease.
    Granted {
        /// Its name from now on.
        id: LeaseId,
        /// Its owner.
        owner: Owner,
        /// Its fencing token.
        token: u64,
        /// The lease, which may be lost before anybody takes it.
        held: Arc<HeldLease>,
        /// What proved it, for backends with replicas.
        acks: Option<Acks>,
    },
    /// Somebody else has it, for this much longer if the backend can tell.
    Busy(Option<Duration>),
}

/// The leases of one `LockManager`, and the backends that keep them.
pub struct Manager {
    backends: PerStrategy<Option<Configured>>,
    clock: Clock,
    observer: Observer,
    pulse: Arc<dyn Pulse>,
    /// A std mutex: nothing awaits while it is held.
    leases: Mutex<Leases>,
    counters: Counters,
    idle: tokio::sync::Notify,
    /// Ends all waiting.
    closing: Cancel,
}

/// A backend, and what its manager knows of it.
#[derive(Debug)]
struct Configured {
    backend: Arc<Backend>,
    /// Where callers wait for each other.
    queues: WaitQueues,
    /// Whether anybody asked for it: an unused one has nothing to close, not even a thread.
    used: AtomicBool,
    /// Microseconds on the boot clock: what was granted before is gone.
    lost_before: AtomicU64,
}

/// Why leases are lost that nobody asked about.
const FILE_GONE: &str = "the lock file it was in was deleted or replaced";

impl Configured {
    /// Whether a lease that was asked for at this moment is gone.
    fn lost(&self, sent: BootInstant) -> bool {
        sent.as_micros() < self.lost_before.load(Ordering::Acquire)
    }

    fn new(backend: Backend) -> Self {
        let (used, lost_before) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { backend: Arc::new(backend), queues: WaitQueues::default(), used, lost_before }
    }
}

struct Leases {
    held: HashMap<LeaseId, Arc<HeldLease>, BuildHasherDefault<LeaseHasher>>,
    closed: bool,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manager").field("backends", &self.backends).finish_non_exhaustive()
    }
}

/// Counts an attempt as pending while it lives.
struct Pending(Arc<Manager>);

impl Pending {
    fn new(manager: &Arc<Manager>) -> Self {
        count(&manager.counters.pending);
        Self(Arc::clone(manager))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.0.counters.pending.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl Manager {
    /// No I/O. `observer` is called from any thread, must not block, and must not call back. `pulse` tells whether the
    /// holders are alive, for leases that are renewed.
    pub fn new(
        backends: impl IntoIterator<Item = (Strategy, Backend)>,
        clock: Clock,
        observer: Observer,
        pulse: Arc<dyn Pulse>,
    ) -> Arc<Self> {
        let mut configured = PerStrategy::default();
        for (strategy, backend) in backends {
            *configured.get_mut(strategy) = Some(Configured::new(backend));
        }
        let manager = Arc::new(Self {
            backends: configured,
            clock,
            observer,
            pulse,
            leases: Mutex::new(Leases { held: HashMap::default(), closed: false }),
            counters: Counters::default(),
            idle: tokio::sync::Notify::new(),
            closing: Cancel::default(),
        });
        for (strategy, configured) in manager.backends.iter() {
            let Some(configured) = configured else { continue };
            let manager = Arc::downgrade(&manager);
            configured.backend.on_loss(Arc::new(move |since| {
                if let Some(manager) = manager.upgrade() {
                    manager.lose_before(strategy, since);
                }
            }));
        }
        manager
    }

    fn configured(&self, strategy: Strategy) -> Result<&Configured> {
        self.backends.get(strategy).as_ref().ok_or_else(|| Error::invalid(strategy.not_configured()))
    }

    /// The backend of a strategy.
    pub fn backend(&self, strategy: Strategy) -> Result<&Arc<Backend>> {
        let configured = self.configured(strategy)?;
        configured.used.store(true, Ordering::Relaxed);
        Ok(&configured.backend)
    }

    /// Gets a lease, with one attempt or with as many as its time allows, unless it is cancelled. It is pending from now
    /// on, however late the future is polled.
    pub fn acquire(
        self: &Arc<Self>,
        strategy: Strategy,
        wanted: Wanted,
        cancel: Option<Arc<Cancel>>,
    ) -> impl Future<Output = Result<Acquired>> + Send + use<> {
        // Until a grant that nobody can hold was given back, too: closing waits for that.
        let pending = Pending::new(self);
        async move {
            let manager = &pending.0;
            let configured = manager.open(strategy)?;
            let (request, outcome) = if wanted.wait.is_zero() {
                let request = wanted.first();
                let outcome = acquire::attempt(&configured.backend, &manager.clock, &request).await;
                (request, outcome)
            } else {
                Box::pin(manager.wait(configured, &wanted, &cancel.unwrap_or_default())).await
            };
            let granted = matches!(outcome, Ok(Outcome::Granted { .. }));
            let acquired = manager.take(strategy, &request, wanted.renew, outcome);
            if granted && matches!(acquired, Err(Error::Closed)) {
                acquire::give_back(&configured.backend, &request).await;
            }
            acquired
        }
    }

    async fn wait(
        &self,
        Configured { backend, queues, .. }: &Configured,
        wanted: &Wanted,
        cancel: &Cancel,
    ) -> (Request, Result<Outcome>) {
        let _waiting = Counted::new(&self.counters.waiting);
        let cancels = Cancels { call: cancel, manager: &self.closing };
        acquire::wait(backend, queues, &self.clock, wanted, cancels).await
    }

    /// Makes one attempt on the calling thread, with a strategy whose backend can.
    pub fn acquire_sync(self: &Arc<Self>, strategy: Strategy, wanted: &Wanted) -> Result<Acquired> {
        let request = &wanted.first();
        let backend = sync(self.open_backend(strategy)?)?;
        let outcome = acquire::judge(backend.acquire_sync(request), &self.clock, request);
        if matches!(outcome, Err(Error::LockLost(_))) {
            let _ = backend.release_sync(&request.resources, request.owner);
        }
        self.take(strategy, request, wanted.renew, outcome)
    }

    /// The backend of a strategy, unless the manager was closed.
    pub fn open_backend(&self, strategy: Strategy) -> Result<&Arc<Backend>> {
        Ok(&self.open(strategy)?.backend)
    }

    fn open(&self, strategy: Strategy) -> Result<&Configured> {
        if self.lock().closed {
            return Err(Error::Closed);
        }
        let configured = self.configured(strategy)?;
        configured.used.store(true, Ordering::Relaxed);
        Ok(configured)
    }

    /// Books the outcome of an attempt. [`Error::Closed`]: there was a grant, and nobody to hold it.
    fn take(
        self: &Arc<Self>,
        strategy: Strategy,
        request: &Request,
        renew: Option<Limits>,
        outcome: Result<Outcome>,
    ) -> Result<Acquired> {
        let counters = &self.counters;
        match outcome {
            Ok(Outcome::Granted { grant, deadline }) => {
                let held = self.hold(HeldLease::new(strategy, request, grant.sent, deadline, renew))?;
                count(&counters.granted);
                self.keep_alive(&held);
                let Grant { token, acks, .. } = grant;
                Ok(Acquired::Granted { id: held.id, owner: request.owner, token, held, acks })
            }
            Ok(Outcome::Busy(remaining)) => {
                count(&counters.busy);
                Ok(Acquired::Busy(remaining))
            }
            Err(error) => {
                count(match error {
                    Error::InsufficientReplicas(_) => &counters.insufficient,
                    Error::OutcomeUnknown(_) => &counters.unknown,
                    _ => &counters.failed,
                });
                Err(error)
            }
        }
    }

    fn hold(&self, held: HeldLease) -> Result<Arc<HeldLease>> {
        let mut leases = self.lock();
        if leases.closed {
            return Err(Error::Closed);
        }
        // Under the lock, so that whoever loses leases sees this one or is seen here.
        if self.configured(held.strategy).is_ok_and(|configured| configured.lost(held.sent)) {
            return Err(Error::lost(format!("{FILE_GONE}; try again")));
        }
        let held = Arc::new(held);
        leases.held.insert(held.id, Arc::clone(&held));
        Ok(held)
    }

    /// For how much longer the holder may count on the lease; zero when it may not.
    pub fn remaining(&self, id: LeaseId) -> Duration {
        self.find(id).map_or(Duration::ZERO, |held| held.remaining(self.clock.boot()))
    }

    /// Ends a lease. It is out of the books at once, so that a manager that is closed next finds nothing to end; the future
    /// does the rest, and answers `false` if the backend knew the lease no more. `None`: it is not in the books.
    pub fn release(
        self: &Arc<Self>,
        id: LeaseId,
    ) -> Option<impl Future<Output = Result<bool>> + Send + use<>> {
        let held = self.let_go(id)?;
        // Closing waits for it.
        let pending = Pending::new(self);
        Some(async move {
            let manager = &pending.0;
            let backend = manager.backend(held.strategy)?;
            manager.booked(backend.release(&held.resources, held.owner, held.longest()).await)
        })
    }

    /// Ends a local lease on the calling thread.
    pub fn release_sync(&self, id: LeaseId) -> Result<bool> {
        let Some(held) = self.let_go(id) else { return Ok(false) };
        self.booked(sync(self.backend(held.strategy)?)?.release_sync(&held.resources, held.owner))
    }

    fn booked(&self, released: Result<bool>) -> Result<bool> {
        match released {
            Ok(true) => count(&self.counters.released),
            Ok(false) => count(&self.counters.lost),
            Err(_) => {}
        }
        released
    }

    /// Forgets a lease whose handle is gone. It is not released: its holder may have kept the token alone. Answers
    /// the resource if the lease still stood.
    pub fn forget(&self, id: LeaseId) -> Option<String> {
        let held = self.lock().held.remove(&id)?;
        let stood = held.end(RELEASED) && self.clock.boot() < held.deadline();
        stood.then(|| held.resources.first().to_owned())
    }

    /// Takes a lease out of the books. Whoever gets it is the only one who does.
    fn let_go(&self, id: LeaseId) -> Option<Arc<HeldLease>> {
        let held = self.lock().held.remove(&id)?;
        held.end(RELEASED);
        Some(held)
    }

    /// The clock that deadlines are judged by.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Who holds a resource.
    pub async fn inspect(&self, strategy: Strategy, resource: &str) -> Result<Option<Info>> {
        self.open_backend(strategy)?.inspect(resource).await
    }

    /// Ends whatever lease the resource has.
    pub async fn force_release(&self, strategy: Strategy, resource: &str) -> Result<bool> {
        self.open_backend(strategy)?.force_release(resource).await
    }

    /// What a strategy guarantees on this deployment, to locks that ask for so many acknowledgements.
    pub async fn describe(&self, strategy: Strategy, acks: u32) -> Result<Guarantee> {
        self.open_backend(strategy)?.describe(acks).await
    }

    /// Connects the backend of a strategy.
    pub async fn connect(&self, strategy: Strategy) -> Result<()> {
        self.open_backend(strategy)?.connect().await
    }

    /// What this manager has done so far.
    pub fn stats(&self) -> Stats {
        let backends = self.backends.iter().filter_map(|(_, configured)| configured.as_ref());
        let cleanups = backends.map(|configured| configured.backend.pending_cleanups() as u64).sum();
        Stats { held: self.lock().held.len() as u64, cleanups, ..self.counters.read() }
    }

    fn find(&self, id: LeaseId) -> Option<Arc<HeldLease>> {
        self.lock().held.get(&id).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Leases> {
        // Every change under the lock is a single step, so a panic in between leaves nothing half done.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a backend does on the calling thread.
fn sync(backend: &Backend) -> Result<&dyn SyncBackend> {
    backend.as_sync().ok_or_else(|| Error::invalid("this strategy has no synchronous calls"))
}
