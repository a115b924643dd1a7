//! One lock file of this process: its thread, its queue, the store that has it open, and those who use it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use super::registry::Registry;
use crate::backend::contract::LossListener;
use crate::backend::sqlite::commit::group_commit::{self, CHANGE, Needs, Queue};
use crate::backend::sqlite::commit::operations;
use crate::backend::sqlite::errors;
use crate::backend::sqlite::fs::paths;
use crate::backend::sqlite::holders::reaper;
use crate::backend::sqlite::open;
use crate::backend::sqlite::retry::Wait;
use crate::backend::sqlite::store::read_snapshot;
use crate::backend::sqlite::store::rows::Tx;
use crate::backend::sqlite::store::{Done, Store};
use crate::backend::sqlite::waiters::poller::Watch;
use crate::error::{Error, Result};
use crate::lease::{Owner, Resources};
use crate::runtime::clock::BootInstant;
use crate::runtime::executor::Executor;

/// Pauses between tries to undo something, each twice the one before.
const UNDO_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A lock file, open or not.
pub struct File {
    /// Whose it is.
    pub(crate) registry: &'static Registry,
    /// What waits for its next transaction.
    pub(crate) queue: Queue,
    /// Who waits for leases in it.
    pub(crate) watch: Watch,
    path: PathBuf,
    allow_network: bool,
    executor: Executor,
    // A std Mutex: nothing awaits while it is held. HeldLease while the file is opened or closed, and to look up the
    // store; not during transactions.
    slot: Mutex<Option<Arc<Store>>>,
    members: Mutex<Vec<LossListener>>,
    full: AtomicBool,
    undone: Mutex<Vec<Undo>>,
}

/// A lease that has to be given back, or may have to.
#[derive(Clone)]
struct Undo {
    resources: Resources,
    owner: Owner,
    /// When it is over anyway.
    until: BootInstant,
}

impl File {
    /// Of this absolute path. Starts its thread, opens nothing.
    pub fn new(registry: &'static Registry, path: PathBuf, allow_network: bool) -> Result<Self> {
        Ok(Self {
            registry,
            queue: Queue::default(),
            watch: Watch::default(),
            path,
            allow_network,
            executor: Executor::start("fencelock-sql")?,
            slot: Mutex::default(),
            members: Mutex::default(),
            full: AtomicBool::new(false),
            undone: Mutex::default(),
        })
    }

    /// Its thread.
    pub const fn executor(&self) -> &Executor {
        &self.executor
    }

