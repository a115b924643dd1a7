//! Making the file: many at once, over remains, where it cannot be made.

use super::roles::Actor;
use super::{Place, request};
use crate::backend::contract::SyncBackend;
use crate::backend::sqlite::open::create::PAGE_BYTES;
use crate::backend::sqlite::{Config, SqliteBackend};
use crate::runtime::clock::Clock;

#[test]
fn many_processes_make_one_file() {
    let place = Place::new();
    let mut actors: Vec<Actor> = (0..8).map(|_| Actor::start("creator", &place.path)).collect();
    for actor in &mut actors {
        assert_eq!(actor.hear(), "ready");
    }
    actors.iter_mut().for_each(Actor::go_on);
    let won: u32 = actors.iter_mut().map(|actor| actor.hear().parse::<u32>().unwrap()).sum();
    assert_eq!(won, 20, "each of 20 resources has one holder");
    let page: u32 = place.raw().pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
    assert_eq!(page, PAGE_BYTES);
    assert!(!place.names().iter().any(|name| name.ends_with("-create")), "{:?}", place.names());
}

#[test]
fn an_empty_file_is_adopted() {
    let place = Place::new();
    std::fs::write(&place.path, "").unwrap();
    place.process().acquire(&["r"], 1000);
}

#[test]
fn remains_of_a_deleted_file_are_removed() {
    let place = Place::new();
    for suffix in ["-wal", "-shm", "-journal", "-create"] {
        std::fs::write(place.path.with_file_name(format!("locks.sqlite{suffix}")), "x".repeat(40_000))
            .unwrap();
    }
    let process = place.process();
    let lease = process.acquire(&["r"], 1000);
    process.release(&lease).unwrap();
    process.close();
    assert_eq!(place.names(), ["locks.sqlite"]);
}

#[test]
fn a_creation_that_was_interrupted_is_done_again() {
    let place = Place::new();
    // What a process leaves that is killed while it commits the schema: the first page is written, and the journal
    // that says the file was empty is still there.
    let process = place.process();
    process.connect().unwrap();
    process.close();
    let header = std::fs::read(&place.path).unwrap();
    std::fs::write(&place.path, &header[..PAGE_BYTES as usize]).unwrap();
    let mut journal = vec![0_u8; 4096];
    journal[..8].copy_from_slice(&[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
    journal[20..24].copy_from_slice(&512_u32.to_be_bytes());
    journal[24..28].copy_from_slice(&PAGE_BYTES.to_be_bytes());
    std::fs::write(place.path.with_file_name("locks.sqlite-journal"), journal).unwrap();
    let process = place.process();
    let lease = process.acquire(&["r"], 1000);
    process.release(&lease).unwrap();
    process.close();
    assert_eq!(place.names(), ["locks.sqlite"]);
}

#[test]
fn where_no_file_can_be_it_is_said() {
    let place = Place::new();
    let refused = |path: &str| {
        let config = Config { path: place.path.with_file_name(path), ..place.config() };
        let error =
            SqliteBackend::new(config, Clock::System).acquire_sync(&request(&["r"], 1000)).unwrap_err();
        assert_eq!(error.code(), "BACKEND_UNAVAILABLE", "{error}");
        assert!(error.to_string().contains("othing was granted"), "{error}");
        error.to_string()
    };
    assert!(refused("no/such/directory/l.sqlite").contains("directory does not exist"));
    assert!(refused(".").contains("is a folder"));
    std::fs::write(place.path.with_file_name("plain"), "").unwrap();
    assert!(refused("plain/l.sqlite").contains("no directory"));
    #[cfg(target_os = "linux")]
    {
        // Where even root can make nothing.
        let error = refused("/proc/self/fdinfo/l.sqlite");
        assert!(error.contains("cannot create the lock file"), "{error}");
        assert!(refused("/dev/null").contains("no regular file"));
    }
}
