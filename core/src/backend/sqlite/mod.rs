//! Local locks: lease rows in a SQLite file, for the processes of one host.
//!
//! ```text
//! mod          the contract, for async and for synchronous callers
//! process/     the lock files of this process: their threads, users, watch and background undo
//! waiters/     waking waiters; the queue of fair waiters
//! commit/      operations on leases; group commit; one path's file, followed when it is replaced
//! open/        from a path to an open store: creates the file, checks what it is, configures the connection
//! holders/     the holder of a lease, whether it is alive, and removing what dead holders left
//! store/       the open file: one connection, one transaction at a time, the SQL of leases
//! describe/    what a lock file guarantees
//! fs/  retry  environment  errors  config
//! ```
//!
//! Three rules keep the data intact. They are necessary because POSIX locks belong to a process, and the
//! system drops them when *any* of its descriptors of the file is closed
//! (<https://sqlite.org/howtocorrupt.html>, section 2.2):
//! - The database, its -wal and its -shm are opened through SQLite only, never with `std::fs`. The one
//!   exception is a -wal without a database ([`open::leftovers`]), because SQLite locks no -wal.
//! - A file that is not a lock file, or that another copy of fencelock in this process uses, is never closed
//!   once a descriptor is open ([`open::header`]); a second copy refuses ([`holders::liveness`]).
//! - A file that was replaced is closed without touching any file by name ([`open`]).

mod commit;
mod config;
mod describe;
mod environment;
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
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use self::commit::operations;
use self::commit::queries::{self, Page};
pub use self::config::{Config, Durability};
use self::environment::Environment;
use self::process::background_undo::LeaseToUndo;
use self::process::lock_file::{FileUser, LockFile};
use self::process::registry::Registry;
use self::retry::RetryBudget;
use self::store::access::Needs;
use self::store::name::Name;
use self::store::transaction::Tx;
use crate::backend::Waiter;
use crate::backend::contract::{
    Attempt, Busy, Grant, Info, LockBackend, Locks, LossListener, Request, SyncBackend, not_adoptable,
};
use crate::backend::guarantees::Guarantee;
use crate::error::{Call, Error, Result};
use crate::lease::{AckPolicy, Holder, HolderId, Owner, Resources, Ttl};
use crate::runtime::clock::{BootInstant, Clock};
use crate::runtime::executor::Executor;
use crate::runtime::sync::Mutex;

/// How long a failed synchronous release is retried in the background: its caller does not say how long the
/// lease lasts.
const RELEASE_SYNC_UNDO: Duration = Duration::from_secs(60);

/// One lock file, as one manager uses it. Other managers and workers of the process share its thread and its
/// connection.
pub struct SqliteBackend {
    config: Config,
    registry: &'static Registry,
    listener: OnceLock<LossListener>,
    membership: Mutex<Membership>,
}

/// The manager's use of its file.
enum Membership {
    /// It has not used the file yet.
    None,
    Joined(FileUser),
    /// It has stopped using this file. Kept for waiters that leave the queue afterwards.
    Closed(Weak<LockFile>),
}

impl fmt::Debug for SqliteBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl SqliteBackend {
    /// No I/O.
    #[cfg_attr(not(test), expect(clippy::needless_pass_by_value, reason = "tests keep their clock"))]
    pub fn new(config: Config, clock: Clock) -> Self {
        let registry = match clock {
            Clock::System => Registry::process(),
            #[cfg(test)]
            Clock::Fake(_) => Box::leak(Box::new(Registry::new(Environment::new(clock)))),
        };
        Self::in_registry(config, registry)
    }

    /// As part of the process that this registry represents.
    pub(crate) const fn in_registry(config: Config, registry: &'static Registry) -> Self {
        Self { config, registry, listener: OnceLock::new(), membership: Mutex::new(Membership::None) }
    }

    pub(crate) fn file(&self) -> Result<Arc<LockFile>> {
        let mut membership = self.membership.lock();
        if let Membership::None = *membership {
            let listener = self.listener.get_or_init(|| Arc::new(|_| ()));
            *membership = Membership::Joined(self.registry.join(&self.config, Arc::clone(listener))?);
        }
        match &*membership {
            Membership::Joined(user) => Ok(Arc::clone(user.file())),
            Membership::None | Membership::Closed(_) => Err(Error::Closed),
        }
    }

    /// The file that this manager uses or has used, if it is still open.
    fn known_file(&self) -> Option<Arc<LockFile>> {
        match &*self.membership.lock() {
            Membership::None => None,
            Membership::Joined(user) => Some(Arc::clone(user.file())),
            Membership::Closed(file) => file.upgrade(),
        }
    }

