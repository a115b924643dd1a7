//! Creating the file: by many processes at once, over leftover files, where it is impossible.

use std::time::Duration;

use crate::backend::contract::SyncBackend;
use crate::backend::sqlite::environment::Environment;
use crate::backend::sqlite::open::header::PAGE_BYTES;
use crate::backend::sqlite::retry::Timeouts;
use crate::backend::sqlite::tests::roles::ChildProcess;
use crate::backend::sqlite::tests::{TestDir, request};
use crate::backend::sqlite::{Config, SqliteBackend};
use crate::runtime::clock::Clock;

#[test]
fn many_processes_create_one_file() {
    let dir = TestDir::new();
    let mut children: Vec<ChildProcess> = (0..8).map(|_| ChildProcess::start("creator", &dir.path)).collect();
    for child in &mut children {
        assert_eq!(child.read_report(), "ready");
    }
    children.iter_mut().for_each(ChildProcess::resume);
    let won: u32 = children.iter_mut().map(|child| child.read_report().parse::<u32>().unwrap()).sum();
    assert_eq!(won, 20, "each of 20 resources has one holder");
    let page: u32 = dir.raw().pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
    assert_eq!(page, PAGE_BYTES);
    assert!(!dir.names().iter().any(|name| name.ends_with("-create")), "{:?}", dir.names());
}

#[test]
fn an_empty_file_is_adopted() {
    let dir = TestDir::new();
    std::fs::write(&dir.path, "").unwrap();
    dir.process().acquire(&["r"], 1000);
}

/// Writes a file next to the lock file, as old as if it had been left there.
fn leave(dir: &TestDir, suffix: &str, content: &[u8]) {
    let path = dir.path.with_file_name(format!("locks.sqlite{suffix}"));
    std::fs::write(&path, content).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).unwrap();
}

#[test]
fn leftovers_of_a_deleted_file_are_removed() {
    let dir = TestDir::new();
    let elsewhere = TestDir::new();
    let holder = elsewhere.process();
    holder.acquire(&["left"], 60_000);
    let wal = std::fs::read(elsewhere.path.with_file_name("locks.sqlite-wal")).unwrap();
    assert!(wal.len() > 1000);
    for suffix in ["-shm", "-journal", "-create"] {
        leave(&dir, suffix, "x".repeat(40_000).as_bytes());
    }
    leave(&dir, "-wal", &wal);
    let process = dir.process();
    assert_eq!(process.inspect("left").unwrap(), None);
    let lease = process.acquire(&["r"], 1000);
    assert_eq!(process.inspect("left").unwrap(), None);
    process.release(&lease).unwrap();
    process.close();
    assert_eq!(dir.names(), ["locks.sqlite"]);
}

#[test]
fn what_may_be_anothers_is_not_removed() {
    let application = TestDir::new();
    let connection = application.raw();
    connection
        .execute_batch("PRAGMA page_size=1024; PRAGMA journal_mode=WAL; CREATE TABLE orders (id INTEGER)")
        .unwrap();
    let wal = |suffix: &str| std::fs::read(application.path.with_file_name(format!("locks.sqlite{suffix}")));
    // Of our page size, but with another application's first page.
    let theirs = wal("-wal").unwrap();
    let mut other_size = theirs.clone();
    other_size[8..12].copy_from_slice(&4096_u32.to_be_bytes());
    for (content, code) in [
        (&theirs[..], "UNSUPPORTED"),
        (&other_size, "UNSUPPORTED"),
        (&theirs[..20], "BACKEND_UNAVAILABLE"),
        ("x".repeat(40_000).as_bytes(), "BACKEND_UNAVAILABLE"),
    ] {
        for database in [None, Some("")] {
            let dir = TestDir::new();
            database.inspect(|empty| std::fs::write(&dir.path, empty).unwrap());
            leave(&dir, "-wal", content);
            leave(&dir, "-shm", &wal("-shm").unwrap());
            let before = dir.names();
            let error = dir.process().backend.acquire_sync(&request(&["r"], 1000)).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains("locks.sqlite-wal"), "{error}");
            assert_eq!(dir.names(), before);
            assert!(std::fs::read(dir.path.with_file_name("locks.sqlite-wal")).unwrap() == content);
        }
    }
}

