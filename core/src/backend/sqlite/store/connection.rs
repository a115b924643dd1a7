//! The connection of an open lock file, and how its transactions begin and end.

use std::ptr;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ffi};

use super::access::Access;
use super::prune::Pruner;
use super::read_snapshot::ReadSnapshot;
use super::wal_files::WalFiles;

/// More than the number of different statements; the default is 16.
const CACHED_STATEMENTS: usize = 64;

/// The connection, with what has to be remembered from one transaction to the next.
#[derive(Debug)]
pub struct StoreConnection {
    pub connection: Connection,
    pub wal_files: WalFiles,
    pub pruner: Pruner,
    pub snapshot: ReadSnapshot,
    /// Whether commits survive a power loss.
    is_full: bool,
    /// The [`page_version`] at which the file had the schema that this version knows.
    known_at: Option<u32>,
}

impl StoreConnection {
    /// Wraps a connection that is configured.
    pub fn new(connection: Connection, is_full: bool) -> Self {
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        let (wal_files, pruner, snapshot) = (WalFiles::default(), Pruner::default(), ReadSnapshot::default());
        Self { connection, wal_files, pruner, snapshot, is_full, known_at: None }
    }

    /// Begins a transaction. `full`: its commit must survive a power loss.
    pub fn begin(&mut self, access: Access, full: bool) -> rusqlite::Result<()> {
        if !self.connection.is_autocommit() {
            self.roll_back();
        }
        if full != self.is_full {
            self.connection.pragma_update(None, "synchronous", "FULL")?;
            // Otherwise macOS keeps what was synced in the disk's own cache.
            self.connection.pragma_update(None, "fullfsync", true)?;
            self.connection.pragma_update(None, "checkpoint_fullfsync", true)?;
            self.is_full = full;
        }
        match access {
            Access::Write => self.begin_write(),
            Access::Read => self.begin_read(),
        }
    }

    fn begin_write(&mut self) -> rusqlite::Result<()> {
        let begun = execute(&self.connection, "BEGIN IMMEDIATE");
        if begun.is_ok() || !self.snapshot.give_up(&self.connection) {
            return begun;
        }
        // The obstacle may have been our own snapshot: usually it is not the newest any more.
        execute(&self.connection, "BEGIN IMMEDIATE")
    }

    fn begin_read(&mut self) -> rusqlite::Result<()> {
        self.snapshot.release(&self.connection);
        execute(&self.connection, "BEGIN")?;
        // The first read takes the snapshot; if that conflicts with another process, it shows here.
        let read = self.connection.prepare_cached("SELECT 1 FROM leases LIMIT 1")?.exists([]);
        read.map(|_| ()).inspect_err(|_| self.roll_back())
    }

    /// In a transaction: the version of the file's schema, if another connection has committed since it was
    /// read last. Between two transactions another version of fencelock may change the schema.
    pub fn changed_schema_version(&mut self) -> rusqlite::Result<Option<i32>> {
        let now = page_version(&self.connection);
        if now.is_some() && now == self.known_at {
            return Ok(None);
        }
        let version =
            self.connection.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))?;
        self.known_at = now;
        Ok(Some(version))
    }

    /// Commits the transaction.
    pub fn commit(&mut self) -> rusqlite::Result<()> {
        execute(&self.connection, "COMMIT")?;
        // Our own commits do not change the schema.
        self.known_at = page_version(&self.connection);
        Ok(())
    }

    /// Ends a transaction, if SQLite has not done so itself.
    pub fn roll_back(&mut self) {
        self.snapshot.release(&self.connection);
        if !self.connection.is_autocommit() {
            let _ = execute(&self.connection, "ROLLBACK");
        }
    }

    /// Has the database copy the WAL into itself when the connection closes, and remove it if no other
    /// process uses it.
    pub fn checkpoint_on_close(&self) {
        // If this fails, it closes without a checkpoint.
        let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
    }

    /// A number that changes with every commit of another connection:
    /// <https://sqlite.org/pragma.html#pragma_data_version>
    pub fn data_version(&mut self) -> rusqlite::Result<i64> {
        // A snapshot does not change.
        self.snapshot.release(&self.connection);
        self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
    }
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

/// A number that changes with every commit of any connection: what `PRAGMA data_version` is for those of
/// others, for a small part of what a statement costs.
/// <https://sqlite.org/c3ref/c_fcntl_begin_atomic_write.html>
fn page_version(connection: &Connection) -> Option<u32> {
    let mut version = 0_u32;
    // SAFETY: the handle is open for as long as `connection` is borrowed, no name stands for the main
    // database and saves its look-up, and this operation writes one `unsigned int` to its argument.
    let code = unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            ptr::null(),
            ffi::SQLITE_FCNTL_DATA_VERSION,
            (&raw mut version).cast(),
        )
    };
    (code == ffi::SQLITE_OK).then_some(version)
}
