//! The backend contract on SQLite.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use super::busy::Wait;
use super::config::{Config, Durability};
use super::file::{File, Member, Told};
use super::queue::{self, CHANGE, LOOK, MAKE, Needs};
use super::registry::Registry;
use super::rows::Tx;
use super::store::Access;
use super::{describe, operations, watcher};
use crate::backend::{AckPolicy, Attempt, Guarantee, Info, Request, Waiter};
use crate::clock::{BootInstant, Clock};
use crate::error::{Error, Result};
use crate::home::Home;
use crate::lease::{Owner, Resources, Ttl};

/// For how long a synchronous release that failed is tried again, as nobody says how long the lease was.
const RELEASE_SYNC_UNDO: Duration = Duration::from_secs(60);

/// One lock file, as one manager uses it. Other managers and workers of the process share its thread and its
/// connection.
pub struct SqliteBackend {
    config: Config,
    registry: &'static Registry,
    told: OnceLock<Told>,
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
    pub(super) const fn in_registry(config: Config, registry: &'static Registry) -> Self {
        Self { config, registry, told: OnceLock::new(), membership: Mutex::new(Membership::None) }
    }

    /// See [`crate::backend::Backend::on_loss`].
    pub fn on_loss(&self, told: Told) {
        let _ = self.told.set(told);
    }

    /// See [`crate::backend::Backend::home`]. Opens nothing.
    pub fn home(&self) -> Result<Home> {
        self.file().map(|file| file.home().clone())
    }

    pub(super) fn file(&self) -> Result<Arc<File>> {
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

    /// See [`crate::backend::Backend::connect`].
    pub async fn connect(&self) -> Result<()> {
        queue::submit(&self.file()?, Needs { access: Access::Read, create: true }, (), |_| Ok(())).await
    }

    /// See [`crate::backend::Backend::acquire`].
    pub async fn acquire(&self, request: &Request) -> Result<Attempt> {
        let file = self.file()?;
        let asked = request.clone();
        let work = move |tx: &mut Tx<'_>| operations::acquire(tx, &asked);
        let outcome = queue::submit(&file, MAKE, Attempt::Busy(None), work).await;
        match &request.waiter {
            Some(waiter) if matches!(outcome, Ok(Attempt::Granted(_))) => file.watch.granted(waiter),
            Some(waiter) if waiter.is_fair() => file.watch.stands(waiter),
            _ => {}
        }
        outcome.inspect_err(|error| undo_grant(&file, error, request))
    }

    /// See [`crate::backend::Backend::line_up`].
    #[expect(clippy::unused_async, reason = "the contract is async")]
    pub async fn line_up(&self, resources: &Resources, waiter: &Waiter) -> Result<()> {
        watcher::line_up(&self.file()?, resources, waiter);
        Ok(())
    }

    /// See [`crate::backend::Backend::leave`].
    pub async fn leave(&self, resources: &Resources, waiter: &Waiter) {
        let file = match &*self.membership() {
            Membership::None => None,
            Membership::Joined(member) => Some(Arc::clone(member.file())),
            Membership::Closed(file) => file.upgrade(),
        };
        if let Some(file) = file {
            watcher::leave(&file, resources, waiter).await;
        }
    }

    /// See [`crate::backend::Backend::extend`]. There are no replicas, so the policy asks for nothing.
    pub async fn extend(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        _acks: AckPolicy,
    ) -> Result<BootInstant> {
        let absent = Err(operations::lost(resources.first(), "the lock file was deleted"));
        let resources = resources.clone();
        let work = move |tx: &mut Tx<'_>| operations::extend(tx, &resources, owner, ttl);
        queue::submit(&self.file()?, CHANGE, absent, work).await?
    }

    /// See [`crate::backend::Backend::release`].
    pub async fn release(&self, resources: &Resources, owner: Owner, ttl: Ttl) -> Result<bool> {
        let file = self.file()?;
        let names = resources.clone();
        let work = move |tx: &mut Tx<'_>| operations::release(tx, &names, owner);
        let released = queue::submit(&file, CHANGE, false, work).await;
        released.inspect_err(|error| file.undo_after(error, resources, owner, ttl.as_duration()))
    }

    /// See [`crate::backend::Backend::inspect`].
    pub async fn inspect(&self, resource: &str) -> Result<Option<Info>> {
        let resource = resource.to_owned();
        queue::submit(&self.file()?, LOOK, None, move |tx| operations::inspect(tx, &resource)).await
    }

    /// See [`crate::backend::Backend::force_release`].
    pub async fn force_release(&self, resource: &str) -> Result<bool> {
        let resource = resource.to_owned();
        queue::submit(&self.file()?, CHANGE, false, move |tx| operations::force_release(tx, &resource)).await
    }

    /// See [`crate::backend::Backend::describe`]. Opens the file if it is there, makes none.
    pub async fn describe(&self) -> Result<Guarantee> {
        let file = self.file()?;
        let facts = queue::submit(&file, LOOK, None, |tx| describe::Facts::read(tx).map(Some)).await?;
        let facts = match facts {
            Some(facts) => facts,
            None => self.expect(file.path())?,
        };
        Ok(describe::guarantee(file.path(), &facts))
    }

    /// What the file will be, before there is one.
    fn expect(&self, path: &Path) -> Result<describe::Facts> {
        let kind = (self.registry.filesystem)(path.parent().unwrap_or(path))?;
        let is_durable = self.config.durability == Durability::Full;
        let has_boot_identity = self.registry.clock.identity().is_some();
        Ok(describe::Facts::expected(kind, is_durable, has_boot_identity))
    }

    /// See [`crate::backend::Backend::close`]. The last manager of a file closes it for the process; leases that were
    /// not released run out.
    #[expect(
        clippy::unused_async,
        reason = "the contract is async, and this blocks the file's own thread only"
    )]
    pub async fn close(&self) {
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

    /// The synchronous variant of [`Self::acquire`], on the caller's thread; waits for the file's write lock at most
    /// two seconds.
    pub fn acquire_sync(&self, request: &Request) -> Result<Attempt> {
        let file = self.file()?;
        let mut attempt = Attempt::Busy(None);
        let outcome = file.transact(MAKE, &mut Wait::at_most(self.registry.patience.sync), &mut |tx| {
            attempt = operations::acquire(tx, request)?;
            Ok(())
        });
        outcome.map(|_| attempt).inspect_err(|error| undo_grant(&file, error, request))
    }

    /// The synchronous variant of [`Self::release`].
    pub fn release_sync(&self, resources: &Resources, owner: Owner) -> Result<bool> {
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
