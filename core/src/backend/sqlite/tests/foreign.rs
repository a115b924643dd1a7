//! Files that are not ours to use are left exactly as they are.

use crate::backend::contract::SyncBackend;
use std::collections::BTreeMap;
use std::path::PathBuf;

use rusqlite::Connection;

#[cfg(target_os = "linux")]
use super::roles::Actor;
use super::{Place, request};
use crate::backend::sqlite::fs::kind::Kind;
use crate::backend::sqlite::open::header::APPLICATION_ID;
use crate::backend::sqlite::process::registry::Registry;
use crate::runtime::clock::Clock;

/// Every file of the directory with its bytes. For files that no SQLite connection of this process has open.
fn bytes(place: &Place) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(place.directory.path()).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn refused(place: &Place) -> crate::error::Error {
    place.process().backend.acquire_sync(&request(&["r"], 1000)).unwrap_err()
}

/// An application's database, as it is on disk after that process died in the middle of its work.
fn leave(place: &Place, journal_mode: &str) {
    let connection = Connection::open(place.path.with_file_name("app")).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode={journal_mode}; PRAGMA cache_size=1; PRAGMA user_version=5;
             CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT); PRAGMA wal_checkpoint(TRUNCATE);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
             INSERT INTO orders SELECT i, hex(zeroblob(500)) FROM n;"
        ))
        .unwrap();
    // A transaction that spilled: with a rollback journal this makes it hot.
    connection.execute_batch("BEGIN IMMEDIATE; UPDATE orders SET what = hex(zeroblob(600));").unwrap();
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let from = place.path.with_file_name(format!("app{suffix}"));
        if from.exists() {
            std::fs::copy(&from, place.path.with_file_name(format!("locks.sqlite{suffix}"))).unwrap();
        }
    }
    drop(connection);
    for name in place.names().iter().filter(|name| name.starts_with("app")) {
        std::fs::remove_file(place.path.with_file_name(name)).unwrap();
    }
}

#[test]
fn an_applications_database_is_refused_and_left_as_it_is() {
    let wal = ["locks.sqlite", "locks.sqlite-shm", "locks.sqlite-wal"];
    let delete = ["locks.sqlite", "locks.sqlite-journal"];
    for (mode, names) in [("wal", &wal[..]), ("delete", &delete)] {
        let place = Place::new();
        leave(&place, mode);
        assert_eq!(place.names(), names, "{mode}");
        let before = bytes(&place);
        assert!(before.values().all(|bytes| !bytes.is_empty()));
        for _ in 0..3 {
            let error = refused(&place);
            assert_eq!(error.code(), "UNSUPPORTED");
            assert!(error.to_string().contains("another application's SQLite database"), "{error}");
            assert!(error.to_string().contains("locks.sqlite"), "{error}");
        }
        assert!(bytes(&place) == before, "{mode}: bytes or names changed");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_applications_locks_in_this_process_survive_the_refusal() {
    use rustix::fs::{FlockOperation, fcntl_lock};
    let place = Place::new();
    leave(&place, "wal");
    let database = std::fs::OpenOptions::new().read(true).write(true).open(&place.path).unwrap();
    let is_locked = || fcntl_lock(&database, FlockOperation::NonBlockingLockExclusive).is_err();
    let mut application = Actor::start("application", &place.path);
    assert_eq!(application.hear(), "UNSUPPORTED");
    assert!(is_locked());
    application.go_on();
    assert_eq!(application.hear(), "dropped");
    assert!(!is_locked(), "so this test can fail");
}

#[test]
fn what_is_no_database_is_left_as_it_is() {
    let place = Place::new();
    for content in ["not a database".repeat(100), "short".to_owned(), "SQLite format 3\u{1}".repeat(100)] {
        std::fs::write(&place.path, &content).unwrap();
        let error = refused(&place);
        assert_eq!(error.code(), "BACKEND_UNAVAILABLE");
        assert!(error.to_string().contains("no SQLite database"), "{error}");
        assert_eq!(std::fs::read_to_string(&place.path).unwrap(), content);
        assert_eq!(place.names(), ["locks.sqlite"]);
    }
}

#[test]
fn a_damaged_lock_file_is_named_and_left_as_it_is() {
    let place = Place::new();
    let process = place.process();
    process.acquire(&["r"], 60_000);
    process.close();
    let mut content = std::fs::read(&place.path).unwrap();
    content[100..].fill(0x55);
    std::fs::write(&place.path, &content).unwrap();
    let error = refused(&place);
    assert_eq!(error.code(), "BACKEND_UNAVAILABLE");
    assert!(error.to_string().contains("is damaged. Move it away"), "{error}");
    assert!(error.cause().is_some());
    assert!(std::fs::read(&place.path).unwrap()[100..] == content[100..]);
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let place = Place::new();
    let process = place.process();
    process.connect().unwrap();
    process.close();
    place.raw().pragma_update(None, "user_version", 2).unwrap();
    let error = refused(&place);
    assert_eq!(error.code(), "UNSUPPORTED");
    assert!(error.to_string().contains("schema 2, this one knows 1"), "{error}");
}

#[test]
fn a_lock_file_is_marked_as_ours_before_it_enters_wal_mode() {
    let place = Place::new();
    let process = place.process();
    process.connect().unwrap();
    // Read past the WAL, as the identity check does.
    let header = std::fs::read(&place.path).unwrap();
    assert_eq!(header[68..72], APPLICATION_ID.to_be_bytes());
}

#[test]
fn a_network_file_system_is_refused_unless_allowed() {
    let place = Place::new();
    let registry = || Registry { filesystem: |_| Ok(Kind::Network("NFS")), ..Registry::new(Clock::System) };
    let process = place.process_of(registry());
    let error = process.connect().unwrap_err();
    assert_eq!(error.code(), "UNSUPPORTED");
    assert!(
        error.to_string().contains("NFS") && error.to_string().contains("allowNetworkFilesystem"),
        "{error}"
    );
    assert_eq!(place.names(), [""; 0]);

    let allowed = |clock: Clock| {
        let registry = Registry { clock, ..registry() };
        let config = crate::backend::sqlite::Config { allow_network_filesystem: true, ..place.config() };
        let backend =
            crate::backend::sqlite::SqliteBackend::in_registry(config, Box::leak(Box::new(registry)));
        super::Process::of(backend)
    };
    let clock = crate::runtime::clock::fake::FakeClock::new();
    let (one, two) = (allowed(clock.clock()), allowed(clock.clock()));
    // Neither a boot nor a liveness file proves a death there: only the wall clock ends a lease.
    let lease = one.acquire(&["r"], 3_600_000);
    assert_eq!(place.names(), ["locks.sqlite"], "no WAL, no liveness file");
    clock.reboot();
    assert_eq!(two.busy("r"), std::time::Duration::from_secs(3600 - 60));
    let guarantee = two.describe();
    assert!(
        guarantee.summary.contains("journal DELETE") && guarantee.summary.contains("survives power loss")
    );
    assert!(guarantee.warnings[0].contains("NFS"), "{guarantee:?}");
    assert!(two.release(&lease).unwrap());
    one.close();
    two.close();

    // Made on a local disk, it is in WAL mode, which has no business on a network.
    let local = place.process();
    local.connect().unwrap();
    local.close();
    let error = allowed(Clock::System).connect().unwrap_err();
    assert!(error.to_string().contains("in WAL mode"), "{error}");
}
