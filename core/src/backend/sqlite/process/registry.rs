//! What the managers and workers of one process share: one [`File`] per spelling of a path, one [`Store`] per inode.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use super::lock_file::{File, Member};
use crate::backend::contract::LossListener;
use crate::backend::sqlite::config::{Config, Durability};
use crate::backend::sqlite::fs::kind::{self, Kind};
use crate::backend::sqlite::fs::paths::{self, FileId};
use crate::backend::sqlite::retry::Patience;
use crate::backend::sqlite::store::Store;
use crate::error::Result;
use crate::runtime::clock::Clock;

/// By path as users spell it, and by whether they allow network file systems.
type Files = HashMap<(PathBuf, bool), Weak<File>>;

/// The lock files a process has to do with. There is one per process; tests make more to play other processes.
#[derive(Debug)]
pub struct Registry {
    /// The time that leases are judged by.
    pub clock: Clock,
    /// How long callers wait for other processes.
    pub patience: Patience,
    /// Tells what a directory lies on.
    pub filesystem: fn(&Path) -> Result<Kind>,
    // std Mutexes: held for look-ups only, never while a file is opened.
    pub(crate) files: Mutex<Files>,
    pub(crate) stores: Mutex<HashMap<FileId, Weak<Store>>>,
}

impl Registry {
    /// A registry with nothing in it.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            patience: Patience::default(),
            filesystem: kind::detect,
            files: Mutex::default(),
            stores: Mutex::default(),
        }
    }

    /// The one of this process.
    pub fn process() -> &'static Self {
        static PROCESS: LazyLock<Registry> = LazyLock::new(|| Registry::new(Clock::System));
        &PROCESS
    }

    /// Joins those who use this lock file. Starts its thread if it has none; opens nothing.
    /// `told` hears of leases that were lost with their file.
    pub fn join(&'static self, config: &Config, told: LossListener) -> Result<Member> {
        let key = (paths::absolute(&config.path)?, config.allow_network_filesystem);
        let mut files = lock(&self.files);
        let file = if let Some(file) = files.get(&key).and_then(Weak::upgrade) {
            file
        } else {
            let file = Arc::new(File::new(self, key.0.clone(), key.1)?);
            files.retain(|_, file| file.strong_count() > 0);
            files.insert(key, Arc::downgrade(&file));
            file
        };
        if config.durability == Durability::Full {
            file.require_full();
        }
        Ok(Member::new(file, told))
    }

    /// The store that has this file open, under whatever name.
    pub fn store(&self, id: FileId) -> Option<Arc<Store>> {
        // Windows names no inode; there a file's canonical path has to do.
        if cfg!(unix) { lock(&self.stores).get(&id)?.upgrade() } else { None }
    }

    /// A store is over: nobody uses it any more.
    pub fn forget(&self, store: &Arc<Store>) {
        store.abandon();
        let files: Vec<_> = lock(&self.files).values().filter_map(Weak::upgrade).collect();
        for file in files {
            file.forget(store);
        }
    }

    /// Makes a store known; answers the one that another thread made known first, if any.
    pub fn share(&self, store: Store) -> Arc<Store> {
        if let Some(first) = self.store(store.id()) {
            return first;
        }
        let store = Arc::new(store);
        let mut stores = lock(&self.stores);
        stores.retain(|_, store| store.strong_count() > 0);
        let known = stores.entry(store.id()).or_insert_with(|| Arc::downgrade(&store));
        match known.upgrade() {
            Some(first) if cfg!(unix) => first,
            _ => store,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Maps of weak references: a panic leaves nothing half-done in them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
