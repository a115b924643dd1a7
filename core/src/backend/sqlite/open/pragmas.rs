//! The settings of every connection to a lock file.

use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::backend::sqlite::fs::kind::Kind;

/// The frames in the WAL before a commit copies them into the database: SQLite's default, and no more,
/// because finding a page in the WAL's index takes longer the more frames it has of the same few pages.
const CHECKPOINT_FRAMES: u32 = 1000;
/// The size to which a WAL is truncated that a stuck reader let grow.
const WAL_BYTES: u32 = 8 << 20;
/// The page cache, in KiB; negative because SQLite counts pages otherwise.
const CACHE_KIB: i32 = -4096;

/// What every connection needs before it reads a page.
pub fn harden(connection: &Connection) -> rusqlite::Result<()> {
    // We wait ourselves; see `retry`.
    connection.busy_timeout(Duration::ZERO)?;
    // A connection to a file that was replaced must neither delete its successor's -wal by name nor write to
    // it when it closes. A store that closes in good order turns this off.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    // A memory-mapped file that is truncated would kill the host process with SIGBUS.
    connection.pragma_update(None, "mmap_size", 0)
}

/// Sets the journal and the caches. Returns the journal mode that is in effect.
pub fn configure(connection: &Connection, kind: Kind) -> rusqlite::Result<String> {
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", CACHE_KIB)?;
    let (journal, synchronous) = if kind.is_network() {
        // Without FULL a rollback journal may leave a damaged file after a power loss.
        ("DELETE", "FULL")
    } else {
        ("WAL", "NORMAL")
    };
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", journal, |row| row.get(0))?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_FRAMES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
    Ok(mode)
}