    /// Its path, as its users spell it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on every commit survives a power loss: all its users share one connection, so the strictest wins. Never
    /// waits: the next transaction sees to it.
    pub fn require_full(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    /// Does `work` in one transaction, at most once. `false`: there is no lock file, and none was to be made.
    pub fn transact(
        &self,
        needs: Needs,
        wait: &mut Wait,
        work: &mut dyn FnMut(&mut Tx<'_>) -> rusqlite::Result<()>,
    ) -> Result<bool> {
        loop {
            let Some(store) = self.store(needs, wait)? else { return Ok(false) };
            if self.full.load(Ordering::Relaxed) {
                store.require_full();
            }
            if self.names(&store)? {
                match store.transact(needs.access, &self.registry.clock, wait, work)? {
                    Done::Committed { ended } => {
                        if ended {
                            self.watch.ring();
                        }
                        return Ok(true);
                    }
                    Done::Replaced => self.registry.forget(&store),
                }
            } else {
                self.forget(&store);
            }
            // Its connection must be closed before another is opened: SQLite would share the old -shm between them.
            drop(store);
            if !wait.again() {
                return Err(errors::restless(&self.path));
            }
        }
    }

    /// Whether our path still leads to this store's: a link on the way may have been switched. Only where it is spelled
    /// otherwise; the store looks at its own path by itself.
    fn names(&self, store: &Store) -> Result<bool> {
        Ok(self.path == store.path() || paths::look(&self.path)?.is_some_and(|seen| seen.id == store.id()))
    }

    fn store(&self, needs: Needs, wait: &mut Wait) -> Result<Option<Arc<Store>>> {
        let mut slot = loop {
            match self.slot.try_lock() {
                Ok(slot) => break slot,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                // Another thread is opening it, and may be waiting for another process.
                Err(TryLockError::WouldBlock) if wait.again() => {}
                Err(TryLockError::WouldBlock) => return Err(errors::locked_out(&self.path, wait.waited())),
            }
        };
        if slot.is_none() {
            let path = match paths::canonical(&self.path) {
                Ok(path) => path,
                // Without its directory there is no lock file either, and nothing in it to be ended. Whoever looks is told.
                Err(_) if needs == CHANGE && matches!(paths::look(&self.path), Ok(None)) => return Ok(None),
                Err(error) => return Err(error),
            };
            let terms = open::Terms { create: needs.create, allow_network: self.allow_network };
            *slot = open::open(self.registry, &path, terms, wait)?;
            if let Some(store) = &*slot {
                self.executor.spawn(reaper::sweep(Arc::downgrade(store)));
                self.executor.spawn(read_snapshot::attend(store.attention(), Arc::downgrade(store)));
            }
        }
        Ok(slot.clone())
    }

    /// The store, if the file is open.
    pub(crate) fn open_store(&self) -> Option<Arc<Store>> {
        self.slot.try_lock().ok()?.clone()
    }

    /// The store's file is no longer the one that the path names, or no longer whole.
    pub(crate) fn forget(&self, store: &Arc<Store>) {
        let mut slot = self.slot();
        if slot.as_ref().is_none_or(|current| !Arc::ptr_eq(current, store)) {
            return; // another thread was faster
        }
        *slot = None;
        // After every grant in it, and, as opening another takes longer, before every grant in that.
        let since = self.registry.clock.boot() + Duration::from_micros(1);
        drop(slot);
        self.watch.wake_all();
        let members = self.members().clone();
        for told in members {
            told(since);
        }
    }

    fn members(&self) -> MutexGuard<'_, Vec<LossListener>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Store>>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn undone(&self) -> MutexGuard<'_, Vec<Undo>> {
        self.undone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a lease back in the background, for at most so long, if the error leaves that to be done.
    pub fn undo_after(
        self: &Arc<Self>,
        error: &Error,
        resources: &Resources,
        owner: Owner,
        at_most: Duration,
    ) {
        if !matches!(error, Error::BackendUnavailable(_) | Error::OutcomeUnknown(_)) {
            return;
        }
        let until = self.registry.clock.boot() + at_most;
        self.undone().push(Undo { resources: resources.clone(), owner, until });
        // Does not keep the file: it is closed when its users say so.
        let file = Arc::downgrade(self);
        self.executor.spawn(async move {
            let (mut pause, longest) = UNDO_PAUSES;
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
                let Some(file) = file.upgrade() else { return };
                let Some(undo) = file.undone().iter().find(|undo| undo.owner == owner).cloned() else {
                    return;
                };
                let work = move |tx: &mut Tx<'_>| operations::release(tx, &undo.resources, undo.owner);
                let released = group_commit::submit(&file, CHANGE, false, work).await.is_ok();
                if released || file.registry.clock.boot() > undo.until {
                    file.undone().retain(|undo| undo.owner != owner);
                    return;
                }
            }
        });
    }

    /// The last user is gone, in good order: gives back what could not be given back before, and closes the store.
    /// Leases that are left then run out: nobody released them, so somebody may still count on them.
    fn close(&self) {
        let patience = self.registry.patience.close;
        group_commit::run_all(self, patience);
        let undone = std::mem::take(&mut *self.undone());
        if !undone.is_empty() {
            let _ = self.transact(CHANGE, &mut Wait::at_most(patience), &mut |tx| {
                undone
                    .iter()
                    .try_for_each(|undo| operations::release(tx, &undo.resources, undo.owner).map(|_| ()))
            });
        }
        let mut slot = self.slot();
        // Somebody may have joined meanwhile. Whoever joins after this finds the slot empty and opens the file again.
        if self.members().is_empty()
            && let Some(store) = slot.take().and_then(Arc::into_inner)
        {
            store.close();
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.path).finish_non_exhaustive()
    }
}

/// One user of a lock file. Dropped without [`Member::leave`], it leaves its leases to run out.
pub struct Member {
    file: Arc<File>,
    told: LossListener,
}

impl Member {
    pub(crate) fn new(file: Arc<File>, told: LossListener) -> Self {
        file.members().push(Arc::clone(&told));
        Self { file, told }
    }

    /// The file it uses.
    pub const fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Uses it no more. The last one closes it; that blocks, so it is done on the file's thread.
    pub fn leave(self) {
        let file = Arc::clone(&self.file);
        drop(self);
        let last = file.members().is_empty();
        if last {
            file.close();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.file.members().retain(|told| !Arc::ptr_eq(told, &self.told));
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}
