//! Whose database a file is, found out without touching it.
//!
//! Only the first 100 bytes are read, through SQLite's own file handle: no lock is taken, no journal rolled back, no
//! -wal or -shm opened, let alone made. That is enough, because `application_id` is in the main file before a lock
//! file of ours enters WAL mode.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags, ffi};

use crate::backend::sqlite::errors;
use crate::backend::sqlite::fs::paths::FileId;
use crate::error::{Error, Result};

/// Marks our files: "FNCL". Kept in the header at offset 68.
pub const APPLICATION_ID: i32 = 0x464e_434c;
/// The schema's version. Kept in the header at offset 60.
pub const SCHEMA_VERSION: i32 = 1;

const HEADER_BYTES: usize = 100;

/// What the first bytes of a file say. <https://sqlite.org/fileformat2.html#the_database_header>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A lock file of ours.
    Ours {
        /// Its schema's version.
        version: i32,
        /// Whether it is in WAL mode.
        wal: bool,
    },
    /// Another application's database.
    Foreign {
        /// That application's mark; mostly 0.
        application_id: i32,
    },
    /// No SQLite database, or a damaged or an encrypted one.
    Unreadable,
}

impl Content {
    fn of(header: &[u8; HEADER_BYTES]) -> Self {
        let number =
            |at: usize| i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if !header.starts_with(b"SQLite format 3\0") {
            return Self::Unreadable;
        }
        match number(68) {
            APPLICATION_ID => Self::Ours { version: number(60), wal: header[18] == 2 },
            application_id => Self::Foreign { application_id },
        }
    }

    /// What to tell the user of a file that is not ours to use; `Ok` with whether it is in WAL mode if it is.
    ///
    /// `Unsupported` for what no retry can change, as for a network file system: the configuration names the wrong
    /// file. `BackendUnavailable` for what may have been a lock file.
    pub fn check(self, path: &Path) -> Result<bool> {
        let path = path.display();
        match self {
            Self::Ours { version: SCHEMA_VERSION, wal } => Ok(wal),
            Self::Ours { version, .. } => Err(Error::unsupported(format!(
                "the lock file {path} was made by another version of fencelock (schema {version}, this one knows \
                 {SCHEMA_VERSION}): update fencelock, or set `local` to another path. Nothing was granted"
            ))),
            Self::Foreign { application_id } => Err(Error::unsupported(format!(
                "{path} is another application's SQLite database (application_id {application_id}). fencelock needs \
                 a file of its own: set `local` to another path. The file was not written to, and nothing was granted"
            ))),
            Self::Unreadable => Err(Error::unavailable(format!(
                "{path} is no SQLite database, or a damaged one. If it was fencelock's, move it away together with \
                 its -wal and -shm, and a new one is made; if not, set `local` to another path. The file was not \
                 written to, and nothing was granted"
            ))),
        }
    }
}

/// A look at a file, and the connection it was taken over. Dropped, it keeps the connection open for the life of the
/// process; only [`Glance::close`] closes it. For if the file turns out to be an application's (or another copy of
/// fencelock uses it here), closing our descriptor would drop the POSIX locks that the other copy of SQLite has on
/// the file for this process, and its commits would be lost.
#[derive(Debug)]
pub struct Glance {
    /// What the file is.
    pub content: Content,
    id: FileId,
    connection: Option<Connection>,
}

impl Glance {
    /// Looks at the file with this id that is expected at this path.
    pub fn take(path: &Path, id: FileId) -> Result<Self> {
        // A file that we keep open already is not opened once more for every attempt.
        let kept = kept().remove(&id);
        let connection = match kept {
            Some(connection) => connection,
            None => Connection::open_with_flags(
                path,
                OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            )
            .map_err(|error| errors::sql(path, &error))?,
        };
        let mut glance = Self { content: Content::Unreadable, id, connection: Some(connection) };
        let header = glance.connection.as_ref().map_or(Err(ffi::SQLITE_MISUSE), header);
        glance.content = Content::of(&header.map_err(|code| {
            errors::sql(path, &rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
        })?);
        Ok(glance)
    }

    /// Closes the connection: the file is ours, and no other copy of SQLite in this process has locks on it.
    pub fn close(mut self) {
        self.connection = None;
    }
}

impl Drop for Glance {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            keep_open(self.id, connection);
        }
    }
}

/// Never closes this connection; see [`Glance`].
pub fn keep_open(id: FileId, connection: Connection) {
    // Elsewhere a lock belongs to a descriptor, not to the process, and closing another one does no harm.
    if cfg!(unix)
        && let Some(second) = kept().insert(id, connection)
    {
        // Two threads looked at once. Leaking one is cheaper than a damaged database.
        std::mem::forget(second);
    }
}

fn kept() -> MutexGuard<'static, HashMap<FileId, Connection>> {
    static KEPT: LazyLock<Mutex<HashMap<FileId, Connection>>> = LazyLock::new(Mutex::default);
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first bytes of the database, zeros where it is shorter, or SQLite's error code.
fn header(connection: &Connection) -> std::result::Result<[u8; HEADER_BYTES], std::ffi::c_int> {
    let mut bytes = [0_u8; HEADER_BYTES];
    let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
    // SAFETY: the handle is open for as long as `connection` is borrowed, the name is NUL-terminated, and this
    // operation writes one `sqlite3_file *` to its argument.
    let code = unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_FILE_POINTER,
            (&raw mut file).cast(),
        )
    };
    if code != ffi::SQLITE_OK || file.is_null() {
        return Err(if code == ffi::SQLITE_OK { ffi::SQLITE_CANTOPEN } else { code });
    }
    // SAFETY: SQLite's pager opened this file and keeps it open with the connection; an open file has methods that
    // live as long as the process.
    let Some(read) = (unsafe { (*file).pMethods.as_ref() }).and_then(|methods| methods.xRead) else {
        return Err(ffi::SQLITE_CANTOPEN);
    };
    // SAFETY: `bytes` has the 100 bytes that are asked for, and nobody else uses this connection's file meanwhile, for
    // `connection` is not `Sync`.
    match unsafe { read(file, bytes.as_mut_ptr().cast(), 100, 0) } {
        ffi::SQLITE_OK | ffi::SQLITE_IOERR_SHORT_READ => Ok(bytes),
        code => Err(code),
    }
}
