//! Errors of this backend: what happened, what it means for the lease, what to do.

use std::ffi::c_int;
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, ffi};

use super::fs::permission;
use crate::error::{Consequence, Error, Report};
use crate::lease::token;

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
    let report = Report::caused_by_io(format!("cannot {action} {}: {hint}", path.display()), error);
    Error::BackendUnavailable(report.with_consequence(Consequence::NotGranted))
}

/// SQLite refused something, and nothing was committed.
pub fn sql(path: &Path, error: &rusqlite::Error) -> Error {
    refused(path, error, None)
}

/// SQLite refused something on this connection, just now, and nothing was committed.
pub fn sql_on(path: &Path, error: &rusqlite::Error, connection: &Connection) -> Error {
    refused(path, error, system_error(error, connection))
}

fn refused(path: &Path, error: &rusqlite::Error, system: Option<io::Error>) -> Error {
    let hint = match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => "cannot be opened; its directory must exist and be writable",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "cannot be written; this process needs to write the lock file, its -wal and -shm, and their directory"
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
    let subject = match concerned(path, error) {
        Some(suffix) => format!("the file {}{suffix} beside the lock file", path.display()),
        None => format!("the lock file {}", path.display()),
    };
    let report = Report::caused(format!("{subject} {hint}"), cause(error, system));
    Error::BackendUnavailable(report.with_consequence(Consequence::NotGranted))
}

/// What SQLite and the system say.
fn cause(error: &rusqlite::Error, system: Option<io::Error>) -> String {
    let code =
        error.sqlite_error().map(|failure| format!(" (SQLite's code {})", code_name(failure.extended_code)));
    let system = system.map(|system| format!(": {system}"));
    format!("{error}{}{}", code.unwrap_or_default(), system.unwrap_or_default())
}

/// The system's error behind one of SQLite's.
fn system_error(error: &rusqlite::Error, connection: &Connection) -> Option<io::Error> {
    // SQLite keeps it for these only.
    matches!(error.sqlite_error_code()?, ErrorCode::SystemIoFailure | ErrorCode::CannotOpen).then_some(())?;
    // SAFETY: the handle is open for as long as `connection` is borrowed, and the function only reads it.
    let number = unsafe { ffi::sqlite3_system_errno(connection.handle()) };
    (number != 0).then(|| io::Error::from_raw_os_error(number))
}

/// SQLite's code, with its name if it says which file failed. <https://sqlite.org/rescode.html>
fn code_name(code: c_int) -> String {
    let name = match code {
        ffi::SQLITE_IOERR_READ => "IOERR_READ",
        ffi::SQLITE_IOERR_SHORT_READ => "IOERR_SHORT_READ",
        ffi::SQLITE_IOERR_WRITE => "IOERR_WRITE",
        ffi::SQLITE_IOERR_FSYNC => "IOERR_FSYNC",
        ffi::SQLITE_IOERR_DIR_FSYNC => "IOERR_DIR_FSYNC",
        ffi::SQLITE_IOERR_TRUNCATE => "IOERR_TRUNCATE",
        ffi::SQLITE_IOERR_FSTAT => "IOERR_FSTAT",
        ffi::SQLITE_IOERR_LOCK => "IOERR_LOCK",
        ffi::SQLITE_IOERR_UNLOCK => "IOERR_UNLOCK",
        ffi::SQLITE_IOERR_SHMOPEN => "IOERR_SHMOPEN",
        ffi::SQLITE_IOERR_SHMSIZE => "IOERR_SHMSIZE",
        ffi::SQLITE_IOERR_SHMLOCK => "IOERR_SHMLOCK",
        ffi::SQLITE_IOERR_SHMMAP => "IOERR_SHMMAP",
        ffi::SQLITE_READONLY_RECOVERY => "READONLY_RECOVERY",
        ffi::SQLITE_READONLY_CANTLOCK => "READONLY_CANTLOCK",
        ffi::SQLITE_READONLY_CANTINIT => "READONLY_CANTINIT",
        ffi::SQLITE_READONLY_DIRECTORY => "READONLY_DIRECTORY",
        _ => return code.to_string(),
    };
    format!("{code}, {name}")
}

