//! Creates a lock file, although many processes may try to at the same time and a deleted one may have left
//! files behind.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{header, pragmas};
use crate::backend::sqlite::errors;
use crate::backend::sqlite::fs::kind::Kind;
use crate::backend::sqlite::fs::paths::{self, FileId};
use crate::backend::sqlite::holders::liveness::{self, Liveness};
use crate::backend::sqlite::retry::RetryBudget;
use crate::error::Result;

const SCHEMA: &str = include_str!("../store/schema.sql");

/// Rows are small and a transaction changes few of them: of all sizes, this one writes the least per grant
/// and still has room for several rows with names of usual length.
pub const PAGE_BYTES: u32 = 1024;

/// Creates the lock file at a path that names nothing, or an empty file. Succeeds too if another process
/// created it.
pub fn create(path: &Path, kind: Kind, budget: &mut RetryBudget) -> Result<()> {
    // On a network file system, file locks may not work. Only SQLite's own locks are used there, which is
    // enough for the schema.
    let lock = if kind.is_network() { None } else { Some(CreationLock::acquire(path, budget)?) };
    // Visible to another copy of fencelock in this process before the first descriptor is open.
    let _liveness = lock.as_ref().map(|_| Liveness::create(path)).transpose()?;
    if lock.is_some() {
        liveness::refuse_second_copy(path)?;
    }
    if paths::stat(path)?.is_some_and(|stat| stat.length > 0) {
        return Ok(());
    }
    if lock.is_some() {
        // The files of a deleted database. Processes that still have it open keep its -shm from being reset,
        // and the new database would start with the old one's WAL index. They are never opened: this process
        // may be one of those, and would drop its own locks.
        for suffix in ["-wal", "-shm", "-journal"] {
            match std::fs::remove_file(paths::sibling(path, suffix)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(errors::io("remove the leftover files of", path, &error)),
            }
        }
    }
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| errors::sql(path, &error))?;
    pragmas::harden(&connection).map_err(|error| errors::sql(path, &error))?;
    let created = budget.retry_busy(path, || write_schema(&connection, path));
    if matches!(created, Ok(true)) {
        return connection.close().map_err(|(_, error)| errors::sql(path, &error));
    }
    // If it is not empty any more, it may be an application's now: see `HeaderProbe`. If it is, closing harms
    // nothing.
    if let Ok(Some(stat)) = paths::stat(path)
        && stat.length > 0
    {
        header::keep_open(stat.id, connection);
    }
    created.map(|_| ())
}

/// `false`: another process wrote to the file first.
fn write_schema(connection: &Connection, path: &Path) -> rusqlite::Result<bool> {
    // Takes effect when the first page is written.
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    let transaction =
        rusqlite::Transaction::new_unchecked(connection, rusqlite::TransactionBehavior::Exclusive)?;
    // Asks the file system, because beginning has created the first page of an empty database, though not on
    // disk.
    if !matches!(paths::stat(path), Ok(Some(stat)) if stat.length == 0) {
        return Ok(false);
    }
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", header::APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", header::SCHEMA_VERSION)?;
    transaction.commit()?;
    Ok(true)
}

/// The exclusive right to create the lock file: a locked file next to it.
struct CreationLock {
    path: PathBuf,
    // Holds the lock; dropped after the name is removed.
    _file: File,
}

impl CreationLock {
    fn acquire(database: &Path, budget: &mut RetryBudget) -> Result<Self> {
        let path = lock_path(database);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(|error| errors::io("create the lock file", database, &error))?;
            match file.try_lock() {
                Ok(()) => {
                    // The previous owner removed the file, perhaps before we got the lock: then ours has no
                    // name, and the next process creates and locks another one.
                    let named = std::fs::metadata(&path).map(|metadata| FileId::of(&metadata)).ok();
                    if named.is_some() && named == file.metadata().map(|metadata| FileId::of(&metadata)).ok()
                    {
                        return Ok(Self { path, _file: file });
                    }
                }
                Err(TryLockError::WouldBlock) => {
                    if !budget.pause() {
                        return Err(errors::busy_timeout(database, budget.elapsed()));
                    }
                }
                Err(TryLockError::Error(error)) => return Err(errors::io("lock", &path, &error)),
            }
        }
    }
}

impl Drop for CreationLock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether a process is creating the lock file now.
pub fn is_in_progress(database: &Path) -> bool {
    File::open(lock_path(database))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn lock_path(database: &Path) -> PathBuf {
    paths::sibling(database, "-create")
}
