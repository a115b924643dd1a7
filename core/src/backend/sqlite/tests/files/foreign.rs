//! Files that are not lock files are left exactly as they are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rusqlite::Connection;

use crate::backend::contract::SyncBackend;
use crate::backend::sqlite::environment::Environment;
use crate::backend::sqlite::fs::kind::Kind;
use crate::backend::sqlite::open::header::APPLICATION_ID;
#[cfg(target_os = "linux")]
use crate::backend::sqlite::tests::roles::ChildProcess;
use crate::backend::sqlite::tests::{Process, TestDir, registry_with, request};
use crate::backend::sqlite::{Config, SqliteBackend};
use crate::runtime::clock::Clock;

/// Every file of the directory with its bytes. Only for files that no SQLite connection of this process has
/// open.
fn bytes(dir: &TestDir) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(dir.directory.path()).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn refused(dir: &TestDir) -> crate::error::Error {
    dir.process().backend.acquire_sync(&request(&["r"], 1000)).unwrap_err()
}

/// Writes an application's database as it is on disk after the application died in a transaction.
fn leave(dir: &TestDir, journal_mode: &str) {
    let connection = Connection::open(dir.path.with_file_name("app")).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode={journal_mode}; PRAGMA cache_size=1; PRAGMA user_version=5;
             CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT); PRAGMA wal_checkpoint(TRUNCATE);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
             INSERT INTO orders SELECT i, hex(zeroblob(500)) FROM n;"
        ))
        .unwrap();
    // A transaction larger than the cache: this makes a rollback journal hot.
    connection.execute_batch("BEGIN IMMEDIATE; UPDATE orders SET what = hex(zeroblob(600));").unwrap();
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let from = dir.path.with_file_name(format!("app{suffix}"));
        if from.exists() {
            std::fs::copy(&from, dir.path.with_file_name(format!("locks.sqlite{suffix}"))).unwrap();
        }
    }
    drop(connection);
    for name in dir.names().iter().filter(|name| name.starts_with("app")) {
        std::fs::remove_file(dir.path.with_file_name(name)).unwrap();
    }
}

#[test]
fn an_applications_database_is_refused_and_left_as_it_is() {
    let wal = ["locks.sqlite", "locks.sqlite-shm", "locks.sqlite-wal"];
    let delete = ["locks.sqlite", "locks.sqlite-journal"];
    for (mode, names) in [("wal", &wal[..]), ("delete", &delete)] {
        let dir = TestDir::new();
        leave(&dir, mode);
        assert_eq!(dir.names(), names, "{mode}");
        let before = bytes(&dir);
        assert!(before.values().all(|bytes| !bytes.is_empty()));
        for _ in 0..3 {
            let error = refused(&dir);
            assert_eq!(error.code(), "UNSUPPORTED");
            assert!(error.to_string().contains("another application's SQLite database"), "{error}");
            assert!(error.to_string().contains("locks.sqlite"), "{error}");
        }
        assert!(bytes(&dir) == before, "{mode}: bytes or names changed");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_applications_locks_in_this_process_survive_the_refusal() {
    use rustix::fs::{FlockOperation, fcntl_lock};
    let dir = TestDir::new();
    leave(&dir, "wal");
    let database = std::fs::OpenOptions::new().read(true).write(true).open(&dir.path).unwrap();
    let is_locked = || fcntl_lock(&database, FlockOperation::NonBlockingLockExclusive).is_err();
    let mut application = ChildProcess::start("application", &dir.path);
    assert_eq!(application.read_report(), "UNSUPPORTED");
    assert!(is_locked());
    application.resume();
    assert_eq!(application.read_report(), "dropped");
    assert!(!is_locked(), "so this test can fail");
}

#[test]
fn a_file_that_is_not_a_database_is_left_as_it_is() {
    let dir = TestDir::new();
    for content in ["not a database".repeat(100), "short".to_owned(), "SQLite format 3\u{1}".repeat(100)] {
        std::fs::write(&dir.path, &content).unwrap();
        let error = refused(&dir);
        assert_eq!(error.code(), "BACKEND_UNAVAILABLE");
        assert!(error.to_string().contains("is not a SQLite database"), "{error}");
        assert_eq!(std::fs::read_to_string(&dir.path).unwrap(), content);
        assert_eq!(dir.names(), ["locks.sqlite"]);
    }
}

#[test]
fn a_damaged_lock_file_is_reported_and_left_as_it_is() {
    let dir = TestDir::new();
    let process = dir.process();
    process.acquire(&["r"], 60_000);
    process.close();
    let mut content = std::fs::read(&dir.path).unwrap();
    content[100..].fill(0x55);
    std::fs::write(&dir.path, &content).unwrap();
    let error = refused(&dir);
    assert_eq!(error.code(), "BACKEND_UNAVAILABLE");
    assert!(error.to_string().contains("is damaged. Move it away"), "{error}");
    assert!(error.cause().is_some());
    assert!(std::fs::read(&dir.path).unwrap()[100..] == content[100..]);
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let dir = TestDir::new();
    let process = dir.process();
    process.connect().unwrap();
    process.close();
    dir.raw().pragma_update(None, "user_version", 2).unwrap();
    let error = refused(&dir);
    assert_eq!(error.code(), "UNSUPPORTED");
    assert!(error.to_string().contains("schema 2, this one knows 1"), "{error}");
}

#[test]
fn a_lock_file_is_marked_as_ours_before_it_enters_wal_mode() {
    let dir = TestDir::new();
    let process = dir.process();
    process.connect().unwrap();
    // Reads the main file only, as the header check does.
    let header = std::fs::read(&dir.path).unwrap();
    assert_eq!(header[68..72], APPLICATION_ID.to_be_bytes());
}

#[test]
fn a_network_file_system_is_refused_unless_allowed() {
    let dir = TestDir::new();
    let environment =
        |clock| Environment { filesystem: |_| Ok(Kind::Network("NFS")), ..Environment::new(clock) };
    let process = dir.process_with(environment(Clock::System));
    let error = process.connect().unwrap_err();
    assert_eq!(error.code(), "UNSUPPORTED");
    assert!(
        error.to_string().contains("NFS") && error.to_string().contains("allowNetworkFilesystem"),
        "{error}"
    );
    assert_eq!(dir.names(), [""; 0]);

    let allowed = |clock: Clock| {
        let config = Config { allow_network_filesystem: true, ..dir.config() };
        Process::new(SqliteBackend::in_registry(config, registry_with(environment(clock))))
    };
    let clock = crate::runtime::clock::fake::FakeClock::new();
    let (one, two) = (allowed(clock.clock()), allowed(clock.clock()));
    // Neither another boot nor a liveness file proves a death there: only the wall clock ends a lease.
    let lease = one.acquire(&["r"], 3_600_000);
    assert_eq!(dir.names(), ["locks.sqlite"], "no WAL, no liveness file");
    clock.reboot();
    assert_eq!(two.busy_for("r"), std::time::Duration::from_secs(3600 - 60));
    let guarantee = two.describe();
    assert!(
        guarantee.summary.contains("journal DELETE") && guarantee.summary.contains("survives power loss")
    );
    assert!(guarantee.warnings[0].contains("NFS"), "{guarantee:?}");
    assert!(two.release(&lease).unwrap());
    one.close();
    two.close();

    // Created on a local disk, it is in WAL mode, which does not work on a network file system.
    let local = dir.process();
    local.connect().unwrap();
    local.close();
    let error = allowed(Clock::System).connect().unwrap_err();
    assert!(error.to_string().contains("in WAL mode"), "{error}");
}
