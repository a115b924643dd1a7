//! A read snapshot that is kept between the transactions of a burst: no transaction sees less, and the WAL
//! stays small.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{Process, TestDir, granted, registry, registry_with, request, transact};
use crate::backend::contract::{Attempt, Busy, SyncBackend};
use crate::backend::sqlite::commit::operations;
use crate::backend::sqlite::environment::Environment;
use crate::backend::sqlite::fs::kind::Kind;
use crate::backend::sqlite::fs::paths;
use crate::backend::sqlite::store::{Done, Store};
use crate::backend::sqlite::{Config, SqliteBackend};
use crate::runtime::clock::Clock;

/// More than [`read_snapshot`](crate::backend::sqlite::store::read_snapshot) requires of a burst.
const PAIRS: u32 = 200;
/// Frames of this many bytes: a header and a page.
const FRAME_BYTES: u64 = 24 + 1024;

/// A process that has the file open, its store, and a connection of an observer.
fn observed(dir: &TestDir) -> (Process, Arc<Store>, Connection) {
    let registry = registry();
    let process = dir.process_in(registry, &dir.path);
    burst(&process, "r", 1);
    (process, dir.store(registry), dir.raw())
}

/// Locks and unlocks a resource repeatedly, without a pause.
fn burst(process: &Process, name: &str, pairs: u32) {
    for _ in 0..pairs {
        let request = request(&[name], 60_000);
        let attempt = process.backend.acquire_sync(&request).unwrap();
        let lease = granted(request, attempt);
        assert!(process.backend.release_sync(&lease.resources, lease.owner, None).unwrap());
    }
}

/// Whether a connection reads from the WAL, which keeps it from restarting.
fn is_read(other: &Connection) -> bool {
    other.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0)).unwrap()
}

/// Repeats bursts until a snapshot outlives its transaction. On a busy machine most bursts have pauses.
fn hold(process: &Process, name: &str, other: &Connection) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        burst(process, name, PAIRS);
        if is_read(other) {
            return;
        }
        assert!(Instant::now() < end, "no burst left a snapshot");
    }
}

fn is_released(other: &Connection) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    while is_read(other) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

fn wal_frames(dir: &TestDir) -> u64 {
    std::fs::metadata(paths::sibling(&dir.path, "-wal")).unwrap().len() / FRAME_BYTES
}

#[test]
fn it_is_released_when_the_burst_ends() {
    let dir = TestDir::new();
    let (process, store, other) = observed(&dir);
    for _ in 0..3 {
        hold(&process, "r", &other);
        assert!(is_released(&other));
        // A later read is not part of a burst. (There must be something in the WAL for it to be read.)
        std::thread::sleep(Duration::from_millis(2));
        other.execute("UPDATE leases SET token = token + 1", []).unwrap();
        assert!(process.inspect("r").unwrap().is_none());
        assert!(!is_read(&other));
    }
    drop((store, other));
    // Nor does it keep the file from closing in good order.
    burst(&process, "r", PAIRS);
    process.close();
    assert_eq!(dir.names(), ["locks.sqlite"]);
}

#[test]
fn transactions_with_pauses_keep_none() {
    let dir = TestDir::new();
    let process = dir.process();
    let with_pause = |name| {
        burst(&process, name, 1);
        std::thread::sleep(Duration::from_millis(2));
    };
    with_pause("r");
    let other = dir.raw();
    (0..PAIRS * 2).for_each(|_| {
        with_pause("r");
        assert!(!is_read(&other));
    });
}

#[test]
fn commits_of_other_processes_are_seen_at_once() {
    let dir = TestDir::new();
    let ((process, store, raw), other) = (observed(&dir), dir.process());
    burst(&other, "s", 1);
    let mut last = 0;
    for _ in 0..10 {
        hold(&process, "r", &raw);
        let theirs = request(&["r"], 60_000);
        let lease = granted(theirs.clone(), other.backend.acquire_sync(&theirs).unwrap());
        assert!(lease.token > last);
        let ours = process.backend.acquire_sync(&request(&["r"], 60_000)).unwrap();
        assert!(matches!(ours, Attempt::Busy(Busy { remaining: Some(_), .. })), "{ours:?}");
        assert!(other.backend.release_sync(&lease.resources, lease.owner, None).unwrap());

        hold(&process, "r", &raw);
        let lease = granted(theirs.clone(), other.backend.acquire_sync(&theirs).unwrap());
        assert!(process.inspect("r").unwrap().is_some_and(|info| info.token == lease.token));
        assert!(other.backend.release_sync(&lease.resources, lease.owner, None).unwrap());

        hold(&process, "s", &raw);
        burst(&other, "r", 1);
        let seen = store.change_marker();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(store.change_marker(), seen, "it had changed before");
        let ours = request(&["r"], 60_000);
        let lease = granted(ours.clone(), process.backend.acquire_sync(&ours).unwrap());
        assert!(process.backend.release_sync(&lease.resources, lease.owner, None).unwrap());
        last = lease.token;
    }
}