/// Which of the files beside the lock file SQLite failed with, if that can be told.
fn concerned(path: &Path, error: &rusqlite::Error) -> Option<&'static str> {
    match error.sqlite_error()?.extended_code {
        ffi::SQLITE_IOERR_SHMOPEN
        | ffi::SQLITE_IOERR_SHMSIZE
        | ffi::SQLITE_IOERR_SHMLOCK
        | ffi::SQLITE_IOERR_SHMMAP
        | ffi::SQLITE_READONLY_CANTLOCK
        | ffi::SQLITE_READONLY_CANTINIT => Some("-shm"),
        // What is missing in the database itself reads as zeros.
        ffi::SQLITE_IOERR_SHORT_READ => Some("-wal"),
        _ if !matches!(
            error.sqlite_error_code()?,
            ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied
        ) =>
        {
            None
        }
        _ if !permission::may_write(path) => None,
        _ => ["-wal", "-shm", "-journal"].into_iter().find(|suffix| {
            let mut sibling = path.as_os_str().to_owned();
            sibling.push(suffix);
            !permission::may_write(Path::new(&sibling))
        }),
    }
}

/// A commit failed, and it is not known whether it took effect.
pub fn unknown(path: &Path, cause: &str) -> Error {
    let report = Report::caused(
        format!(
            "a commit to the lock file {} failed midway; whether it took effect is unknown",
            path.display()
        ),
        cause,
    );
    Error::OutcomeUnknown(report.with_consequence(Consequence::MayBeGranted))
}

/// The lock file cannot be used now, and nothing was granted. The message does not end with a full stop.
pub fn unavailable(message: impl Into<String>) -> Error {
    Error::BackendUnavailable(Report::new(message).with_consequence(Consequence::NotGranted))
}

/// The lock file cannot be used as it is, and nothing was granted. The message does not end with a full stop.
pub fn unsupported(message: impl Into<String>) -> Error {
    Error::Unsupported(Report::new(message).with_consequence(Consequence::NotGranted))
}

/// Whether the error speaks of the connection rather than of what was asked for: a new connection may work.
pub fn is_of_connection(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::CannotOpen
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                // "no such table": the file was overwritten.
                | ErrorCode::Unknown
        )
    )
}

/// Whether the error speaks of one row only: it has a value that this version did not write.
pub fn is_of_row(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code().is_none()
}

/// Another connection has the lock at the moment; retrying helps.
pub fn is_busy(error: &rusqlite::Error) -> bool {
    // PROTOCOL: SQLite lost the race for a WAL lock too often.
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed)
    )
}

/// Others were in the way until our time ran out.
pub fn busy_timeout(path: &Path, waited: Duration) -> Error {
    // Without its first page there is nothing that could be locked for long.
    let is_empty = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0);
    let (path, waited) = (path.display(), waited.as_millis());
    unavailable(if is_empty {
        format!(
            "the lock file {path} is empty, and for {waited} ms a process has kept it from being created. If a \
             program emptied it, the processes that have it open let go of it at their next call; otherwise \
             look for a stopped process"
        )
    } else {
        format!(
            "another process has held the write lock of the lock file {path} for {waited} ms. fencelock itself \
             holds it for microseconds: look for a program that has the file open in a transaction, or for a \
             stopped process"
        )
    })
}

/// Another thread of this process used the connection until our time ran out.
pub fn used_by_other_thread(path: &Path, waited: Duration) -> Error {
    unavailable(format!(
        "this process has been writing the lock file {} for {} ms: its disk does not answer",
        path.display(),
        waited.as_millis(),
    ))
}

