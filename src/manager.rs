//! A manager's leases: which it holds, until when, and what became of them. Everything here works without JavaScript.

mod close;
mod extension;
mod loss;
mod renewal;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::acquire::{self, Cancels, Outcome, Wanted};
use crate::backend::{Backend, Grant, Guarantee, Info, Request};
use crate::cancel::Cancel;
use crate::clock::{BootInstant, Clock};
use crate::error::{Error, Result};
pub use crate::held::{Held, LeaseId, Strategy};
use crate::held::{LeaseHasher, RELEASED};
use crate::lease::{Acks, Owner};
use crate::renew::{Limits, Pulse};
use crate::room::Room;
pub use crate::stats::Stats;
use crate::stats::{Counted, Counters, count};

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
        held: Arc<Held>,
        /// What proved it, for backends with replicas.
        acks: Option<Acks>,
    },
    /// Somebody else has it, for this much longer if the backend can tell.
    Busy(Option<Duration>),
}

/// The leases of one `LockManager`, and the backends that keep them.
pub struct Manager {
    strong: Option<Configured>,
    local: Option<Configured>,
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
    room: Room,
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
        Self { backend: Arc::new(backend), room: Room::default(), used, lost_before }
    }
}

struct Leases {
    held: HashMap<LeaseId, Arc<Held>, BuildHasherDefault<LeaseHasher>>,
    closed: bool,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manager")
            .field("strong", &self.strong)
            .field("local", &self.local)
            .finish_non_exhaustive()
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
        strong: Option<Backend>,
        local: Option<Backend>,
        clock: Clock,
        observer: Observer,
        pulse: Arc<dyn Pulse>,
    ) -> Arc<Self> {
        let manager = Arc::new(Self {
            strong: strong.map(Configured::new),
            local: local.map(Configured::new),
            clock,
            observer,
            pulse,
            leases: Mutex::new(Leases { held: HashMap::default(), closed: false }),
            counters: Counters::default(),
            idle: tokio::sync::Notify::new(),
            closing: Cancel::default(),
        });
        for strategy in [Strategy::Strong, Strategy::Local] {
            if let Some(configured) = manager.configured(strategy) {
                let told = Arc::downgrade(&manager);
                configured.backend.on_loss(move |since| {
                    if let Some(manager) = told.upgrade() {
                        manager.lose_before(strategy, since);
                    }
                });
            }
        }
        manager
    }

    const fn configured(&self, strategy: Strategy) -> Option<&Configured> {
        match strategy {
            Strategy::Strong => self.strong.as_ref(),
            Strategy::Local => self.local.as_ref(),
        }
    }

    /// The backend of a strategy.
    pub fn backend(&self, strategy: Strategy) -> Result<&Arc<Backend>> {
        let configured = self.configured(strategy).ok_or_else(|| {
            Error::invalid(match strategy {
                Strategy::Strong => {
                    "strong locks need a Redis server: new LockManager({ redis: 'redis://…' })"
                }
                Strategy::Local => "this manager has no file for local locks",
            })
        })?;
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
            let backend = manager.open_backend(strategy)?;
            let (request, outcome) = if wanted.wait.is_zero() {
                let request = wanted.first();
                let outcome = acquire::attempt(backend, &manager.clock, &request).await;
                (request, outcome)
            } else {
                Box::pin(manager.wait(strategy, &wanted, &cancel.unwrap_or_default())).await
            };
            let granted = matches!(outcome, Ok(Outcome::Granted { .. }));
            let acquired = manager.take(strategy, &request, wanted.renew, outcome);
            if granted && matches!(acquired, Err(Error::Closed)) {
                acquire::give_back(backend, &request).await;
            }
            acquired
        }
    }

    async fn wait(&self, strategy: Strategy, wanted: &Wanted, cancel: &Cancel) -> (Request, Result<Outcome>) {
        let Some(Configured { backend, room, .. }) = self.configured(strategy) else {
            unreachable!("the caller has looked");
        };
        let _waiting = Counted::new(&self.counters.waiting);
        let cancels = Cancels { call: cancel, manager: &self.closing };
        acquire::wait(backend, room, &self.clock, wanted, cancels).await
    }

    /// Makes one attempt on the calling thread, which only local locks can.
    pub fn acquire_sync(self: &Arc<Self>, wanted: &Wanted) -> Result<Acquired> {
        let request = &wanted.first();
        let Backend::Sqlite(sqlite) = &**self.open_backend(Strategy::Local)? else {
            unreachable!("local locks live in SQLite")
        };
        let outcome = acquire::judge(sqlite.acquire_sync(request), &self.clock, request);
        if matches!(outcome, Err(Error::LockLost(_))) {
            let _ = sqlite.release_sync(&request.resources, request.owner);
        }
        self.take(Strategy::Local, request, wanted.renew, outcome)
    }

    /// The backend of a strategy, unless the manager was closed.
    pub(crate) fn open_backend(&self, strategy: Strategy) -> Result<&Arc<Backend>> {
        if self.lock().closed {
            return Err(Error::Closed);
        }
        self.backend(strategy)
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
                let held = self.hold(Held::new(strategy, request, grant.sent, deadline, renew))?;
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

    fn hold(&self, held: Held) -> Result<Arc<Held>> {
        let mut leases = self.lock();
        if leases.closed {
            return Err(Error::Closed);
        }
        // Under the lock, so that whoever loses leases sees this one or is seen here.
        if self.configured(held.strategy).is_some_and(|configured| configured.lost(held.sent)) {
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
        let Backend::Sqlite(sqlite) = &**self.backend(held.strategy)? else {
            unreachable!("only local locks have a synchronous release")
        };
        self.booked(sqlite.release_sync(&held.resources, held.owner))
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
    fn let_go(&self, id: LeaseId) -> Option<Arc<Held>> {
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
        let cleanups = match self.strong.as_ref().map(|strong| &*strong.backend) {
            Some(Backend::Redis(redis)) => redis.pending_cleanups() as u64,
            _ => 0,
        };
        Stats { held: self.lock().held.len() as u64, cleanups, ..self.counters.read() }
    }

    fn find(&self, id: LeaseId) -> Option<Arc<Held>> {
        self.lock().held.get(&id).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Leases> {
        // Every change under the lock is a single step, so a panic in between leaves nothing half done.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
