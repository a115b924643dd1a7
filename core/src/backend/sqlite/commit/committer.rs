//! The lock file of one path: opens it when necessary, follows the path when the file is replaced, and runs
//! transactions on it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, MutexGuard, Weak};
use std::time::Duration;

use crate::backend::sqlite::environment::Environment;
use crate::backend::sqlite::errors;
use crate::backend::sqlite::fs::paths::{self, FileId};
use crate::backend::sqlite::open::stores::Stores;
use crate::backend::sqlite::open::{self, OpenMode, Opened};
use crate::backend::sqlite::retry::RetryBudget;
use crate::backend::sqlite::store::access::Needs;
use crate::backend::sqlite::store::transaction::Tx;
use crate::backend::sqlite::store::{Done, Store, StoreListener};
use crate::error::Result;
use crate::runtime::clock::BootInstant;
use crate::runtime::sync::Mutex;

/// How long a store is waited for that another thread looks up.
const SLOT_PATIENCE: Duration = Duration::from_millis(50);

/// Is notified by a committer, on the thread that noticed the event.
pub trait CommitListener: Send + Sync {
    /// The file was opened. Must not use the committer, which is locked.
    fn on_opened(&self, store: &Arc<Store>);

    /// A commit ended something that waiters may be waiting for.
    fn on_ended(&self);

    /// The file was replaced or damaged: all leases granted before this moment are lost.
    fn on_replaced(&self, since: BootInstant);
}

/// What is done with a connection that failed in a way that only a new one may mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// It is closed, and the next transaction opens the file anew.
    Reopen,
    /// It is kept until [`Committer::retire_broken`] is called.
    Keep,
}

/// The lock file of one path, open or not.
pub struct Committer {
    environment: &'static Environment,
    stores: &'static Stores,
    path: PathBuf,
    allow_network: bool,
    listener: Box<dyn CommitListener>,
    // Locked while the file is opened or closed, and to look up the store; not during transactions.
    slot: Mutex<Slot>,
    full: AtomicBool,
    /// The mode of a file that is created; 0: as the umask says.
    permissions: AtomicU32,
}

/// The store that the path leads to.
#[derive(Default)]
struct Slot {
    store: Option<Arc<Store>>,
    /// The file in which a store that was given up left leases, until another one goes on with them.
    left_in: Option<FileId>,
}

impl Committer {
    /// For the file at this absolute path. Opens nothing.
    pub fn new(
        environment: &'static Environment,
        stores: &'static Stores,
        path: PathBuf,
        allow_network: bool,
        listener: Box<dyn CommitListener>,
    ) -> Self {
        let (slot, full, permissions) = (Mutex::default(), AtomicBool::new(false), AtomicU32::new(0));
        Self { environment, stores, path, allow_network, listener, slot, full, permissions }
    }