    fn environment(&self) -> &'static Environment {
        &self.registry.environment
    }

    /// A budget for a synchronous call.
    fn sync_budget(&self) -> RetryBudget {
        RetryBudget::new(self.environment().timeouts.sync)
    }

    /// What the file at this path will be like, before it exists.
    fn expected_facts(&self, path: &Path) -> Result<describe::FileFacts> {
        let kind = (self.environment().filesystem)(path.parent().unwrap_or(path))?;
        let is_durable = self.config.durability == Durability::Full;
        let has_boot_identity = self.environment().clock.identity().is_some();
        Ok(describe::FileFacts::expected(kind, is_durable, has_boot_identity))
    }
}

/// A listing, in the order of the names.
#[derive(Debug)]
pub struct SqliteListing {
    prefix: Arc<str>,
    /// The last name that was looked at.
    after: Option<Name>,
    /// Whether it was the last of all.
    is_done: bool,
}

impl LockBackend for SqliteBackend {
    type Listing = SqliteListing;

    fn on_loss(&self, listener: LossListener) {
        let _ = self.listener.set(listener);
    }

    /// Opens no file.
    fn executor(&self) -> Result<Executor> {
        self.file().map(|file| file.executor().clone())
    }

    async fn connect(&self) -> Result<()> {
        self.file()?.commits().submit(Needs::OPEN, (), |_| Ok(())).await
    }

    async fn acquire(&self, request: &Request) -> Result<Attempt> {
        let file = self.file()?;
        let requested = request.clone();
        let work = move |tx: &mut Tx<'_>| operations::acquire(tx, &requested);
        let absent = Ok(Attempt::Busy(Busy::default()));
        let outcome = file.commits().submit(Needs::CREATE, absent, work).await.flatten();
        let waiters = file.poller().waiters();
        match &request.waiter {
            Some(waiter) if matches!(outcome, Ok(Attempt::Granted(_))) => waiters.record_granted(waiter),
            Some(waiter) if waiter.is_fair() => waiters.record_queued(waiter),
            _ => {}
        }
        outcome
            .inspect(|attempt| hold(&file, attempt, request))
            .inspect_err(|error| undo_grant(&file, error, request))
    }

    async fn join_queue(&self, resources: &Resources, waiter: &Waiter) -> Result<()> {
        self.file()?.poller().join_queue(resources, waiter);
        Ok(())
    }

    async fn leave_queue(&self, resources: &Resources, waiter: &Waiter) {
        if let Some(file) = self.known_file() {
            file.poller().leave_queue(resources, waiter).await;
        }
    }

    /// There are no replicas, so the policy requires nothing.
    async fn extend(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        _acks: AckPolicy,
    ) -> Result<BootInstant> {
        let file = self.file()?;
        let absent = Err(operations::lost(resources.first(), "the lock file was deleted"));
        let resources = resources.clone();
        let work = move |tx: &mut Tx<'_>| operations::extend(tx, &resources, owner, ttl);
        let sent = file.commits().submit(Needs::KEEP, absent, work).await??;
        file.hold_until(sent + ttl.as_duration());
        Ok(sent)
    }

    async fn release(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        stands_until: Option<BootInstant>,
    ) -> Result<bool> {
        let file = self.file()?;
        let names = resources.clone();
        let work = move |tx: &mut Tx<'_>| operations::release(tx, &names, owner, stands_until);
        let released = file.commits().submit(Needs::END, false, work).await;
        let lease = || LeaseToUndo { resources: resources.clone(), owner, stands_until };
        released.inspect_err(|error| file.undo_after(error, lease, ttl.as_duration()))
    }

    async fn hand_over(&self, resources: &Resources, owner: Owner) -> Result<()> {
        let absent = Err(operations::lost(resources.first(), "the lock file was deleted"));
        let resources = resources.clone();
        let work = move |tx: &mut Tx<'_>| operations::hand_over(tx, &resources, owner);
        self.file()?.commits().submit(Needs::KEEP, absent, work).await?
    }

    async fn adopt(&self, request: &Request, from: Owner) -> Result<Grant> {
        let file = self.file()?;
        let requested = request.clone();
        let work = move |tx: &mut Tx<'_>| operations::adopt(tx, &requested, from);
        let absent = Err(not_adoptable(request.resources.first()));
        let outcome = file.commits().submit(Needs::KEEP, absent, work).await.flatten();
        outcome
            .inspect(|grant| file.hold_until(grant.sent + request.ttl.as_duration()))
            .inspect_err(|error| undo_grant(&file, error, request))
    }

    async fn inspect(&self, resource: &str) -> Result<Option<Info>> {
        let file = self.file()?;
        let resource = resource.to_owned();
        let poller = Arc::clone(file.poller());
        let work = move |tx: &mut Tx<'_>| queries::inspect(tx, &resource, poller.waiters());
        file.commits().submit(Needs::READ, None, work).await
    }

    fn list(&self, prefix: &str) -> SqliteListing {
        SqliteListing { prefix: prefix.into(), after: None, is_done: false }
    }