/// There is no token above the stored one of this resource, or the clock (µs since 1970).
pub fn no_next_token(path: &Path, resource: &str, stored: u64, clock_us: u64) -> Error {
    Error::unavailable(if clock_us >= token::TOKEN_LIMIT {
        token::cannot_rise(
            format_args!("the clock of this host is at {clock_us} µs since 1970"),
            "Set the clock, and try again",
        )
    } else {
        token::cannot_rise(
            format_args!("the stored token of {resource:?} is {stored}"),
            format_args!(
                "Find what wrote it, for example a clock that was far ahead; then delete the row of this \
                 resource in the table `leases` of the lock file {}: its tokens go on from the clock. Guards \
                 that have seen a higher token refuse them until their fence is reset, too",
                path.display()
            ),
        )
    })
}

/// The file is deleted or replaced faster than it can be opened.
pub fn replaced_too_often(path: &Path) -> Error {
    unavailable(format!(
        "the lock file {} keeps being deleted or replaced: find the program that does it",
        path.display()
    ))
}

/// A row has a value that this version did not write.
pub fn malformed(column: usize, name: &str) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(column, name.to_owned(), rusqlite::types::Type::Blob)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Call;

    fn failure(extended: c_int) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(extended), Some("disk I/O error".to_owned()))
    }

    #[test]
    fn errors_name_the_file_that_failed_and_the_code() {
        let path = Path::new("/d/locks.sqlite");
        for (code, name, file) in [
            (ffi::SQLITE_IOERR_SHMMAP, "IOERR_SHMMAP", "the file /d/locks.sqlite-shm beside the lock file"),
            (
                ffi::SQLITE_IOERR_SHORT_READ,
                "IOERR_SHORT_READ",
                "the file /d/locks.sqlite-wal beside the lock file",
            ),
            (ffi::SQLITE_IOERR_FSYNC, "IOERR_FSYNC", "the lock file /d/locks.sqlite cannot"),
        ] {
            let error = sql(path, &failure(code));
            assert!(error.to_string().starts_with(file), "{error}");
            let cause = error.cause().unwrap();
            assert_eq!(cause, format!("disk I/O error (SQLite's code {code}, {name})"));
        }
    }

    #[test]
    fn errors_carry_the_number_of_the_system() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none/locks.sqlite");
        let connection = Connection::open_in_memory().unwrap();
        let attach = connection.execute("ATTACH ?1 AS other", [path.to_str()]).unwrap_err();
        let error = sql_on(&path, &attach, &connection);
        assert!(error.cause().unwrap().contains("os error 2"), "{:?}", error.cause());
    }

    #[test]
    fn a_path_that_reads_like_a_consequence_stays_as_it_is() {
        let path = Path::new("/d/Nothing was granted/locks.sqlite");
        for error in [replaced_too_often(path), unknown(path, "?"), unsupported(path.display().to_string())] {
            for error in [Call::Extend, Call::HandOver, Call::Release].map(|call| error.clone().of(call)) {
                assert!(error.to_string().contains("/d/Nothing was granted/locks.sqlite"), "{error}");
            }
        }
    }

    #[test]
    fn what_fails_after_a_grant_does_not_speak_of_grants() {
        let path = Path::new("/d/locks.sqlite");
        let errors = [
            sql(path, &failure(ffi::SQLITE_IOERR)),
            busy_timeout(path, Duration::from_secs(2)),
            used_by_other_thread(path, Duration::from_secs(2)),
            replaced_too_often(path),
            unknown(path, "?"),
            io("lock", path, &io::ErrorKind::PermissionDenied.into()),
        ];
        for error in errors {
            assert!(error.to_string().contains("granted"), "{error}");
            for error in [Call::Extend, Call::HandOver, Call::Release].map(|call| error.clone().of(call)) {
                let message = error.to_string();
                assert_eq!(message.matches(". The l").count(), 1, "{message}");
                assert!(!message.contains("granted"), "{message}");
            }
        }
    }
}
