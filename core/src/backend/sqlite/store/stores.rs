//! The open lock files of a process: one [`Store`] per inode, under whatever path it was opened.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::Store;
use crate::backend::sqlite::fs::paths::FileId;
use crate::runtime::sync::Mutex;

/// The stores that are in use. Locked for look-ups only, never while a file is opened.
#[derive(Debug, Default)]
pub struct Stores(Mutex<HashMap<FileId, Weak<Store>>>);

impl Stores {
    /// The store that has this file open.
    pub fn find(&self, id: FileId) -> Option<Arc<Store>> {
        // Windows reports no inode, so two stores are never known to be the same file there; the canonical
        // path of each `LockFile` has to be enough.
        if cfg!(unix) { self.0.lock().get(&id)?.upgrade() } else { None }
    }

    /// Registers a store. Returns the one that another thread registered first, if any.
    pub fn share(&self, store: Store) -> Arc<Store> {
        if let Some(first) = self.find(store.id()) {
            return first;
        }
        let store = Arc::new(store);
        let mut stores = self.0.lock();
        stores.retain(|_, store| store.strong_count() > 0);
        let known = stores.entry(store.id()).or_insert_with(|| Arc::downgrade(&store));
        match known.upgrade() {
            Some(first) if cfg!(unix) => first,
            _ => store,
        }
    }
}
