//! The -journal, -wal and -shm next to a path that names nothing, or an empty file. A lock file that was
//! deleted left them there; or they belong to another application, which is creating its database, or has
//! lost it. Only the first may be removed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::header::{APPLICATION_ID, PAGE_BYTES};
use crate::backend::sqlite::errors;
use crate::backend::sqlite::fs::{paths, regular_file};
use crate::backend::sqlite::retry::RetryBudget;
use crate::error::Result;

/// How old a journal must be before SQLite is asked whether the file is in use. If its user is another copy
/// of SQLite in this very process, SQLite does not see its locks, and would discard the journal.
const JOURNAL_REST: Duration = Duration::from_secs(3);
/// More frames than a WAL of ours has, with the 8 MiB to which it is truncated.
const MAX_FRAMES: u64 = 10_000;
/// <https://sqlite.org/fileformat2.html#the_write_ahead_log>
const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// Returns when SQLite may open the empty database at this path, as far as the files next to it show. To be
/// called before that, because SQLite itself deletes a -wal next to an empty database.
pub fn check(database: &Path, budget: &mut RetryBudget) -> Result<()> {
    while let Some(age) = journal_age(database)
        && age < JOURNAL_REST
    {
        if !budget.pause() {
            return Err(errors::unavailable(format!(
                "{} was written to a moment ago. If a process was killed while it created the lock file, try \
                 again in {} seconds. If another application is creating a database at {}, set `local` to \
                 another path: fencelock needs a file of its own",
                journal(database).display(),
                JOURNAL_REST.as_secs(),
                database.display(),
            )));
        }
    }
    let wal = paths::sibling(database, "-wal");
    match wal_origin(&wal).map_err(|error| errors::io("read", &wal, &error))? {
        WalOrigin::Nothing | WalOrigin::LockFile => Ok(()),
        WalOrigin::Foreign => Err(errors::unsupported(format!(
            "{} has the latest changes of another application's SQLite database, and {} is missing or empty. \
             fencelock needs a file of its own: set `local` to another path. Nothing was written or removed",
            wal.display(),
            database.display(),
        ))),
        WalOrigin::Unreadable => Err(errors::unavailable(format!(
            "the lock file {} is missing or empty, and {} is not what a lock file leaves, or is damaged. If \
             it was a lock file's, remove it; if not, set `local` to another path. Nothing was written or \
             removed",
            database.display(),
            wal.display(),
        ))),
    }
}

/// Removes what a deleted lock file left. To be called after [`check`], while SQLite has the empty database
/// locked.
///
/// Processes that still have the deleted one open keep its -shm from being reset, and the new database would
/// start with the old one's WAL index. The -shm is not opened to see whose it is: this process may be one of
/// those, and would drop its own locks. It has no data, only an index of the -wal.
pub fn remove(database: &Path) -> io::Result<()> {
    for suffix in ["-wal", "-shm"] {
        match std::fs::remove_file(paths::sibling(database, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn journal(database: &Path) -> PathBuf {
    paths::sibling(database, "-journal")
}

/// When the journal was last written to; `None` if there is none, or nothing in it. The clock may have been
/// set back since: then it counts as old.
fn journal_age(database: &Path) -> Option<Duration> {
    let metadata = std::fs::symlink_metadata(journal(database)).ok()?;
    (metadata.len() > 0).then_some(())?;
    metadata.modified().ok()?.elapsed().ok()
}

/// Whose a WAL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WalOrigin {
    /// There is none, or nothing in it.
    Nothing,
    /// A lock file's.
    LockFile,
    /// Another application's.
    Foreign,
    /// It cannot be told.
    Unreadable,
}

/// Reads the WAL at this path. No copy of SQLite has POSIX locks on a -wal, so closing it drops none.
fn wal_origin(path: &Path) -> io::Result<WalOrigin> {
    let mut file = match regular_file::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(WalOrigin::Nothing),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() == 0 {
        return Ok(WalOrigin::Nothing);
    }
    let Some(header) = read::<HEADER_BYTES>(&mut file, 0)? else { return Ok(WalOrigin::Unreadable) };
    // The last bit is the byte order of its checksums.
    if number(&header, 0) & !1 != 0x377f_0682 {
        return Ok(WalOrigin::Unreadable);
    }
    if number(&header, 8) != PAGE_BYTES {
        return Ok(WalOrigin::Foreign);
    }
    let frame_bytes = FRAME_HEADER_BYTES as u64 + u64::from(PAGE_BYTES);
    for frame in 0..MAX_FRAMES {
        let at = HEADER_BYTES as u64 + frame * frame_bytes;
        let Some(frame) = read::<FRAME_HEADER_BYTES>(&mut file, at)? else { break };
        // Frames with another salt are older than the header, and count for nothing.
        if frame[8..16] != header[16..24] {
            break;
        }
        // The first page has the id of the application.
        if number(&frame, 0) == 1 {
            let id = read::<4>(&mut file, at + FRAME_HEADER_BYTES as u64 + 68)?;
            let is_ours = id.is_some_and(|id| i32::from_be_bytes(id) == APPLICATION_ID);
            return Ok(if is_ours { WalOrigin::LockFile } else { WalOrigin::Foreign });
        }
    }
    Ok(WalOrigin::LockFile)
}

/// `None`: the file ends before.
fn read<const BYTES: usize>(file: &mut File, at: u64) -> io::Result<Option<[u8; BYTES]>> {
    let mut bytes = [0; BYTES];
    file.seek(SeekFrom::Start(at))?;
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
