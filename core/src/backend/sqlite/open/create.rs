//! Creates a lock file, although many processes may try to at the same time and a deleted one may have left
//! files behind.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{header, leftovers, pragmas};
use crate::backend::sqlite::errors;
use crate::backend::sqlite::fs::kind::Kind;
use crate::backend::sqlite::fs::paths::{self, FileId};
use crate::backend::sqlite::fs::regular_file::{self, Permissions};
use crate::backend::sqlite::holders::liveness::{self, Liveness};
use crate::backend::sqlite::retry::RetryBudget;
use crate::error::Result;

const SCHEMA: &str = include_str!("../store/schema.sql");

/// Creates the lock file at a path that names nothing, or an empty file, with this mode or what the umask
/// leaves of 0666. Succeeds too if another process created it.
pub fn create(path: &Path, kind: Kind, mode: Option<u32>, budget: &mut RetryBudget) -> Result<()> {
    let permissions = Permissions { mode, ..Permissions::default() };
    // On a network file system, file locks may not work. Only SQLite's own locks are used there, which is
    // enough for the schema.
    let lock = if kind.is_network() { None } else { Some(CreationLock::acquire(path, permissions, budget)?) };
    // Visible to another copy of fencelock in this process before the first descriptor is open.
    let liveness = lock.as_ref().map(|_| Liveness::create(path, permissions)).transpose()?;
    if lock.is_some() {
        liveness::refuse_second_copy(path)?;
    }
    let stat = paths::stat(path)?;
    if stat.is_some_and(|stat| stat.length > 0) {
        return Ok(());
    }
    leftovers::check(path, budget)?;
    // What the umask leaves shows in the liveness file. An empty file keeps what its user gave it.
    let default = liveness.as_ref().filter(|_| stat.is_none()).and_then(Liveness::mode);
    let creation = Creation { path, permissions: mode.or(default), remove_leftovers: lock.is_some() };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| errors::sql(path, &error))?;
    pragmas::harden(&connection).map_err(|error| errors::sql(path, &error))?;
    let created = budget.retry_busy(path, || creation.write_schema(&connection));
    if matches!(created, Ok(Created::Yes)) {
        return connection.close().map_err(|(_, error)| errors::sql(path, &error));
    }
    // If it is not empty any more, it may be an application's now: see `HeaderProbe`. If it is, closing harms
    // nothing.
    if let Ok(Some(stat)) = paths::stat(path)
        && stat.length > 0
    {
        header::keep_open(stat.id, connection);
    }
    match created? {
        Created::Yes | Created::ByAnother => Ok(()),
        Created::LeftoversStay(error) => Err(errors::io("remove the leftover files of", path, &error)),
    }
}

/// Whether the schema was written.
enum Created {
    Yes,
    /// Another process wrote to the file first.
    ByAnother,
    /// The files of a deleted database cannot be removed.
    LeftoversStay(io::Error),
}

/// What is done to an empty database while SQLite has it locked.
struct Creation<'a> {
    path: &'a Path,
    permissions: Option<u32>,
    remove_leftovers: bool,
}

impl Creation<'_> {
    fn write_schema(&self, connection: &Connection) -> rusqlite::Result<Created> {
        // Takes effect when the first page is written.
        connection.pragma_update(None, "page_size", header::PAGE_BYTES)?;
        // Busy while another application creates a database here.
        let transaction =
            rusqlite::Transaction::new_unchecked(connection, rusqlite::TransactionBehavior::Exclusive)?;
        // Asks the file system, because beginning has created the first page of an empty database, though not
        // on disk.
        if !matches!(paths::stat(self.path), Ok(Some(stat)) if stat.length == 0) {
            return Ok(Created::ByAnother);
        }
        if self.remove_leftovers
            && let Err(error) = leftovers::remove(self.path)
        {
            return Ok(Created::LeftoversStay(error));
        }
        self.set_permissions();
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", header::APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", header::SCHEMA_VERSION)?;
        transaction.commit()?;
        Ok(Created::Yes)
    }

    /// SQLite creates a database with what the umask leaves of 0644, and gives the files next to it the mode
    /// of the database.
    #[cfg(unix)]
    fn set_permissions(&self) {
        use std::os::unix::fs::PermissionsExt;

        let Some(mode) = self.permissions else { return };
        // By name, because closing another descriptor would drop SQLite's locks. If the file is another
        // user's, it stays as it is; `describe` reports that.
        let _ = std::fs::set_permissions(self.path, std::fs::Permissions::from_mode(mode));
    }

    /// This system has no modes.
    #[cfg(not(unix))]
    #[expect(clippy::unused_self, reason = "other systems have modes")]
    fn set_permissions(&self) {}
}

/// The exclusive right to create the lock file, or to remove files next to it: a locked file of its own.
pub struct CreationLock {
    path: PathBuf,
    // Holds the lock; dropped after the name is removed.
    _file: File,
}

impl CreationLock {
    /// Waits for other processes.
    pub fn acquire(database: &Path, permissions: Permissions, budget: &mut RetryBudget) -> Result<Self> {
        let path = lock_path(database);
        loop {
            let file = regular_file::open_or_create(&path, permissions)
                .map_err(|error| errors::io("create the lock file with the help of", &path, &error))?;
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
    regular_file::open(&lock_path(database))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn lock_path(database: &Path) -> PathBuf {
    paths::sibling(database, "-create")
}