#[test]
fn an_outdated_snapshot_does_not_block_a_transaction() {
    let dir = TestDir::new();
    let ((process, store, raw), other) = (observed(&dir), dir.process());
    hold(&process, "r", &raw);
    burst(&other, "s", 1);
    let done = transact(&store, &mut |_| Ok(()));
    assert_eq!(done.unwrap(), Done::Committed { ended: false });
}

#[test]
fn a_long_burst_does_not_block_its_own_checkpoints() {
    let dir = TestDir::new();
    let process = dir.process();
    burst(&process, "r", 10_000);
    // A checkpoint is due at 1000, and may come one snapshot late.
    assert!(wal_frames(&dir) < 1300, "{}", wal_frames(&dir));
}

#[test]
fn nor_does_it_next_to_another_process_that_writes_occasionally() {
    let longest = || {
        let dir = TestDir::new();
        let (process, other) = (dir.process(), dir.process());
        burst(&process, "r", 1);
        let mut most = 0;
        std::thread::scope(|scope| {
            let busy = scope.spawn(|| burst(&process, "r", 10_000));
            while !busy.is_finished() {
                burst(&other, "s", 1);
                most = most.max(wal_frames(&dir));
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        most
    };
    // If a checkpoint meets a transaction of the other process, the next one catches up; so the best of three
    // counts. Without checkpoints there would be more than 10,000 frames.
    let most = (0..3).map(|_| longest()).min().unwrap();
    assert!(most < 3000, "{most}");
}

#[test]
fn a_transaction_that_fails_in_a_burst_is_rolled_back() {
    let dir = TestDir::new();
    let (process, store, raw) = observed(&dir);
    let doomed = request(&["r", "s"], 60_000);
    hold(&process, "r", &raw);
    let failed = transact(&store, &mut |tx| {
        assert!(matches!(operations::acquire(tx, &doomed)?, Ok(Attempt::Granted(_))));
        Err(rusqlite::Error::QueryReturnedNoRows)
    });
    assert_eq!(failed.unwrap_err().code(), "BACKEND_UNAVAILABLE");
    assert!(!is_read(&raw));
    assert_eq!(process.inspect("s").unwrap(), None);

    hold(&process, "r", &raw);
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        transact(&store, &mut |tx| {
            assert!(matches!(operations::acquire(tx, &doomed)?, Ok(Attempt::Granted(_))));
            panic!("on purpose");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(process.inspect("s").unwrap(), None);
    hold(&process, "r", &raw);
    assert!(is_released(&raw));
}

#[test]
fn a_file_that_is_replaced_meanwhile_is_noticed() {
    let dir = TestDir::new();
    let process = dir.process();
    let lease = process.acquire(&["kept"], 60_000);
    let raw = dir.raw();
    hold(&process, "r", &raw);
    drop(raw);
    std::fs::rename(&dir.path, dir.path.with_file_name("moved")).unwrap();
    let next = process.acquire(&["kept"], 60_000);
    assert!(next.token > lease.token);
    assert!(process.was_notified_of_loss(&lease) && !process.was_notified_of_loss(&next));
}

#[test]
#[cfg(unix)]
fn it_is_released_under_one_spelling_of_the_path_after_another_one_closed() {
    // The task that releases it may be that of either.
    for before in [0, 1] {
        let dir = TestDir::new();
        let registry = registry();
        let link = dir.path.with_file_name("link.sqlite");
        std::os::unix::fs::symlink(&dir.path, &link).unwrap();
        let (direct, linked) = (dir.process_in(registry, &dir.path), dir.process_in(registry, &link));
        burst(&direct, "r", 1);
        burst(&linked, "r", 1);
        let raw = dir.raw();
        for _ in 0..before {
            hold(&linked, "r", &raw);
            assert!(is_released(&raw));
        }
        hold(&linked, "r", &raw);
        // The task that may be about to release it ends with its thread.
        direct.close();
        assert!(is_released(&raw));
        hold(&linked, "r", &raw);
        assert!(is_released(&raw));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn there_is_none_with_a_rollback_journal() {
    // In memory: on a disk, commits that survive a power loss are too slow for a burst.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("locks.sqlite");
    let dir = TestDir { directory, path };
    let environment =
        Environment { filesystem: |_| Ok(Kind::Network("NFS")), ..Environment::new(Clock::System) };
    let config = Config { allow_network_filesystem: true, ..dir.config() };
    let process = Process::new(SqliteBackend::in_registry(config, registry_with(environment)));
    burst(&process, "r", 1);
    let other = dir.raw();
    for _ in 0..3 {
        burst(&process, "r", PAIRS);
        // A reader would block it.
        other.execute_batch("BEGIN IMMEDIATE; UPDATE leases SET token = token + 1; COMMIT").unwrap();
    }
}