#[test]
fn an_application_that_is_creating_its_database_is_left_alone() {
    let dir = TestDir::new();
    let mut application = ChildProcess::start("creating application", &dir.path);
    assert_eq!(application.read_report(), "creating");
    assert_eq!(dir.names(), ["locks.sqlite", "locks.sqlite-journal"]);
    assert_eq!(std::fs::metadata(&dir.path).unwrap().len(), 0);
    let timeouts = Timeouts { sync: Duration::from_millis(100), ..Timeouts::default() };
    let process = dir.process_with(Environment { timeouts, ..Environment::new(Clock::System) });
    for age in [0, 60] {
        // However long the transaction takes.
        let journal =
            std::fs::File::options().write(true).open(dir.path.with_file_name("locks.sqlite-journal"));
        journal.unwrap().set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
        let error = process.backend.acquire_sync(&request(&["r"], 1000)).unwrap_err();
        assert_eq!(error.code(), "BACKEND_UNAVAILABLE", "{error}");
    }
    application.resume();
    assert_eq!(application.read_report(), "committed");
    let error = process.attempt(&["r"], 1000).unwrap_err();
    assert_eq!(error.code(), "UNSUPPORTED");
    assert!(error.to_string().contains("another application's SQLite database"), "{error}");
    assert!(dir.raw().prepare("SELECT id FROM orders").unwrap().query([]).unwrap().next().unwrap().is_none());
}

#[test]
fn an_interrupted_creation_is_repeated() {
    let dir = TestDir::new();
    // What a process leaves that is killed while it commits the schema: the first page is written, and the
    // journal which says that the file was empty still exists.
    let process = dir.process();
    process.connect().unwrap();
    process.close();
    let header = std::fs::read(&dir.path).unwrap();
    std::fs::write(&dir.path, &header[..PAGE_BYTES as usize]).unwrap();
    let mut journal = vec![0_u8; 4096];
    journal[..8].copy_from_slice(&[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
    journal[20..24].copy_from_slice(&512_u32.to_be_bytes());
    journal[24..28].copy_from_slice(&PAGE_BYTES.to_be_bytes());
    std::fs::write(dir.path.with_file_name("locks.sqlite-journal"), journal).unwrap();
    let process = dir.process();
    let lease = process.acquire(&["r"], 1000);
    process.release(&lease).unwrap();
    process.close();
    assert_eq!(dir.names(), ["locks.sqlite"]);
}

#[test]
fn a_path_where_no_file_can_be_created_is_reported() {
    let dir = TestDir::new();
    let refused = |path: &str| {
        let config = Config { path: dir.path.with_file_name(path), ..dir.config() };
        let error =
            SqliteBackend::new(config, Clock::System).acquire_sync(&request(&["r"], 1000)).unwrap_err();
        assert_eq!(error.code(), "BACKEND_UNAVAILABLE", "{error}");
        assert!(error.to_string().contains("othing was granted"), "{error}");
        error.to_string()
    };
    assert!(refused("no/such/directory/l.sqlite").contains("directory does not exist"));
    assert!(refused(".").contains("is a directory"));
    std::fs::write(dir.path.with_file_name("plain"), "").unwrap();
    assert!(refused("plain/l.sqlite").contains("not a directory"));
    #[cfg(target_os = "linux")]
    {
        // Where even root can create nothing.
        let error = refused("/proc/self/fdinfo/l.sqlite");
        assert!(error.contains("cannot create the lock file"), "{error}");
        assert!(refused("/dev/null").contains("not a regular file"));
    }
}
