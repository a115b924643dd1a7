//! A lock file of which only one of -wal and -shm is there, although SQLite creates and removes both: a user
//! deleted the other one. Processes that have the deleted one open notice soon, and leave; until then they
//! and a process that opens the file now would use different pairs, and damage it.

use std::io;
use std::path::Path;

use super::create::CreationLock;
use crate::backend::sqlite::errors;
use crate::backend::sqlite::fs::paths;
use crate::backend::sqlite::fs::regular_file::Permissions;
use crate::backend::sqlite::retry::RetryBudget;
use crate::backend::sqlite::store::wal_files::CHECK_INTERVAL;
use crate::error::Result;

/// Returns when SQLite may open the database at this path, as far as these files show.
pub fn repair(database: &Path, budget: &mut RetryBudget) -> Result<()> {
    let exists = |suffix| paths::sibling(database, suffix).symlink_metadata().is_ok();
    if exists("-wal") == exists("-shm") {
        return Ok(());
    }
    // One process at a time, or a second one might remove what the first one created.
    let _lock = CreationLock::acquire(database, Permissions::beside(database), budget)?;
    if exists("-wal") == exists("-shm") {
        return Ok(());
    }
    // By then a process that is in the middle of its transactions has noticed.
    std::thread::sleep(2 * CHECK_INTERVAL);
    if exists("-wal") || !exists("-shm") {
        return Ok(());
    }
    // It says what was in the -wal that is gone: with a new one, every read would fail, and as long as any
    // process has it open, SQLite does not make it anew.
    match std::fs::remove_file(paths::sibling(database, "-shm")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(errors::io("remove the -shm that is left of", database, &error))
        }
        _ => Ok(()),
    }
}
