//! One open lock file: the connection that all managers and workers of this process share.

pub(crate) mod access;
mod connection;
mod ending;
pub(crate) mod fair_queue;
mod holder_names;
pub(crate) mod leases;
pub(crate) mod name;
pub(crate) mod prune;
pub(crate) mod read_snapshot;
mod transact;
pub(crate) mod transaction;
pub(crate) mod wal_files;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, Weak};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Notify;

use self::connection::StoreConnection;
use super::errors;
use super::fs::kind::Kind;
use super::fs::paths::{self, FileId};
use super::holders::liveness::{self, Liveness};
use super::retry::RetryBudget;
use crate::error::{Error, Result};
use crate::runtime::sync::Mutex;

/// How often an unused snapshot is looked for.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// The result of a transaction that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It is committed.
    Committed {
        /// Whether it ended something that waiters may be waiting for.
        ended: bool,
    },
    /// Nothing was done that counts, because the path names another file now, or none, or the file's -wal or
    /// -shm were removed: this store is over, and so are its leases.
    Replaced,
    /// Nothing was done, and this connection will not do anything again: only a new one may. The store is to
    /// be retired.
    Unusable(Error),
}

/// Shows whether a file has changed: it has if two markers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeMarker {
    /// Changes with every commit of another connection.
    data_version: i64,
    /// The number of our own transactions that ended something.
    ended: u64,
}

/// Is notified when a store is given up.
pub trait StoreListener: Send + Sync {
    /// The store is not used any more. `is_lost`: its file was replaced or damaged, and its leases are lost.
    fn on_given_up(&self, store: &Store, is_lost: bool);
}

/// What of a store outlives it, for its successor.
#[derive(Debug, Default)]
pub struct StoreState {
    /// The number of rows that this process granted and did not release, which is the most of our leases that
    /// are left.
    pub unreleased: AtomicUsize,
    /// Whether the store is given up: a call that begins now is to open the file anew.
    pub is_given_up: AtomicBool,
    /// Whether its leases were lost then.
    pub is_lost: AtomicBool,
}

/// An open lock file.
#[derive(Debug)]
pub struct Store {
    // Locked for one transaction, or one attempt to begin it. Declared first, so that it is dropped first:
    // the connection closes before the liveness file is removed.
    connection: Mutex<StoreConnection>,
    liveness: Option<Liveness>,
    path: PathBuf,
    id: FileId,
    kind: Kind,
    /// Whether a manager of this file needs commits to survive a power loss.
    full: AtomicBool,
    /// The number of this process in the queue while it has the file open. Random.
    process: i64,
    /// Whether this process may have entries in the queue.
    may_be_queued: AtomicBool,
    /// The number of this process's transactions that ended something.
    ended: AtomicU64,
    /// Whether its connection failed in a way that only a new one may mend.
    is_broken: AtomicBool,
    /// Notified when a snapshot is held, or the store is dropped.
    snapshot_held: Arc<Notify>,
    listeners: Mutex<Vec<Weak<dyn StoreListener>>>,
    state: Arc<StoreState>,
    /// Dropped last: as long as it exists, the connection may be open.
    open: Arc<()>,
}

impl Store {
    /// Takes a connection that is configured.
    pub fn new(
        path: PathBuf,
        id: FileId,
        kind: Kind,
        liveness: Option<Liveness>,
        connection: Connection,
    ) -> Self {
        let is_full = kind.is_network();
        Self {
            connection: Mutex::new(StoreConnection::new(connection, is_full)),
            liveness,
            path,
            id,
            kind,
            full: AtomicBool::new(is_full),
            process: liveness::nonce().cast_signed(),
            may_be_queued: AtomicBool::new(false),
            ended: AtomicU64::new(0),
            is_broken: AtomicBool::new(false),
            snapshot_held: Arc::default(),
            listeners: Mutex::default(),
            state: Arc::default(),
            open: Arc::default(),
        }
    }

