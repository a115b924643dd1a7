//! Finds out what a file is without changing it.
//!
//! Only the first 100 bytes are read, through SQLite's own file handle: no lock is taken, no journal is
//! rolled back, and no -wal or -shm is opened or created. That is enough, because a lock file has its
//! `application_id` in the main file before it enters WAL mode.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{LazyLock, MutexGuard};

use rusqlite::{Connection, OpenFlags, ffi};

use crate::backend::sqlite::errors;
use crate::backend::sqlite::fs::paths::FileId;
use crate::error::Result;
use crate::runtime::sync::Mutex;

/// Identifies lock files: "FNCL". Stored in the header at offset 68.
pub const APPLICATION_ID: i32 = 0x464e_434c;
/// The version of the schema. Stored in the header at offset 60.
pub const SCHEMA_VERSION: i32 = 1;

/// Rows are small and a transaction changes few of them: of all sizes, this one writes the least per grant
/// and still has room for several rows with names of usual length.
pub const PAGE_BYTES: u32 = 1024;

const HEADER_BYTES: usize = 100;

/// What a file is, by its first bytes. <https://sqlite.org/fileformat2.html#the_database_header>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A lock file.
    LockFile {
        /// The version of its schema.
        version: i32,
        /// Whether it is in WAL mode.
        is_wal: bool,
    },
    /// Another application's database.
    Foreign {
        /// The id of that application; usually 0.
        application_id: i32,
    },
    /// Not a SQLite database, or one that is damaged or encrypted.
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
            APPLICATION_ID => Self::LockFile { version: number(60), is_wal: header[18] == 2 },
            application_id => Self::Foreign { application_id },
        }
    }

    /// Returns whether the lock file is in WAL mode, or why the file cannot be used.
    ///
    /// `Unsupported` if no retry can help, because the configuration names the wrong file.
    /// `BackendUnavailable` if it may have been a lock file.
    pub fn check(self, path: &Path) -> Result<bool> {
        let path = path.display();
        match self {
            Self::LockFile { version: SCHEMA_VERSION, is_wal } => Ok(is_wal),
            Self::LockFile { version, .. } => Err(errors::unsupported(format!(
                "the lock file {path} was created by another version of fencelock (schema {version}, this \
                 one knows {SCHEMA_VERSION}): update fencelock, or set `local` to another path"
            ))),
            Self::Foreign { application_id } => Err(errors::unsupported(format!(
                "{path} is another application's SQLite database (application_id {application_id}). \
                 fencelock needs a file of its own: set `local` to another path. The file was not written to"
            ))),
            Self::Unreadable => Err(errors::unavailable(format!(
                "{path} is not a SQLite database, or is damaged. If it was a lock file of fencelock, move it \
                 away together with its -wal and -shm, and a new one is created; if not, set `local` to \
                 another path. The file was not written to"
            ))),
        }
    }
}

/// The content of a file, and the connection through which it was read. When dropped, it keeps the connection
/// open until the process exits; only [`HeaderProbe::close`] closes it. The file may turn out to belong to an
/// application, or another copy of fencelock may use it in this process: closing our descriptor would drop
/// the POSIX locks that the other copy of SQLite has on the file for this process, and its commits would be
/// lost.
#[derive(Debug)]
pub struct HeaderProbe {
    /// What the file is.
    pub content: Content,
    id: FileId,
    connection: Option<Connection>,
}

impl HeaderProbe {
    /// Reads the header of the file with this id, which is expected at this path.
    pub fn read(path: &Path, id: FileId) -> Result<Self> {
        // A file that is kept open already is not opened again for every attempt.
        let kept = kept().remove(&id);
        let connection = match kept {
            Some(connection) => connection,
            None => Connection::open_with_flags(
                path,
                OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            )
            .map_err(|error| errors::sql(path, &error))?,
        };
        let mut probe = Self { content: Content::Unreadable, id, connection: Some(connection) };
        let header = probe.connection.as_ref().map_or(Err(ffi::SQLITE_MISUSE), header);
        probe.content = Content::of(&header.map_err(|code| {
            errors::sql(path, &rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
        })?);
        Ok(probe)
    }

    /// Closes the connection: the file is ours, and no other copy of SQLite in this process has locks on it.
    pub fn close(mut self) {
        self.connection = None;
    }
}

impl Drop for HeaderProbe {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            keep_open(self.id, connection);
        }
    }
}

/// Keeps this connection open until the process exits; see [`HeaderProbe`].
pub fn keep_open(id: FileId, connection: Connection) {
    // On other systems a lock belongs to a descriptor, not to the process, and closing another one does no
    // harm.
    if cfg!(unix)
        && let Some(second) = kept().insert(id, connection)
    {
        // Two threads read it at the same time. Leaking a connection is better than a damaged database.
        std::mem::forget(second);
    }
}

fn kept() -> MutexGuard<'static, HashMap<FileId, Connection>> {
    static KEPT: LazyLock<Mutex<HashMap<FileId, Connection>>> = LazyLock::new(Mutex::default);
    KEPT.lock()
}

/// The first bytes of the database, filled up with zeros if it is shorter, or SQLite's error code.
fn header(connection: &Connection) -> std::result::Result<[u8; HEADER_BYTES], std::ffi::c_int> {
    let mut bytes = [0_u8; HEADER_BYTES];
    let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
    // SAFETY: the handle is open for as long as `connection` is borrowed, the name is NUL-terminated, and
    // this operation writes one `sqlite3_file *` to its argument.
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
    // SAFETY: SQLite's pager opened this file and keeps it open with the connection; an open file has methods
    // that live as long as the process.
    let Some(read) = (unsafe { (*file).pMethods.as_ref() }).and_then(|methods| methods.xRead) else {
        return Err(ffi::SQLITE_CANTOPEN);
    };
    // SAFETY: `bytes` has room for the 100 bytes requested, and no other thread uses this connection's file
    // meanwhile, because `connection` is not `Sync`.
    match unsafe { read(file, bytes.as_mut_ptr().cast(), 100, 0) } {
        ffi::SQLITE_OK | ffi::SQLITE_IOERR_SHORT_READ => Ok(bytes),
        code => Err(code),
    }
}
