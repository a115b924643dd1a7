//! One open lock file: the connection that all of this process's managers and workers share.

pub(crate) mod prune;
pub(crate) mod read_snapshot;
pub(crate) mod rows;
pub(crate) mod wal_files;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::Notify;

use self::prune::Purge;
use self::read_snapshot::Snapshot;
use self::rows::Tx;
use self::wal_files::SideFiles;
use super::errors;
use super::fs::kind::Kind;
use super::fs::paths::{self, FileId};
use super::holders::holder::{Holder, Now};
use super::holders::liveness::{self, Liveness};
use super::retry::Wait;
use crate::error::Result;
use crate::runtime::clock::{BootInstant, Clock};

/// How long a close waits for others to clear what would go by itself.
const PATIENCE: Duration = Duration::from_millis(50);

/// What a transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Looks only, and is not kept waiting by a writer.
    Read,
    /// May write. Always begun as IMMEDIATE: a transaction that becomes a writer later can fail at any time.
    Write,
}

/// What became of a transaction that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It is committed.
    Committed {
        /// It ended something that others may wait for.
        ended: bool,
    },
    /// Nothing was done, because the path names another file by now, or none, or the file's -wal or -shm were taken away:
    /// this store is over, and so are the leases in it.
    Replaced,
}

/// What tells whether a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glimpse {
    /// Changes with every commit of another connection: <https://sqlite.org/pragma.html#pragma_data_version>
    others: i64,
    /// Transactions of ours that ended something.
    ours: u64,
}

/// An open lock file.
#[derive(Debug)]
pub struct Store {
    // A std Mutex: it is held for one transaction or one try to begin it, and nothing awaits meanwhile. Declared
    // first, so that it is dropped first: the connection is closed before the liveness file goes.
    writer: Mutex<Writer>,
    liveness: Option<Liveness>,
    path: PathBuf,
    id: FileId,
    kind: Kind,
    /// Some manager of this file wants commits to survive a power loss.
    full: AtomicBool,
    /// Rows that this process granted and did not release: at most so many leases of ours are left.
    unreleased: AtomicUsize,
    /// Names this process in the queue, for as long as it has the file open. Random.
    process: i64,
    /// It may have entries there.
    stands: AtomicBool,
    /// Transactions of this process that ended something.
    ended: AtomicU64,
    /// Wakes whoever sees to it that a snapshot is let go.
    attention: Arc<Notify>,
}

#[derive(Debug)]
struct Writer {
    connection: Connection,
    side: SideFiles,
    purge: Purge,
    snapshot: Snapshot,
    full: bool,
}

