//! Local locks through a manager, in a file of their own.

use std::sync::Arc;
use std::time::Duration;

use fencelock_core::backend::Backend;
use fencelock_core::backend::sqlite::{Config, Durability, SqliteBackend};
use fencelock_core::lease::{Holder, Strategy};
use fencelock_core::manager::{Acquired, Manager};
use fencelock_core::runtime::clock::Clock;
use tempfile::TempDir;

use crate::managed::side_by_side;
use crate::{Alive, repeat, wanted};

/// Synchronous, on the calling thread.
pub fn one(operations: u32) -> Duration {
    let (manager, _folder) = manager();
    repeat(operations, || match manager.acquire_sync(Strategy::Local, &wanted("order:12345")) {
        Ok(Acquired::Granted { id, .. }) => assert!(manager.release_sync(id).expect("the file is there")),
        other => panic!("not granted: {other:?}"),
    })
}

/// All acquires in one transaction, all releases in another.
pub fn together(operations: u32) -> Duration {
    let (manager, _folder) = manager();
    side_by_side(&manager, Strategy::Local, operations)
}

fn manager() -> (Arc<Manager>, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().canonicalize().expect("it is there").join("locks.sqlite");
    let config = Config {
        path,
        durability: Durability::Normal,
        allow_network_filesystem: false,
        mode: None,
        is_relative: false,
    };
    let backend = SqliteBackend::new(config, Clock::System);
    let manager = Manager::new(
        [(Strategy::Local, Backend::Sqlite(backend))],
        Holder::named("bench"),
        Clock::System,
        Box::new(|_, _| ()),
        Arc::new(Alive),
    );
    (manager, folder)
}
