//! Errors of this backend: what happened, what it means for the lease, what to do.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::ErrorCode;

use crate::error::{Error, Report};

/// The operating system refused something.
pub fn io(action: &str, path: &Path, error: &io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "its directory does not exist: create it, or set `local` to another path",
        io::ErrorKind::NotADirectory => "a part of its path is not a directory: correct `local`",
        io::ErrorKind::PermissionDenied => {
            "this process lacks the permission: it needs to write the directory"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only: set `local` to a path on a writable one"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "no space is left: free some",
        io::ErrorKind::InvalidFilename => "the name is too long or not allowed: correct `local`",
        io::ErrorKind::Unsupported => {
            "the file system has no file locks: set `local` to a path on one that has"
        }
        _ => "see the cause",
    };
    Error::BackendUnavailable(Report::caused_by_io(
        format!("cannot {action} {}: {hint}. Nothing was granted", path.display()),
        error,
    ))
}

/// SQLite refused something, and nothing was committed.
pub fn sql(path: &Path, error: &rusqlite::Error) -> Error {
    let hint = match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => "cannot be opened; its directory must exist and be writable",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "cannot be written; this process needs to write the file and its directory"
        }
        Some(ErrorCode::DiskFull) => "cannot grow, because no space is left: free some",
        Some(ErrorCode::SystemIoFailure) => "cannot be read or written; the cause names what failed",
        Some(ErrorCode::OutOfMemory) => "cannot be used for lack of memory",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) | None => {
            "is damaged. Move it away together with its -wal and -shm (fencelock never deletes it), and a \
             new one is created. The old leases are lost then; tokens keep rising with the clock"
        }
        _ => "cannot be used; see the cause",
    };
    Error::BackendUnavailable(Report::caused(
        format!("the lock file {} {hint}. Nothing was granted", path.display()),
        error,
    ))
}

/// A commit failed, and it is not known whether it took effect.
pub fn unknown(path: &Path, error: &rusqlite::Error) -> Error {
    Error::OutcomeUnknown(Report::caused(
        format!(
            "a commit to the lock file {} failed midway; whether it took effect is unknown. What may have \
             been granted is being released in the background; do not treat it as held",
            path.display()
        ),
        error,
    ))
}

/// Another connection has the lock at the moment; retrying helps.
pub fn is_busy(error: &rusqlite::Error) -> bool {
    // PROTOCOL: SQLite lost the race for a WAL lock too often.
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed)
    )
}

/// Another process kept the write lock until our time ran out.
pub fn busy_timeout(path: &Path, waited: Duration) -> Error {
    Error::unavailable(format!(
        "another process has held the write lock of the lock file {} for {} ms, so nothing was granted. \
         fencelock itself holds it for microseconds: look for a program that has the file open in a \
         transaction, or for a stopped process",
        path.display(),
        waited.as_millis(),
    ))
}

/// The file is deleted or replaced faster than it can be opened.
pub fn replaced_too_often(path: &Path) -> Error {
    Error::unavailable(format!(
        "the lock file {} keeps being deleted or replaced, so nothing was granted: find the program that \
         does it",
        path.display()
    ))
}

/// A row has a value that this version did not write.
pub fn malformed(column: usize, name: &str) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(column, name.to_owned(), rusqlite::types::Type::Blob)
}