    /// The environment of the file.
    pub const fn environment(&self) -> &'static Environment {
        self.environment
    }

    /// The path, as the user spells it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has every commit survive a power loss from now on: all users of the file share one connection, so the
    /// strictest requirement applies. Never waits: the next transaction applies it.
    pub fn require_full(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    /// Creates the file with this mode, if it has to be created.
    pub fn set_permissions(&self, mode: u32) {
        self.permissions.store(mode, Ordering::Relaxed);
    }

    /// Runs `work` in one transaction. `false`: there is no lock file, and none was to be created. If the
    /// file in which `work` ran is gone by then, it runs again in the next one. It counts only if this
    /// returns `true`.
    pub fn transact(
        self: &Arc<Self>,
        needs: Needs,
        budget: &mut RetryBudget,
        work: &mut dyn FnMut(&mut Tx<'_>) -> rusqlite::Result<()>,
    ) -> Result<bool> {
        self.transact_with(needs, budget, AfterFailure::Reopen, work)
    }

    /// The same. `after_failure` says what becomes of a connection that failed after the transaction began.
    pub fn transact_with(
        self: &Arc<Self>,
        needs: Needs,
        budget: &mut RetryBudget,
        after_failure: AfterFailure,
        work: &mut dyn FnMut(&mut Tx<'_>) -> rusqlite::Result<()>,
    ) -> Result<bool> {
        let mut has_reopened = false;
        loop {
            // Dropped at the end of each turn: its connection must close before another one opens, because
            // SQLite would share the old -shm between them.
            let Some(store) = self.store(needs, budget)? else { return Ok(false) };
            if self.full.load(Ordering::Relaxed) {
                store.require_full();
            }
            if self.names(&store)? {
                match store.transact(needs.access, &self.environment.clock, budget, work) {
                    Ok(Done::Committed { ended }) => {
                        if ended {
                            self.listener.on_ended();
                        }
                        return Ok(true);
                    }
                    Ok(Done::Replaced) => store.abandon(),
                    // A new connection may do what this one cannot, perhaps once other processes have closed
                    // theirs, too.
                    Ok(Done::Unusable(error)) => {
                        store.retire();
                        if std::mem::replace(&mut has_reopened, true) {
                            return Err(error);
                        }
                        continue;
                    }
                    Err(error) => {
                        if after_failure == AfterFailure::Reopen && store.is_broken() {
                            store.retire();
                        }
                        return Err(error);
                    }
                }
            } else {
                self.forget(&store, true);
            }
            drop(store);
            if !budget.pause() {
                return Err(errors::replaced_too_often(&self.path));
            }
        }
    }

    /// Whether our path still leads to the file of this store: a symbolic link on the way may have been
    /// changed. Only checked if the paths differ; the store checks its own path.
    fn names(&self, store: &Store) -> Result<bool> {
        Ok(self.path == store.path() || paths::stat(&self.path)?.is_some_and(|stat| stat.id == store.id()))
    }

    fn store(self: &Arc<Self>, needs: Needs, budget: &mut RetryBudget) -> Result<Option<Arc<Store>>> {
        loop {
            let mut slot = loop {
                if let Some(slot) = self.slot.try_lock() {
                    break slot;
                }
                // Another thread is opening it, and may be waiting for another process.
                if !budget.pause() {
                    return Err(errors::busy_timeout(&self.path, budget.elapsed()));
                }
            };
            match &slot.store {
                Some(store) if !store.state().is_given_up.load(Ordering::Acquire) => {
                    return Ok(Some(Arc::clone(store)));
                }
                Some(store) => {
                    // It was given up at the moment at which it was found for this path.
                    let store = Arc::clone(store);
                    drop(slot);
                    self.forget(&store, store.state().is_lost.load(Ordering::Acquire));
                    continue;
                }
                None => {}
            }
            match self.open(needs, budget)? {
                Opened::Store(store) => {
                    let left_in = slot.left_in.take().filter(|&file| file != store.id());
                    slot.store = Some(Arc::clone(&store));
                    let listener: Weak<Self> = Arc::downgrade(self);
                    store.add_listener(listener);
                    self.listener.on_opened(&store);
                    self.report_loss(slot, left_in.is_some());
                    return Ok(Some(store));
                }
                Opened::Missing => {
                    let has_left_leases = slot.left_in.take().is_some();
                    self.report_loss(slot, has_left_leases);
                    return Ok(None);
                }
                Opened::Ending => {}
            }
            // Unlocked meanwhile: the thread that has the old store may need the slot.
            drop(slot);
            if !budget.pause() {
                return Err(errors::used_by_other_thread(&self.path, budget.elapsed()));
            }
        }
    }

    fn open(&self, needs: Needs, budget: &mut RetryBudget) -> Result<Opened> {
        let path = match paths::canonical(&self.path) {
            Ok(path) => path,
            // Without its directory the lock file does not exist either, and there is nothing in it to end.
            // Readers get the error.
            Err(_) if needs.only_changes() && matches!(paths::stat(&self.path), Ok(None)) => {
                return Ok(Opened::Missing);
            }
            Err(error) => return Err(error),
        };
        let permissions = Some(self.permissions.load(Ordering::Relaxed)).filter(|&mode| mode != 0);
        let mode = OpenMode { create: needs.create, allow_network: self.allow_network, permissions };
        open::open(self.environment, self.stores, &path, mode, budget)
    }

    /// The store, if the file is open.
    pub fn open_store(&self) -> Option<Arc<Store>> {
        self.slot.try_lock()?.store.clone()
    }

    /// Whether this process may have leases in the file.
    pub fn may_hold_leases(&self) -> bool {
        // Locked: it is being opened, or looked up.
        self.slot.try_lock().is_none_or(|slot| {
            slot.left_in.is_some() || slot.store.as_ref().is_some_and(|store| store.may_hold_leases())
        })
    }

    /// Closes a connection that failed in a way that only a new one may mend.
    pub fn retire_broken(&self) {
        if let Some(store) = self.open_store().filter(|store| store.is_broken()) {
            store.retire();
        }
    }

    /// Finds out between transactions whether the file was deleted or replaced, or a -wal or -shm of it. If
    /// so, its leases are lost.
    pub fn check_files(&self) {
        let Some(mut slot) = self.slot.try_lock() else { return };
        let Some(store) = slot.store.clone() else {
            let is_lost = slot.left_in.take_if(|file| paths::is_replaced(&self.path, *file)).is_some();
            return self.report_loss(slot, is_lost);
        };
        drop(slot);
        if store.is_replaced() {
            store.abandon();
        } else if paths::is_replaced(&self.path, store.id()) {
            // A symbolic link on the way was changed.
            self.forget(&store, true);
        }
    }

    /// The store is not used any more. `is_lost`: neither are its leases, because the path no longer leads to
    /// its file, or the file is damaged.
    fn forget(&self, store: &Store, is_lost: bool) {
        let mut budget = RetryBudget::new(SLOT_PATIENCE);
        let mut slot = loop {
            if let Some(slot) = self.slot.try_lock() {
                break slot;
            }
            // A thread that has it locked for longer opens or closes the file, so this store is not in it. If
            // it is put there yet, the next call sees that it is given up.
            if !budget.pause() {
                return;
            }
        };
        match &slot.store {
            Some(current) if std::ptr::eq(Arc::as_ptr(current), store) => slot.store = None,
            // Another thread gave it up, and perhaps did not know that its leases are lost.
            None if is_lost && slot.left_in == Some(store.id()) => {}
            _ => return,
        }
        slot.left_in = (!is_lost && store.may_hold_leases()).then(|| store.id());
        self.report_loss(slot, is_lost);
    }

    /// Unlocks the slot, and reports that the leases in the file that it had are lost, if they are.
    fn report_loss(&self, slot: MutexGuard<'_, Slot>, is_lost: bool) {
        // After every grant in that file and, because no thread has another one yet, before every grant in
        // the next.
        let since = self.environment.clock.boot() + Duration::from_micros(1);
        drop(slot);
        if is_lost {
            self.listener.on_replaced(since);
        }
    }

    /// Closes the file if `is_unused` returns true and no other committer has it open. A user who comes later
    /// opens it again.
    pub fn close(&self, is_unused: impl FnOnce() -> bool) {
        let mut slot = self.slot();
        if is_unused()
            && let Some(store) = slot.store.take().and_then(Arc::into_inner)
        {
            store.close();
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock()
    }
}

impl StoreListener for Committer {
    fn on_given_up(&self, store: &Store, is_lost: bool) {
        self.forget(store, is_lost);
    }
}
