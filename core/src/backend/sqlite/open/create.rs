//! Making a lock file, when many processes may want to at once, and stale neighbours of a deleted one may lie about.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::header;
use crate::backend::sqlite::errors;
use crate::backend::sqlite::fs::kind::Kind;
use crate::backend::sqlite::fs::paths::{self, FileId};
use crate::backend::sqlite::holders::liveness::{self, Liveness};
use crate::backend::sqlite::open;
use crate::backend::sqlite::retry::Wait;
use crate::error::Result;

const SCHEMA: &str = include_str!("../store/schema.sql");

/// Rows are small and a transaction changes few of them: of the sizes, this one writes the least per grant and still
/// has room for several rows with names of usual length.
pub const PAGE_BYTES: u32 = 1024;

/// Makes the lock file at a path that names nothing, or an empty file. Returns as well if somebody else made it.
pub fn create(path: &Path, kind: Kind, wait: &mut Wait) -> Result<()> {
    // Over a network, file locks may not work. SQLite's own are all there is then, and they suffice for the schema.
    let creation = if kind.is_network() { None } else { Some(Creation::begin(path, wait)?) };
    // Known to another copy of fencelock in this process before the first descriptor is open.
    let _liveness = creation.as_ref().map(|_| Liveness::keep(path)).transpose()?;
    if creation.is_some() {
        liveness::refuse_second_copy(path)?;
    }
    if paths::look(path)?.is_some_and(|seen| seen.length > 0) {
        return Ok(());
    }
    if creation.is_some() {
        // What a deleted database left. Processes that still have it open keep its -shm from being reset, and the new
        // database would start with the old one's WAL index. Never opened: this process may be one of them, and
        // would drop its own locks.
        for suffix in ["-wal", "-shm", "-journal"] {
            match std::fs::remove_file(paths::beside(path, suffix)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(errors::io("remove what is left of", path, &error)),
            }
        }
    }
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| errors::sql(path, &error))?;
    open::harden(&connection).map_err(|error| errors::sql(path, &error))?;
    let made = wait.until_free(path, || write_schema(&connection, path));
    if matches!(made, Ok(true)) {
        return connection.close().map_err(|(_, error)| errors::sql(path, &error));
    }
    // Not empty any more, it may be an application's by now: see `header::Glance`. Still empty, it has nothing to lose.
    if let Ok(Some(seen)) = paths::look(path)
        && seen.length > 0
    {
        header::keep_open(seen.id, connection);
    }
    made.map(|_| ())
}

/// `false`: somebody else wrote to the file first.
fn write_schema(connection: &Connection, path: &Path) -> rusqlite::Result<bool> {
    // Takes effect when the first page is written.
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    let transaction =
        rusqlite::Transaction::new_unchecked(connection, rusqlite::TransactionBehavior::Exclusive)?;
    // By the file: beginning has made the first page of an empty database, though not on disk.
    if !matches!(paths::look(path), Ok(Some(seen)) if seen.length == 0) {
        return Ok(false);
    }
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", header::APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", header::SCHEMA_VERSION)?;
    transaction.commit()?;
    Ok(true)
}

/// The right to make the lock file: a locked file beside it.
struct Creation {
    path: PathBuf,
    // Holds the lock; dropped after the name is gone.
    _file: File,
}

impl Creation {
    fn begin(database: &Path, wait: &mut Wait) -> Result<Self> {
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
                    // Whoever had the lock before removed the file, perhaps before we got the lock: then ours has
                    // no name, and the next process makes and locks another one.
                    let named = std::fs::metadata(&path).map(|metadata| FileId::of(&metadata)).ok();
                    if named.is_some() && named == file.metadata().map(|metadata| FileId::of(&metadata)).ok()
                    {
                        return Ok(Self { path, _file: file });
                    }
                }
                Err(TryLockError::WouldBlock) => {
                    if !wait.again() {
                        return Err(errors::locked_out(database, wait.waited()));
                    }
                }
                Err(TryLockError::Error(error)) => return Err(errors::io("lock", &path, &error)),
            }
        }
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether some process is making the lock file right now.
pub fn in_progress(database: &Path) -> bool {
    File::open(lock_path(database))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn lock_path(database: &Path) -> PathBuf {
    paths::beside(database, "-create")
}
