//! What the managers and workers of one process share: one [`LockFile`] per spelling of a path, one
//! [`Store`](crate::backend::sqlite::store::Store) per inode.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Weak};

use super::lock_file::{FileUser, LockFile};
use crate::backend::contract::LossListener;
use crate::backend::sqlite::config::{Config, Durability};
use crate::backend::sqlite::environment::Environment;
use crate::backend::sqlite::fs::paths;
use crate::backend::sqlite::open::stores::Stores;
use crate::error::Result;
use crate::runtime::clock::Clock;
use crate::runtime::sync::Mutex;

/// By path as users spell it, and by whether they allow network file systems.
type Files = HashMap<(PathBuf, bool), Weak<LockFile>>;

/// The lock files of a process. There is one registry per process; tests create more to simulate other
/// processes.
#[derive(Debug)]
pub struct Registry {
    /// What its lock files depend on.
    pub environment: Environment,
    /// Those that are open.
    pub stores: Stores,
    files: Mutex<Files>,
}

impl Registry {
    /// A registry of no files.
    pub fn new(environment: Environment) -> Self {
        Self { environment, stores: Stores::default(), files: Mutex::default() }
    }

    /// The registry of this process.
    pub fn process() -> &'static Self {
        static PROCESS: LazyLock<Registry> = LazyLock::new(|| Registry::new(Environment::new(Clock::System)));
        &PROCESS
    }

    /// Adds a user of this lock file. Starts its thread if necessary; opens nothing. `listener` is notified
    /// of leases that were lost with their file.
    pub fn join(&'static self, config: &Config, listener: LossListener) -> Result<FileUser> {
        let key = (paths::absolute(&config.path)?, config.allow_network_filesystem);
        let mut files = self.files.lock();
        let file = if let Some(file) = files.get(&key).and_then(Weak::upgrade) {
            file
        } else {
            let file = LockFile::new(&self.environment, &self.stores, key.0.clone(), key.1)?;
            let file = Arc::new(file);
            files.retain(|_, file| file.strong_count() > 0);
            files.insert(key, Arc::downgrade(&file));
            file
        };
        if config.durability == Durability::Full {
            file.committer().require_full();
        }
        if let Some(mode) = config.mode {
            file.committer().set_permissions(mode);
        }
        Ok(FileUser::new(file, listener))
    }
}
