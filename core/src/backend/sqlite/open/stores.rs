//! The open lock files of a process: one [`Store`] per inode, under whatever path it was opened.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use crate::backend::sqlite::fs::paths::FileId;
use crate::backend::sqlite::store::{Store, StoreState};
use crate::runtime::sync::Mutex;

/// The stores of this process. Locked for look-ups only, never while a file is opened.
#[derive(Debug, Default)]
pub struct Stores(Mutex<HashMap<FileId, Entry>>);

/// What is known of the last store of a file.
#[derive(Debug)]
struct Entry {
    store: Weak<Store>,
    /// Exists for as long as its connection may be open.
    open: Weak<()>,
    state: Arc<StoreState>,
}

/// The store of a file.
#[derive(Debug)]
pub enum Known {
    /// There is none.
    None,
    /// It has the file open.
    Open(Arc<Store>),
    /// It is given up or closing, and its connection may still be open. No other may open meanwhile, because
    /// SQLite would share the old -shm between them.
    Ending,
}

impl Stores {
    /// The store of this file.
    pub fn get(&self, id: FileId) -> Known {
        // Windows reports no inode, so two stores are never known to be the same file there; the canonical
        // path of each `LockFile` has to be enough.
        if cfg!(unix) { self.0.lock().get(&id).map_or(Known::None, Entry::known) } else { Known::None }
    }

    /// The store that has this file open.
    #[cfg(test)]
    pub fn find(&self, id: FileId) -> Option<Arc<Store>> {
        match self.get(id) {
            Known::Open(store) => Some(store),
            Known::None | Known::Ending => None,
        }
    }

    /// Registers a store, which goes on with the leases that the one before it left. Returns the one that
    /// another thread registered first, if any; `None` if that one is ending already.
    pub fn share(&self, store: Store) -> Option<Arc<Store>> {
        let mut stores = self.0.lock();
        if !cfg!(unix) {
            return Some(Arc::new(store));
        }
        match stores.get(&store.id()).map_or(Known::None, Entry::known) {
            Known::None => {}
            // The lock is not held while the other connection closes.
            Known::Open(first) => return Some(first),
            Known::Ending => return None,
        }
        stores.retain(|_, entry| {
            entry.open.strong_count() > 0 || entry.state.unreleased.load(Ordering::Relaxed) > 0
        });
        if let Some(before) = stores.remove(&store.id()) {
            let left = before.state.unreleased.load(Ordering::Relaxed);
            store.state().unreleased.fetch_add(left, Ordering::Relaxed);
        }
        let store = Arc::new(store);
        stores.insert(store.id(), Entry::new(&store));
        Some(store)
    }
}

impl Entry {
    fn new(store: &Arc<Store>) -> Self {
        Self { store: Arc::downgrade(store), open: store.open_token(), state: Arc::clone(store.state()) }
    }

    fn known(&self) -> Known {
        if self.open.strong_count() == 0 {
            return Known::None;
        }
        if self.state.is_given_up.load(Ordering::SeqCst) {
            return Known::Ending;
        }
        self.store.upgrade().map_or(Known::Ending, Known::Open)
    }
}
