//! Local locks: lease rows in a SQLite file, for the processes of one host.
//!
//! ```text
//! backend      the contract; sync and async entry
//! file  queue  a lock file of this process: thread, group commit, background undo · registry: who shares it
//! operations   acquire, extend, release … as functions of a transaction · describe · purge · sweep
//! rows         the leases, in SQL · holder: whose lease it is, and when it ends
//! watcher      who waits, and how they are woken · line: the fair waiters, in SQL
//! store        the open file: one transaction at a time, on one connection · snapshot: kept between them · side: its -wal and -shm
//! open         identity (whose file is it) → liveness → connection · create: making it, raced by others
//! place  filesystem  busy  failure   paths and inodes, network or not, patience, errors in words
//! ```
//!
//! Three rules keep the data whole; each is about POSIX locks, which belong to a process and vanish when *any* of its
//! descriptors of the file is closed (<https://sqlite.org/howtocorrupt.html>, section 2.2):
//! - The database, its -wal and its -shm are opened through SQLite only, never with `std::fs`.
//! - A file that is not ours, or that another copy of fencelock in this process uses, is never closed once a
//!   descriptor is open ([`identity`]); a second copy refuses ([`liveness`]).
//! - A file that was replaced is closed without touching anything by name ([`store`]).

mod commit;
mod config;
mod describe;
mod errors;
mod fs;
mod holders;
mod open;
mod process;
mod retry;
mod store;
#[cfg(test)]
mod tests;
mod waiters;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use self::commit::group_commit::{self, CHANGE, LOOK, MAKE, Needs};
use self::commit::operations;
pub use self::config::{Config, Durability};
use self::process::lock_file::{File, Member};
use self::process::registry::Registry;
use self::retry::Wait;
use self::store::Access;
use self::store::rows::Tx;
use self::waiters::poller;
use crate::backend::Waiter;
use crate::backend::contract::{Attempt, Info, LockBackend, LossListener, Request, SyncBackend};
use crate::backend::guarantees::Guarantee;
use crate::error::{Error, Result};
use crate::lease::{AckPolicy, Owner, Resources, Ttl};
use crate::runtime::clock::{BootInstant, Clock};
use crate::runtime::executor::Executor;

/// For how long a synchronous release that failed is tried again, as nobody says how long the lease was.
const RELEASE_SYNC_UNDO: Duration = Duration::from_secs(60);

/// One lock file, as one manager uses it. Other managers and workers of the process share its thread and its
/// connection.
pub struct SqliteBackend {
    config: Config,
    registry: &'static Registry,
    told: OnceLock<LossListener>,
    // A std Mutex: nothing awaits while it is held.
    membership: Mutex<Membership>,
}

/// What the manager has of its file.
enum Membership {
    /// Nobody has asked for anything yet.
    None,
    Joined(Member),
    /// The file that was used, for waiters that leave after that.
    Closed(Weak<File>),
}

impl fmt::Debug for SqliteBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl SqliteBackend {
    /// No I/O.
    #[cfg_attr(not(test), expect(clippy::needless_pass_by_value, reason = "a clock of tests is kept"))]
    pub fn new(config: Config, clock: Clock) -> Self {
        let registry = match clock {
            Clock::System => Registry::process(),
            #[cfg(test)]
            Clock::Fake(_) => Box::leak(Box::new(Registry::new(clock))),
        };
        Self::in_registry(config, registry)
    }

    /// As part of the process that this registry stands for.
    pub(crate) const fn in_registry(config: Config, registry: &'static Registry) -> Self {
        Self { config, registry, told: OnceLock::new(), membership: Mutex::new(Membership::None) }
    }

    pub(crate) fn file(&self) -> Result<Arc<File>> {
        let mut membership = self.membership();
        if let Membership::None = *membership {
            let told = self.told.get_or_init(|| Arc::new(|_| ()));
            *membership = Membership::Joined(self.registry.join(&self.config, Arc::clone(told))?);
        }
        match &*membership {
            Membership::Joined(member) => Ok(Arc::clone(member.file())),
            Membership::None | Membership::Closed(_) => Err(Error::Closed),
        }
    }

    fn membership(&self) -> MutexGuard<'_, Membership> {
        self.membership.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the file will be, before there is one.
    fn expect(&self, path: &Path) -> Result<describe::Facts> {
        let kind = (self.registry.filesystem)(path.parent().unwrap_or(path))?;
        let is_durable = self.config.durability == Durability::Full;
        let has_boot_identity = self.registry.clock.identity().is_some();
        Ok(describe::Facts::expected(kind, is_durable, has_boot_identity))
    }
}

impl LockBackend for SqliteBackend {
    fn on_loss(&self, listener: LossListener) {
        let _ = self.told.set(listener);
    }

    /// See [`crate::backend::contract::LockBackend::executor`]. Opens nothing.
    fn executor(&self) -> Result<Executor> {
        self.file().map(|file| file.executor().clone())
    }

    async fn connect(&self) -> Result<()> {
        group_commit::submit(&self.file()?, Needs { access: Access::Read, create: true }, (), |_| Ok(()))
            .await
    }

