//! One file under different names, whose -wal and -shm would not be the same.
#![cfg(target_os = "linux")]

use crate::backend::contract::{Attempt, SyncBackend};
use std::fs::File;

use crate::backend::sqlite::tests::roles::ChildProcess;
use crate::backend::sqlite::tests::{TestDir, request};

#[test]
fn a_file_with_hard_links_is_refused_by_every_name() {
    let dir = TestDir::new();
    let process = dir.process();
    process.acquire(&["r"], 60_000);
    process.close();
    let alias = dir.path.with_file_name("alias.sqlite");
    std::fs::hard_link(&dir.path, &alias).unwrap();
    for path in [&dir.path, &alias] {
        let error = ChildProcess::start("opener", path).read_report();
        assert_eq!(error, "UNSUPPORTED", "{path:?}");
    }
    let error = dir.process().attempt(&["s"], 1000).unwrap_err();
    assert!(error.to_string().contains("several names (hard links)"), "{error}");
    // A link that is created while the file is open, by a backup for example, does no harm.
    std::fs::remove_file(&alias).unwrap();
    let process = dir.process();
    process.connect().unwrap();
    std::fs::hard_link(&dir.path, &alias).unwrap();
    assert!(matches!(process.backend.acquire_sync(&request(&["s"], 1000)), Ok(Attempt::Granted(_))));
}

#[test]
fn a_file_that_is_mounted_alone_is_refused() {
    let (dir, container) = (TestDir::new(), TestDir::new());
    dir.process().acquire(&["r"], 60_000);
    File::create(&container.path).unwrap();
    let Some(mut inside) = ChildProcess::start_with_mount("opener", &dir.path, &container.path) else {
        eprintln!("skipped: this user may not mount");
        return;
    };
    assert_eq!(inside.read_report(), "UNSUPPORTED");
    assert_eq!(container.names(), ["locks.sqlite"], "nothing is left behind");
}