    /// The path under which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that is open.
    pub const fn id(&self) -> FileId {
        self.id
    }

    /// The file system it is on.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Has every commit survive a power loss from now on.
    pub fn require_full(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    /// Whether the path still names this file. One `stat`.
    pub fn is_current(&self) -> Result<bool> {
        Ok(paths::stat(&self.path)?.is_some_and(|stat| stat.id == self.id))
    }

    /// Whether it is certain, between transactions, that the file was deleted or replaced, or its -wal or
    /// -shm. A transaction that is under way finds out by itself.
    pub fn is_replaced(&self) -> bool {
        if paths::is_replaced(&self.path, self.id) {
            return true;
        }
        // Without WAL there are no such files.
        let Some(mut connection) = self.connection.try_lock() else { return false };
        !self.kind.is_network() && !connection.wal_files.check(&self.path)
    }

    /// Whether this process may have leases in the file.
    pub fn may_hold_leases(&self) -> bool {
        self.state.unreleased.load(Ordering::Relaxed) > 0
    }

    /// Notifies this listener when the store is abandoned.
    pub fn add_listener(&self, listener: Weak<dyn StoreListener>) {
        let mut listeners = self.listeners.lock();
        listeners.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&listener));
        listeners.push(listener);
    }

    /// What outlives it.
    pub const fn state(&self) -> &Arc<StoreState> {
        &self.state
    }

    /// What exists for as long as its connection may be open.
    pub fn open_token(&self) -> Weak<()> {
        Arc::downgrade(&self.open)
    }

    /// Whether the connection failed in a way that only a new one may mend: the store is to be retired.
    pub fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    /// Whether this process keeps a liveness file for this lock file, as others do.
    pub const fn keeps_liveness(&self) -> bool {
        self.liveness.is_some()
    }

    /// The file's current change marker, for a fraction of what a transaction costs. `None`: another process
    /// has it locked, or it is another file now.
    pub fn change_marker(&self) -> Option<ChangeMarker> {
        // As for a transaction.
        if self.kind.is_network() && !self.is_current().ok()? {
            return None;
        }
        let ended = self.ended.load(Ordering::Relaxed);
        let data_version = self.connection.try_lock()?.data_version().ok()?;
        Some(ChangeMarker { data_version, ended })
    }

    /// Releases a snapshot if the burst of transactions has ended since the last call. Returns whether it
    /// had. Never waits.
    fn release_idle_snapshot(&self) -> bool {
        // If it is locked, the burst continues.
        let Some(mut connection) = self.connection.try_lock() else { return false };
        let StoreConnection { connection, snapshot, .. } = &mut *connection;
        snapshot.release_if_idle(connection)
    }

    /// The connection, once no other thread of this process uses it. One that does may be in a commit to a
    /// disk that does not answer.
    fn lock(&self, budget: &mut RetryBudget) -> Result<MutexGuard<'_, StoreConnection>> {
        loop {
            // A panic leaves at worst an open transaction, which `begin` ends; its snapshot is released like
            // any other.
            if let Some(connection) = self.connection.try_lock() {
                return Ok(connection);
            }
            if !budget.pause() {
                return Err(errors::used_by_other_thread(&self.path, budget.elapsed()));
            }
        }
    }
}

/// Releases a store's snapshots soon after each burst of transactions, as long as the store exists.
pub async fn release_idle_snapshots(store: Weak<Store>) {
    let Some(snapshot_held) = store.upgrade().map(|store| Arc::clone(&store.snapshot_held)) else { return };
    // A store that is used under two spellings of its path has two such tasks, on two threads. When one of
    // them ends, with or without the store, the other one continues.
    let _next = scopeguard::guard((), |()| snapshot_held.notify_one());
    while store.strong_count() > 0 {
        snapshot_held.notified().await;
        loop {
            tokio::time::sleep(IDLE_CHECK_INTERVAL).await;
            if store.upgrade().is_none_or(|store| store.release_idle_snapshot()) {
                break;
            }
        }
    }
}