    /// Each page is a read transaction of its own, so a listing keeps no snapshot.
    async fn next_page(&self, listing: &mut SqliteListing) -> Result<Option<Locks>> {
        let file = self.file()?;
        if listing.is_done {
            return Ok(None);
        }
        let (prefix, after) = (Arc::clone(&listing.prefix), listing.after.clone());
        let poller = Arc::clone(file.poller());
        let work = move |tx: &mut Tx<'_>| queries::list(tx, &prefix, after.as_ref(), poller.waiters());
        let Page { locks, last } = file.commits().submit(Needs::READ, Page::default(), work).await?;
        (listing.is_done, listing.after) = (last.is_none(), last);
        Ok(Some(locks))
    }

    async fn announce(&self, id: HolderId, holder: &Holder, lasts: Duration) -> Result<()> {
        let (file, holder) = (self.file()?, holder.clone());
        let work = move |tx: &mut Tx<'_>| tx.write_holder(id, &holder, lasts);
        let is_written = file.commits().submit(Needs::WRITE, false, work).await?;
        is_written
            .then_some(())
            .ok_or_else(|| Error::unavailable("the lock file is gone, or has another table of holders"))
    }

    async fn look_up_holder(&self, id: HolderId) -> Option<Holder> {
        let file = self.file().ok()?;
        file.commits().submit(Needs::READ, None, move |tx| tx.holder(id)).await.ok().flatten()
    }

    async fn force_release(&self, resource: &str) -> Result<bool> {
        let file = self.file()?;
        let resource = resource.to_owned();
        file.commits().submit(Needs::WRITE, false, move |tx| operations::force_release(tx, &resource)).await
    }

    /// Opens the file if it exists, but does not create it.
    async fn describe(&self, _acks: AckPolicy, _ttl: Ttl) -> Result<Guarantee> {
        let file = self.file()?;
        let read = |tx: &mut Tx<'_>| describe::FileFacts::read(tx).map(Some);
        let path = file.committer().path();
        let facts = match file.commits().submit(Needs::READ, None, read).await? {
            Some(facts) => facts,
            None => self.expected_facts(path)?,
        };
        let access = describe::AccessFacts::read(path, &self.config);
        Ok(describe::guarantee(path, &facts, &access))
    }

    /// Those of all managers that share the file.
    fn pending_cleanups(&self) -> usize {
        self.known_file().map_or(0, |file| file.pending_undos())
    }

    /// The last manager of a file closes it for the process; leases that were not released expire.
    async fn close(&self) {
        // Drops the file, with its thread, now instead of when this manager is garbage-collected.
        let previous = {
            let mut membership = self.membership.lock();
            let file = match &*membership {
                Membership::None => Weak::new(),
                Membership::Joined(user) => Arc::downgrade(user.file()),
                Membership::Closed(_) => return,
            };
            std::mem::replace(&mut *membership, Membership::Closed(file))
        };
        if let Membership::Joined(user) = previous {
            user.leave();
        }
    }
}

impl SyncBackend for SqliteBackend {
    fn reopen(&self) {
        let mut membership = self.membership.lock();
        if let Membership::Closed(_) = *membership {
            *membership = Membership::None;
        }
    }

    fn acquire_sync(&self, request: &Request) -> Result<Attempt> {
        let file = self.file()?;
        let mut attempt = Ok(Attempt::Busy(Busy::default()));
        let outcome = file.committer().transact(Needs::CREATE, &mut self.sync_budget(), &mut |tx| {
            attempt = operations::acquire(tx, request)?;
            Ok(())
        });
        outcome
            .and(attempt)
            .inspect(|attempt| hold(&file, attempt, request))
            .inspect_err(|error| undo_grant(&file, error, request))
    }

    fn release_sync(
        &self,
        resources: &Resources,
        owner: Owner,
        stands_until: Option<BootInstant>,
    ) -> Result<bool> {
        let file = self.file()?;
        let mut released = false;
        let outcome = file.committer().transact(Needs::WRITE, &mut self.sync_budget(), &mut |tx| {
            released = operations::release(tx, resources, owner, stands_until)?;
            Ok(())
        });
        let lease = || LeaseToUndo { resources: resources.clone(), owner, stands_until };
        outcome
            .map(|has_run| has_run && released)
            .inspect_err(|error| file.undo_after(error, lease, RELEASE_SYNC_UNDO))
            .map_err(|error| error.of(Call::Release))
    }
}

/// Has the file checked while a lease is held that was granted.
fn hold(file: &LockFile, attempt: &Attempt, request: &Request) {
    if let Attempt::Granted(grant) = attempt {
        file.hold_until(grant.sent + request.ttl.as_duration());
    }
}

/// Only an attempt with an unknown outcome can have granted something.
fn undo_grant(file: &LockFile, error: &Error, request: &Request) {
    if matches!(error, Error::OutcomeUnknown(_)) {
        let Request { resources, owner, .. } = request;
        let lease = || LeaseToUndo { resources: resources.clone(), owner: *owner, stands_until: None };
        file.undo_after(error, lease, request.lasts().as_duration());
    }
}
