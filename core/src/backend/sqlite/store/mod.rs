//! One open lock file: the connection that all managers and workers of this process share.

pub(crate) mod access;
mod connection;
pub(crate) mod fair_queue;
pub(crate) mod leases;
pub(crate) mod name;
pub(crate) mod prune;
pub(crate) mod read_snapshot;
pub(crate) mod stores;
pub(crate) mod transaction;
pub(crate) mod wal_files;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, Weak};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Notify;

use self::access::Access;
use self::connection::StoreConnection;
use self::transaction::{Tx, TxContext};
use super::errors;
use super::fs::kind::Kind;
use super::fs::paths::{self, FileId};
use super::holders::holder::{Holder, Now};
use super::holders::liveness::{self, Liveness};
use super::open::header::Content;
use super::retry::RetryBudget;
use crate::error::{Error, Result};
use crate::runtime::clock::{BootInstant, Clock};
use crate::runtime::sync::Mutex;

/// How long a close waits for other processes to remove entries that would expire anyway.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(50);
/// How long another thread may keep the connection of a store that is given up.
const RETIRE_TIMEOUT: Duration = Duration::from_millis(100);
/// How long a commit at least waits for readers, with a rollback journal. No new ones come meanwhile: to roll
/// back earlier would let them in again.
const COMMIT_PATIENCE: Duration = Duration::from_millis(100);
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
    /// Nothing was done, because the path names another file now, or none, or the file's -wal or -shm were
    /// removed: this store is over, and so are its leases.
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
    /// The number of rows that this process granted and did not release, which is the most of our leases that
    /// are left.
    unreleased: AtomicUsize,
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
            unreleased: AtomicUsize::new(0),
            process: liveness::nonce().cast_signed(),
            may_be_queued: AtomicBool::new(false),
            ended: AtomicU64::new(0),
            is_broken: AtomicBool::new(false),
            snapshot_held: Arc::default(),
            listeners: Mutex::default(),
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
        self.unreleased.load(Ordering::Relaxed) > 0
    }

    /// Notifies this listener when the store is abandoned.
    pub fn add_listener(&self, listener: Weak<dyn StoreListener>) {
        let mut listeners = self.listeners.lock();
        listeners.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&listener));
        listeners.push(listener);
    }

    /// The file was replaced, and all leases in it are lost.
    pub fn abandon(&self) {
        self.unreleased.store(0, Ordering::Relaxed);
        self.give_up(true);
    }

    /// The connection cannot be used any more. Its leases are lost only if a new one will not see them,
    /// because the files that it had open have gone.
    pub fn retire(&self) {
        let is_lost = match paths::stat(&self.path) {
            Ok(Some(stat)) if stat.id == self.id && stat.length > 0 => {
                // Another thread may be in its last transaction. It will not notice: the next one is
                // elsewhere.
                let connection = self.lock(&mut RetryBudget::new(RETIRE_TIMEOUT));
                connection.is_ok_and(|mut connection| !connection.wal_files.check(&self.path))
            }
            // Another file, or an empty one.
            Ok(_) => true,
            // Nothing is known yet.
            Err(_) => false,
        };
        if is_lost { self.abandon() } else { self.give_up(false) }
    }

    fn give_up(&self, is_lost: bool) {
        // They lock their own state, so not while this is locked.
        let listeners = self.listeners.lock().clone();
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            listener.on_given_up(self, is_lost);
        }
    }

    /// Whether the connection failed in a way that only a new one may mend: the store is to be retired.
    pub fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    /// The error for what SQLite refused; remembers if that was because of the connection.
    fn failure(&self, connection: &StoreConnection, error: &rusqlite::Error) -> Error {
        if errors::is_of_connection(error) {
            self.is_broken.store(true, Ordering::Relaxed);
        }
        errors::sql_on(&self.path, error, &connection.connection)
    }

    /// Runs `work` in one transaction; calls it at most once, and only when it has the lock. An error rolls
    /// everything back.
    pub fn transact(
        &self,
        access: Access,
        clock: &Clock,
        budget: &mut RetryBudget,
        work: &mut dyn FnMut(&mut Tx<'_>) -> rusqlite::Result<()>,
    ) -> Result<Done> {
        loop {
            // With a rollback journal, beginning would play back a journal of that name, which may be a
            // successor's.
            if self.kind.is_network() && !self.is_current()? {
                return Ok(Done::Replaced);
            }
            let mut connection = self.lock(budget)?;
            let sent = clock.boot();
            if !self.kind.is_network() {
                if !connection.wal_files.may_be_used(&self.path, sent) {
                    return Ok(Done::Replaced);
                }
                // With a rollback journal, a reader keeps other processes from committing.
                connection.snapshot.count(sent);
            }
            match connection.begin(access, self.full.load(Ordering::Relaxed)) {
                Ok(()) => return self.run(&mut connection, clock, sent, budget, work),
                Err(error) if errors::is_busy(&error) => {}
                Err(_) if !self.is_current()? => return Ok(Done::Replaced),
                Err(error) => {
                    let failure = self.failure(&connection, &error);
                    return if self.is_broken() { Ok(Done::Unusable(failure)) } else { Err(failure) };
                }
            }
            drop(connection);
            if !self.is_current()? {
                return Ok(Done::Replaced);
            }
            if !budget.pause() {
                return Err(errors::busy_timeout(&self.path, budget.elapsed()));
            }
        }
    }

    /// The rest of a transaction that has begun.
    fn run(
        &self,
        connection: &mut StoreConnection,
        clock: &Clock,
        sent: BootInstant,
        budget: &mut RetryBudget,
        work: &mut dyn FnMut(&mut Tx<'_>) -> rusqlite::Result<()>,
    ) -> Result<Done> {
        // Checked only now: this thread may have waited for the lock while the file was replaced. A
        // transaction that begins after another one noticed that must notice it too.
        let is_whole = self.is_current().map(|is_current| {
            is_current && (self.kind.is_network() || connection.wal_files.are_current(&self.path, sent))
        });
        if !matches!(is_whole, Ok(true)) {
            connection.roll_back();
            return is_whole.map(|_| Done::Replaced);
        }
        if let Err(error) = self.check_schema(connection) {
            connection.roll_back();
            return Err(error);
        }
        let now = Now::read(clock, self.kind.is_network());
        let mut tx = Tx::new(&connection.connection, self.context(&now), sent, now);
        tx.wants_granted_last = connection.pruner.needs_start(sent);
        let outcome = work(&mut tx).and_then(|()| match connection.pruner.step(&mut tx) {
            // Nothing that was asked for depends on pruning, so a row that it cannot read fails no call.
            Err(error) if connection.connection.is_autocommit() => Err(error),
            _ => Ok(()),
        });
        let (granted, released, ended) = (tx.granted, tx.released, tx.ended);
        if tx.entered_queue {
            self.may_be_queued.store(true, Ordering::Relaxed);
        }
        drop(tx);
        if let Err(error) = outcome {
            let failure = self.failure(connection, &error);
            connection.roll_back();
            return Err(failure);
        }
        if connection.snapshot.keep(&connection.connection) {
            self.snapshot_held.notify_one();
        }
        self.commit(connection, budget)?;
        self.ended.fetch_add(u64::from(ended), Ordering::Relaxed);
        self.unreleased.fetch_add(granted, Ordering::Relaxed);
        let fewer = |unreleased: usize| Some(unreleased.saturating_sub(released));
        let _ = self.unreleased.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        Ok(Done::Committed { ended })
    }

    /// Whether this version of fencelock still knows the file's schema.
    fn check_schema(&self, connection: &mut StoreConnection) -> Result<()> {
        let version =
            connection.changed_schema_version().map_err(|error| self.failure(connection, &error))?;
        let Some(version) = version else { return Ok(()) };
        let checked = Content::LockFile { version, is_wal: !self.kind.is_network() }.check(&self.path);
        if checked.is_err() {
            // Opening it again finds out what it is now.
            self.is_broken.store(true, Ordering::Relaxed);
        }
        checked.map(|_| ())
    }

    fn commit(&self, connection: &mut StoreConnection, budget: &mut RetryBudget) -> Result<()> {
        let mut patience = RetryBudget::new(COMMIT_PATIENCE);
        loop {
            let Err(error) = connection.commit() else { return Ok(()) };
            // Only with a rollback journal: another process is reading. The transaction stays open meanwhile.
            if errors::is_busy(&error) && !connection.connection.is_autocommit() {
                if budget.pause() || patience.pause() {
                    continue;
                }
                connection.roll_back();
                return Err(errors::busy_timeout(&self.path, budget.elapsed()));
            }
            let failure = self.failure(connection, &error);
            connection.roll_back();
            // After an I/O error it is not certain that nothing was committed.
            return Err(match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::SystemIoFailure) | None => {
                    errors::unknown(&self.path, failure.cause().unwrap_or_default())
                }
                Some(_) => failure,
            });
        }
    }

    fn context(&self, now: &Now) -> TxContext<'_> {
        let holder = Holder { identity: now.identity, mark: self.liveness.as_ref().map(Liveness::mark) };
        TxContext {
            path: &self.path,
            kind: self.kind,
            process: self.process,
            holder: Some(holder).filter(|holder| holder.identity.is_some() || holder.mark.is_some()),
        }
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

    /// Closes in good order: the WAL is copied into the database, and the last process removes it.
    pub fn close(mut self) {
        if !self.is_current().unwrap_or(false) {
            return;
        }
        if self.may_be_queued.load(Ordering::Relaxed) {
            // If this fails, other processes soon skip the entries.
            let mut budget = RetryBudget::new(CLOSE_TIMEOUT);
            let _ =
                self.transact(Access::Write, &Clock::System, &mut budget, &mut |tx| tx.leave_all_queues());
        }
        if self.must_keep_liveness() && matches!(self.has_no_active_lease(), Ok(true)) {
            self.unreleased.store(0, Ordering::Relaxed);
            self.liveness.take();
        }
        self.connection.lock().checkpoint_on_close();
    }

    /// Whether leases may be left that carry the mark of the liveness file.
    fn must_keep_liveness(&self) -> bool {
        self.may_hold_leases() || self.liveness.as_ref().is_some_and(Liveness::is_kept)
    }

    /// Whether all leases that were not released have expired, were taken over, or were ended by force.
    fn has_no_active_lease(&self) -> Result<bool> {
        let Some(mark) = self.liveness.as_ref().map(Liveness::mark) else { return Ok(true) };
        let mut has_none = false;
        let mut budget = RetryBudget::new(Duration::ZERO);
        self.transact(Access::Read, &Clock::System, &mut budget, &mut |tx| {
            has_none = !tx.has_active_lease(mark)?;
            Ok(())
        })?;
        Ok(has_none)
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

impl Drop for Store {
    fn drop(&mut self) {
        // Ends the task that releases snapshots.
        self.snapshot_held.notify_one();
        if self.must_keep_liveness()
            && let Some(liveness) = self.liveness.take()
        {
            liveness.keep_until_exit();
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
