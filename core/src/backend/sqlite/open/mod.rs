//! From a path to an open store.

pub(crate) mod create;
pub(crate) mod header;
mod leftovers;
mod pragmas;
mod stages;
pub(crate) mod stores;
mod wal_pair;

use std::path::Path;
use std::sync::Arc;

use self::stages::Candidate;
use self::stores::{Known, Stores};
use super::environment::Environment;
use super::errors;
use super::fs::kind::Kind;
use super::fs::paths::{self, FileStat};
use super::fs::regular_file;
use super::retry::RetryBudget;
use super::store::Store;
use crate::error::{Error, Result};

/// What opening a file may do.
#[derive(Debug, Clone, Copy)]
pub struct OpenMode {
    /// Create it if it does not exist.
    pub create: bool,
    /// Accept it on a network file system.
    pub allow_network: bool,
    /// The mode of a file that is created; `None`: what the umask leaves of 0666.
    pub permissions: Option<u32>,
}

/// What came of opening a file.
#[derive(Debug)]
pub enum Opened {
    /// It is open.
    Store(Arc<Store>),
    /// There is no such file, and it was not to be created.
    Missing,
    /// A thread of this process still uses a connection to it that is given up.
    Ending,
}

/// Opens the lock file at this canonical path, or finds the store that has it open.
pub fn open(
    environment: &Environment,
    stores: &Stores,
    path: &Path,
    mode: OpenMode,
    budget: &mut RetryBudget,
) -> Result<Opened> {
    loop {
        let stat = paths::stat(path)?.filter(|stat| stat.length > 0);
        if stat.is_none() && !mode.create {
            return Ok(Opened::Missing);
        }
        let kind = (environment.filesystem)(path.parent().unwrap_or(path))?;
        if let Kind::Network(name) = kind
            && !mode.allow_network
        {
            return Err(network_refused(path, name));
        }
        refuse_special_siblings(path)?;
        let store = match stat {
            None => {
                create::create(path, kind, mode.permissions, budget)?;
                None
            }
            Some(stat) => {
                refuse_other_names(path, stat)?;
                match stores.get(stat.id) {
                    Known::None => {}
                    Known::Open(store) => return Ok(Opened::Store(store)),
                    Known::Ending => return Ok(Opened::Ending),
                }
                Candidate { path, stat, kind }.open(budget)?
            }
        };
        if let Some(store) = store {
            return Ok(stores.share(store).map_or(Opened::Ending, Opened::Store));
        }
        // The file was created just now, is being created, or was replaced meanwhile.
        if !budget.pause() {
            return Err(errors::replaced_too_often(path));
        }
    }
}

/// SQLite opens these by name. A FIFO would block it for ever.
fn refuse_special_siblings(path: &Path) -> Result<()> {
    for sibling in ["-wal", "-shm", "-journal"].map(|suffix| paths::sibling(path, suffix)) {
        match regular_file::is_in_the_way(&sibling) {
            Ok(false) => {}
            Ok(true) => {
                return Err(errors::unavailable(format!(
                    "SQLite needs the name {} next to the lock file, and what is there is not a regular \
                     file: remove it",
                    sibling.display()
                )));
            }
            Err(error) => return Err(errors::io("use", &sibling, &error)),
        }
    }
    Ok(())
}

/// SQLite finds the -wal and -shm of a database by its name. Processes that know it by different names would
/// not see each other's locks, and damage it (<https://sqlite.org/howtocorrupt.html>, section 2.5). A process
/// that has it open already continues, because no other gets in.
fn refuse_other_names(path: &Path, stat: FileStat) -> Result<()> {
    let (problem, remedy) = if stat.links > 1 {
        ("has several names (hard links)", "remove the other names, or set `local` to another path")
    } else if paths::is_mounted_alone(path) {
        ("is mounted as a single file", "mount its directory instead")
    } else {
        return Ok(());
    };
    Err(errors::unsupported(format!(
        "the lock file {} {problem}: processes that use different names, or different mounts, do not see \
         each other's locks; {remedy}",
        path.display()
    )))
}

fn network_refused(path: &Path, name: &str) -> Error {
    errors::unsupported(format!(
        "the lock file {} is on a network file system ({name}): SQLite's locks and dead-holder detection \
         cannot be relied on there. Set `local` to a path on a local disk or, if its locks are known to \
         work, set `allowNetworkFilesystem`",
        path.display()
    ))
}