impl Store {
    /// Of a connection that is configured.
    pub fn new(
        path: PathBuf,
        id: FileId,
        kind: Kind,
        liveness: Option<Liveness>,
        connection: Connection,
    ) -> Self {
        // Enough for every statement there is; the default is 16.
        connection.set_prepared_statement_cache_capacity(64);
        let full = kind.is_network();
        let (side, purge, snapshot) = (SideFiles::default(), Purge::default(), Snapshot::default());
        let writer = Mutex::new(Writer { connection, side, purge, snapshot, full });
        Self {
            writer,
            liveness,
            path,
            id,
            kind,
            full: AtomicBool::new(full),
            unreleased: AtomicUsize::new(0),
            process: liveness::nonce().cast_signed(),
            stands: AtomicBool::new(false),
            ended: AtomicU64::new(0),
            attention: Arc::default(),
        }
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which file it is.
    pub const fn id(&self) -> FileId {
        self.id
    }

    /// What it lies on.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// From now on a commit survives a power loss.
    pub fn require_full(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    /// Whether the path still names this file. One `stat`.
    pub fn is_current(&self) -> Result<bool> {
        Ok(paths::look(&self.path)?.is_some_and(|seen| seen.id == self.id))
    }

    /// Does `work` in one transaction; calls it at most once, and not before the write lock is ours. An error rolls
    /// everything back.
    pub fn transact(
        &self,
        access: Access,
        clock: &Clock,
        wait: &mut Wait,
        work: &mut dyn FnMut(&mut Tx<'_>) -> rusqlite::Result<()>,
    ) -> Result<Done> {
        loop {
            // With a rollback journal, beginning would play back one of that name, and it may be a successor's.
            if self.kind.is_network() && !self.is_current()? {
                return Ok(Done::Replaced);
            }
            let mut writer = self.writer();
            let sent = clock.boot();
            // With a rollback journal, whoever reads keeps the others from committing.
            if !self.kind.is_network() {
                writer.snapshot.count(sent);
            }
            match writer.begin(access, self.full.load(Ordering::Relaxed)) {
                Ok(()) => return self.run(&mut writer, clock, sent, wait, work),
                Err(error) if errors::is_busy(&error) => {}
                Err(error) if self.is_current()? => return Err(errors::sql(&self.path, &error)),
                Err(_) => return Ok(Done::Replaced),
            }
            drop(writer);
            if !self.is_current()? {
                return Ok(Done::Replaced);
            }
            if !wait.again() {
                return Err(errors::locked_out(&self.path, wait.waited()));
            }
        }
    }

    /// The rest of a transaction that was begun.
    fn run(
        &self,
        writer: &mut Writer,
        clock: &Clock,
        sent: BootInstant,
        wait: &mut Wait,
        work: &mut dyn FnMut(&mut Tx<'_>) -> rusqlite::Result<()>,
    ) -> Result<Done> {
        let Writer { connection, side, purge, .. } = writer;
        // Only now, for whoever comes here may have waited, and the file may have been replaced meanwhile. Who begins
        // after somebody noticed that notices it, too.
        let whole = self
            .is_current()
            .map(|current| current && (self.kind.is_network() || side.are_current(&self.path, sent)));
        if !matches!(whole, Ok(true)) {
            writer.roll_back();
            return whole.map(|_| Done::Replaced);
        }
        let now = Now::read(clock, self.kind.is_network());
        let mut tx = Tx::new(connection, self, sent, now);
        let outcome = work(&mut tx).and_then(|()| purge.step(&mut tx));
        let (granted, released, ended) = (tx.granted, tx.released, tx.ended);
        drop(tx);
        if let Err(error) = outcome {
            writer.roll_back();
            return Err(errors::sql(&self.path, &error));
        }
        if writer.snapshot.keep(&writer.connection) {
            self.attention.notify_one();
        }
        self.commit(writer, wait)?;
        self.ended.fetch_add(u64::from(ended), Ordering::Relaxed);
        self.unreleased.fetch_add(granted, Ordering::Relaxed);
        let fewer = |unreleased: usize| Some(unreleased.saturating_sub(released));
        let _ = self.unreleased.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        Ok(Done::Committed { ended })
    }

    fn commit(&self, writer: &mut Writer, wait: &mut Wait) -> Result<()> {
        loop {
            let Err(error) = execute(&writer.connection, "COMMIT") else { return Ok(()) };
            // Only with a rollback journal: readers are in the way. The transaction stands meanwhile.
            if errors::is_busy(&error) && !writer.connection.is_autocommit() {
                if wait.again() {
                    continue;
                }
                writer.roll_back();
                return Err(errors::locked_out(&self.path, wait.waited()));
            }
            writer.roll_back();
            // What cannot be said to have been undone is not said to be.
            return Err(match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::SystemIoFailure) | None => errors::unknown(&self.path, &error),
                Some(_) => errors::sql(&self.path, &error),
            });
        }
    }

    /// Whether this process keeps a liveness file beside the lock file, as others do.
    pub const fn keeps_liveness(&self) -> bool {
        self.liveness.is_some()
    }

    /// What rows of this process carry, at a moment.
    pub fn holder(&self, now: &Now) -> Option<Holder> {
        let holder = Holder { identity: now.identity, mark: self.liveness.as_ref().map(Liveness::mark) };
        (holder.identity.is_some() || holder.mark.is_some()).then_some(holder)
    }

    /// Whether the file has changed since another glimpse, for a fraction of what a transaction costs. `None`: others are in
    /// the way, or it is another file by now.
    pub fn glimpse(&self) -> Option<Glimpse> {
        // As for a transaction.
        if self.kind.is_network() && !self.is_current().ok()? {
            return None;
        }
        let ours = self.ended.load(Ordering::Relaxed);
        let Writer { connection, snapshot, .. } = &mut *self.writer();
        // In it, nothing that others do is seen.
        snapshot.let_go(connection);
        let mut version = connection.prepare_cached("PRAGMA data_version").ok()?;
        let others = version.query_row([], |row| row.get(0)).ok()?;
        Some(Glimpse { others, ours })
    }

    /// Wakes whoever [attends](crate::backend::sqlite::store::read_snapshot::attend) to its snapshot, when one is held or the store is over.
    pub fn attention(&self) -> Arc<Notify> {
        Arc::clone(&self.attention)
    }

    /// Lets a snapshot go if the run of transactions has ended since this was asked last, and answers whether that was so.
    /// Never waits.
    pub fn let_go_if_idle(&self) -> bool {
        let mut writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The run goes on.
            Err(TryLockError::WouldBlock) => return false,
        };
        let Writer { connection, snapshot, .. } = &mut *writer;
        snapshot.let_go_if_idle(connection)
    }

    /// This process, as the queue names it.
    pub const fn process(&self) -> i64 {
        self.process
    }

    /// This process may have entries in the queue from now on.
    pub fn stands_in_line(&self) {
        self.stands.store(true, Ordering::Relaxed);
    }

    /// The file is gone, and all leases in it.
    pub fn abandon(&self) {
        self.unreleased.store(0, Ordering::Relaxed);
    }

    /// Closes in good order: what is in the WAL goes into the database, and the last process removes the WAL.
    pub fn close(self) {
        if self.is_current().unwrap_or(false) {
            if self.stands.load(Ordering::Relaxed) {
                // Failing to, they are passed over before long.
                let mut wait = Wait::at_most(PATIENCE);
                let _ = self.transact(Access::Write, &Clock::System, &mut wait, &mut |tx| tx.put_out_all());
            }
            if self.unreleased.load(Ordering::Relaxed) > 0 && matches!(self.holds_nothing(), Ok(true)) {
                self.abandon();
            }
            // Failing to, it is closed without.
            let _ = self.writer().connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        }
    }

    /// Whether all leases that were not released have run out, been taken, or been ended by force.
    fn holds_nothing(&self) -> Result<bool> {
        let Some(mark) = self.liveness.as_ref().map(Liveness::mark) else { return Ok(true) };
        let mut nothing = false;
        self.transact(Access::Read, &Clock::System, &mut Wait::at_most(Duration::ZERO), &mut |tx| {
            nothing = !tx.is_holding(mark)?;
            Ok(())
        })?;
        Ok(nothing)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A panic leaves at worst a transaction open, and `begin` ends that; its snapshot is let go as any other is.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Whoever attends to it ends.
        self.attention.notify_one();
        if *self.unreleased.get_mut() > 0
            && let Some(liveness) = self.liveness.take()
        {
            liveness.outlive();
        }
    }
}

impl Writer {
    fn begin(&mut self, access: Access, full: bool) -> rusqlite::Result<()> {
        if !self.connection.is_autocommit() {
            self.roll_back();
        }
        if full != self.full {
            self.connection.pragma_update(None, "synchronous", "FULL")?;
            // macOS keeps what was synced in the disk's own cache otherwise.
            self.connection.pragma_update(None, "fullfsync", true)?;
            self.connection.pragma_update(None, "checkpoint_fullfsync", true)?;
            self.full = full;
        }
        match access {
            Access::Write => self.begin_to_write(),
            Access::Read => {
                self.snapshot.let_go(&self.connection);
                execute(&self.connection, "BEGIN")?;
                // The snapshot is taken by the first read; if that is in somebody's way, it shows now.
                let begun = self.connection.prepare_cached("SELECT 1 FROM leases LIMIT 1")?.exists([]);
                begun.map(|_| ()).inspect_err(|_| self.roll_back())
            }
        }
    }

    fn begin_to_write(&mut self) -> rusqlite::Result<()> {
        let begun = execute(&self.connection, "BEGIN IMMEDIATE");
        if begun.is_ok() || !self.snapshot.give_up(&self.connection) {
            return begun;
        }
        // What was in the way may have been the snapshot: it is not the newest, as a rule.
        execute(&self.connection, "BEGIN IMMEDIATE")
    }

    /// Ends a transaction, if SQLite has not done so itself.
    fn roll_back(&mut self) {
        self.snapshot.let_go(&self.connection);
        if !self.connection.is_autocommit() {
            let _ = execute(&self.connection, "ROLLBACK");
        }
    }
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}