    async fn acquire(&self, request: &Request) -> Result<Attempt> {
        let file = self.file()?;
        let asked = request.clone();
        let work = move |tx: &mut Tx<'_>| operations::acquire(tx, &asked);
        let outcome = group_commit::submit(&file, MAKE, Attempt::Busy(None), work).await;
        match &request.waiter {
            Some(waiter) if matches!(outcome, Ok(Attempt::Granted(_))) => file.watch.granted(waiter),
            Some(waiter) if waiter.is_fair() => file.watch.stands(waiter),
            _ => {}
        }
        outcome.inspect_err(|error| undo_grant(&file, error, request))
    }

    async fn join_queue(&self, resources: &Resources, waiter: &Waiter) -> Result<()> {
        poller::line_up(&self.file()?, resources, waiter);
        Ok(())
    }

    async fn leave_queue(&self, resources: &Resources, waiter: &Waiter) {
        let file = match &*self.membership() {
            Membership::None => None,
            Membership::Joined(member) => Some(Arc::clone(member.file())),
            Membership::Closed(file) => file.upgrade(),
        };
        if let Some(file) = file {
            poller::leave(&file, resources, waiter).await;
        }
    }

    /// See [`crate::backend::contract::LockBackend::extend`]. There are no replicas, so the policy asks for nothing.
    async fn extend(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        _acks: AckPolicy,
    ) -> Result<BootInstant> {
        let absent = Err(operations::lost(resources.first(), "the lock file was deleted"));
        let resources = resources.clone();
        let work = move |tx: &mut Tx<'_>| operations::extend(tx, &resources, owner, ttl);
        group_commit::submit(&self.file()?, CHANGE, absent, work).await?
    }

    async fn release(&self, resources: &Resources, owner: Owner, ttl: Ttl) -> Result<bool> {
        let file = self.file()?;
        let names = resources.clone();
        let work = move |tx: &mut Tx<'_>| operations::release(tx, &names, owner);
        let released = group_commit::submit(&file, CHANGE, false, work).await;
        released.inspect_err(|error| file.undo_after(error, resources, owner, ttl.as_duration()))
    }

    async fn inspect(&self, resource: &str) -> Result<Option<Info>> {
        let resource = resource.to_owned();
        group_commit::submit(&self.file()?, LOOK, None, move |tx| operations::inspect(tx, &resource)).await
    }

    async fn force_release(&self, resource: &str) -> Result<bool> {
        let resource = resource.to_owned();
        group_commit::submit(&self.file()?, CHANGE, false, move |tx| operations::force_release(tx, &resource))
            .await
    }

    /// See [`crate::backend::contract::LockBackend::describe`]. Opens the file if it is there, makes none.
    async fn describe(&self, _acks: u32) -> Result<Guarantee> {
        let file = self.file()?;
        let facts = group_commit::submit(&file, LOOK, None, |tx| describe::Facts::read(tx).map(Some)).await?;
        let facts = match facts {
            Some(facts) => facts,
            None => self.expect(file.path())?,
        };
        Ok(describe::guarantee(file.path(), &facts))
    }

    /// See [`crate::backend::contract::LockBackend::close`]. The last manager of a file closes it for the process; leases that were
    /// not released run out.
    async fn close(&self) {
        // The file, its thread included, must not wait for this manager to be garbage-collected.
        let left = {
            let mut membership = self.membership();
            let file = match &*membership {
                Membership::None => Weak::new(),
                Membership::Joined(member) => Arc::downgrade(member.file()),
                Membership::Closed(_) => return,
            };
            std::mem::replace(&mut *membership, Membership::Closed(file))
        };
        if let Membership::Joined(member) = left {
            member.leave();
        }
    }
}

impl SyncBackend for SqliteBackend {
    /// The synchronous variant of [`Self::acquire`], on the caller's thread; waits for the file's write lock at most
    /// two seconds.
    fn acquire_sync(&self, request: &Request) -> Result<Attempt> {
        let file = self.file()?;
        let mut attempt = Attempt::Busy(None);
        let outcome = file.transact(MAKE, &mut Wait::at_most(self.registry.patience.sync), &mut |tx| {
            attempt = operations::acquire(tx, request)?;
            Ok(())
        });
        outcome.map(|_| attempt).inspect_err(|error| undo_grant(&file, error, request))
    }

    /// The synchronous variant of [`Self::release`].
    fn release_sync(&self, resources: &Resources, owner: Owner) -> Result<bool> {
        let file = self.file()?;
        let mut released = false;
        let outcome = file.transact(CHANGE, &mut Wait::at_most(self.registry.patience.sync), &mut |tx| {
            released = operations::release(tx, resources, owner)?;
            Ok(())
        });
        outcome
            .map(|_| released)
            .inspect_err(|error| file.undo_after(error, resources, owner, RELEASE_SYNC_UNDO))
    }
}

/// Only an unknown outcome can have granted something.
fn undo_grant(file: &Arc<File>, error: &Error, request: &Request) {
    if matches!(error, Error::OutcomeUnknown(_)) {
        file.undo_after(error, &request.resources, request.owner, request.ttl.as_duration());
    }
}
