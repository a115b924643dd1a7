//! Creating the file: by many processes at once, over leftover files, where it is impossible.

use super::roles::ChildProcess;
use super::{TestDir, request};
use crate::backend::contract::SyncBackend;
use crate::backend::sqlite::open::create::PAGE_BYTES;
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

#[test]
fn leftovers_of_a_deleted_file_are_removed() {
    let dir = TestDir::new();
    for suffix in ["-wal", "-shm", "-journal", "-create"] {
        std::fs::write(dir.path.with_file_name(format!("locks.sqlite{suffix}")), "x".repeat(40_000)).unwrap();
    }
    let process = dir.process();
    let lease = process.acquire(&["r"], 1000);
    process.release(&lease).unwrap();
    process.close();
    assert_eq!(dir.names(), ["locks.sqlite"]);
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
