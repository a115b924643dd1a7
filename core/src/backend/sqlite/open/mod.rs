//! From a path to an open store: whose file it is comes first, then nothing is written before this process is known
//! to be the only copy of fencelock here.

pub(crate) mod create;
pub(crate) mod header;

use std::path::Path;
use std::sync::Arc;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use self::header::{Content, Glance};
use super::errors;
use super::fs::kind::Kind;
use super::fs::paths::{self, Seen};
use super::holders::liveness::{self, Liveness};
use super::process::registry::Registry;
use super::retry::Wait;
use super::store::Store;
use crate::error::{Error, Result};

/// Frames in the WAL before a commit copies them into the database: SQLite's default, and no more, because finding a place
/// in the WAL's index takes the longer the more frames of the same few pages it has.
const CHECKPOINT_FRAMES: u32 = 1000;
/// A WAL that a stuck reader let grow is cut back to this size.
const WAL_BYTES: u32 = 8 << 20;
/// The page cache, in KiB (negative, as SQLite wants it).
const CACHE_KIB: i32 = -4096;

/// On what terms somebody opens a file.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Make it if it is not there.
    pub create: bool,
    /// Take it also on a network file system.
    pub allow_network: bool,
}

/// Opens the lock file at this canonical path, or finds the store that has it open. `None`: there is no such file,
/// and the terms are not to make one.
pub fn open(registry: &Registry, path: &Path, terms: Terms, wait: &mut Wait) -> Result<Option<Arc<Store>>> {
    loop {
        let seen = paths::look(path)?.filter(|seen| seen.length > 0);
        if seen.is_none() && !terms.create {
            return Ok(None);
        }
        let kind = (registry.filesystem)(path.parent().unwrap_or(path))?;
        if let Kind::Network(name) = kind
            && !terms.allow_network
        {
            return Err(network_refused(path, name));
        }
        if let Some(seen) = seen {
            refuse_other_names(path, seen)?;
        }
        let store = match seen {
            None => {
                create::create(path, kind, wait)?;
                None
            }
            Some(seen) => match registry.store(seen.id) {
                Some(store) => return Ok(Some(store)),
                None => attempt(path, seen, kind, wait)?,
            },
        };
        if let Some(store) = store {
            return Ok(Some(registry.share(store)));
        }
        // The file was made just now, is still being made, or was replaced while we looked.
        if !wait.again() {
            return Err(errors::restless(path));
        }
    }
}

/// `None`: the path names another file by now, or one that is not finished; look again.
fn attempt(path: &Path, seen: Seen, kind: Kind, wait: &mut Wait) -> Result<Option<Store>> {
    let is_same = || paths::look(path).map(|now| now.is_some_and(|now| now.id == seen.id));
    if !kind.is_network() {
        // Before our first descriptor on the file, for closing that would harm the other copy.
        liveness::refuse_second_copy(path)?;
    }
    let glance = match Glance::take(path, seen.id) {
        Ok(glance) => glance,
        Err(_) if !is_same()? => return Ok(None),
        Err(error) => return Err(error),
    };
    if !matches!(glance.content, Content::Ours { .. }) && (create::in_progress(path) || !is_same()?) {
        return Ok(None);
    }
    let wal = glance.content.check(path)?;
    if let Kind::Network(name) = kind
        && wal
    {
        return Err(Error::unsupported(format!(
            "the lock file {} is on {name} and in WAL mode, which needs memory shared by all its users: it was made \
             where it is local. Set `local` to another path. Nothing was granted",
            path.display()
        )));
    }
    let liveness = if kind.is_network() {
        None
    } else {
        let liveness = Liveness::keep(path)?;
        // Two copies that get here at the same time see each other, and both refuse.
        liveness::refuse_second_copy(path)?;
        Some(liveness)
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match Connection::open_with_flags(path, flags) {
        Ok(connection) => connection,
        Err(_) if !is_same()? => return Ok(None),
        Err(error) => return Err(errors::sql(path, &error)),
    };
    if !is_same()? {
        // We may have opened whatever is there now.
        if let Some(other) = paths::look(path)? {
            header::keep_open(other.id, connection);
        }
        return Ok(None);
    }
    glance.close();
    if connection.is_readonly("main").map_err(|error| errors::sql(path, &error))? {
        return Err(Error::unavailable(format!(
            "the lock file {} is not writable for this process: give it the permission to write the file and its \
             directory. Nothing was granted",
            path.display()
        )));
    }
    harden(&connection).map_err(|error| errors::sql(path, &error))?;
    let pages: u32 =
        wait.until_free(path, || connection.pragma_query_value(None, "page_count", |row| row.get(0)))?;
    if pages == 0 {
        // Whoever made the file died before it was committed, and SQLite has just rolled that back.
        return Ok(None);
    }
    let version =
        wait.until_free(path, || connection.pragma_query_value(None, "user_version", |row| row.get(0)))?;
    Content::Ours { version, wal }.check(path)?;
    let mode = wait.until_free(path, || configure(&connection, kind))?;
    if !kind.is_network() && mode != "wal" {
        return Err(Error::unsupported(format!(
            "the file system of the lock file {} does not support WAL mode: set `local` to a path on a local disk. \
             Nothing was granted",
            path.display()
        )));
    }
    Ok(Some(Store::new(path.to_owned(), seen.id, kind, liveness, connection)))
}

/// What every connection of ours needs before it reads a page.
pub fn harden(connection: &Connection) -> rusqlite::Result<()> {
    // We wait ourselves; see `busy`.
    connection.busy_timeout(std::time::Duration::ZERO)?;
    // A connection to a file that was replaced must not, when it is closed, delete its successor's -wal by name, nor
    // write to it. A store that is closed in good order turns this off.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    // A memory-mapped file that is cut short would kill the host process with SIGBUS.
    connection.pragma_update(None, "mmap_size", 0)
}

/// Sets the journal and the caches; answers the journal's mode.
fn configure(connection: &Connection, kind: Kind) -> rusqlite::Result<String> {
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

/// The neighbours of a database, -wal and -shm among them, are found by its name. Processes that know it by different
/// names would not see each other's locks, and damage it (<https://sqlite.org/howtocorrupt.html>, section 2.5). Whoever
/// has it open already goes on: nobody else gets in.
fn refuse_other_names(path: &Path, seen: Seen) -> Result<()> {
    let (what, todo) = if seen.links > 1 {
        ("has several names (hard links)", "remove the other names, or set `local` to another path")
    } else if paths::is_mounted_alone(path) {
        ("is mounted as a single file", "mount the directory it is in instead")
    } else {
        return Ok(());
    };
    Err(Error::unsupported(format!(
        "the lock file {} {what}: processes that use different names, or different mounts, do not see each other's \
         locks; {todo}. Nothing was granted",
        path.display()
    )))
}

fn network_refused(path: &Path, name: &str) -> Error {
    Error::unsupported(format!(
        "the lock file {} is on a network file system ({name}): SQLite's locks and dead-holder detection cannot be \
         relied on there. Set `local` to a path on a local disk or, if its locks are known to work, set \
         `allowNetworkFilesystem`. Nothing was granted",
        path.display()
    ))
}
