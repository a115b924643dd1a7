//! A read snapshot that is kept between the transactions of a run: nobody sees less for it, and the WAL stays small.

use crate::backend::contract::{Attempt, SyncBackend};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{Place, Process, held, request, transact};
use crate::backend::sqlite::commit::operations;
use crate::backend::sqlite::fs::kind::Kind;
use crate::backend::sqlite::fs::paths;
use crate::backend::sqlite::process::registry::Registry;
use crate::backend::sqlite::store::{Done, Store};
use crate::backend::sqlite::{Config, SqliteBackend};
use crate::runtime::clock::Clock;

/// More than [`crate::backend::sqlite::store::read_snapshot`] asks of a run.
const PAIRS: u32 = 200;
/// Frames of this many bytes: a header and a page.
const FRAME_BYTES: u64 = 24 + 1024;

fn registry() -> &'static Registry {
    Box::leak(Box::new(Registry::new(Clock::System)))
}

/// A process that has the file open, its store, and somebody who looks on.
fn watched(place: &Place) -> (Process, Arc<Store>, Connection) {
    let registry = registry();
    let process = place.process_in(registry, &place.path);
    run(&process, "r", 1);
    (process, place.store(registry), place.raw())
}

/// Locks and unlocks a resource, again and again without a pause.
fn run(process: &Process, name: &str, pairs: u32) {
    for _ in 0..pairs {
        let request = request(&[name], 60_000);
        let attempt = process.backend.acquire_sync(&request).unwrap();
        let lease = held(request, attempt);
        assert!(process.backend.release_sync(&lease.resources, lease.owner).unwrap());
    }
}

/// Whether somebody reads from the WAL: it cannot start over then.
fn is_read(other: &Connection) -> bool {
    other.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0)).unwrap()
}

/// Runs until a snapshot is seen that outlives its transaction. On a busy machine a run may have pauses.
fn hold(process: &Process, name: &str, other: &Connection) {
    let runs_until_held = (0..100).find(|_| {
        run(process, name, PAIRS);
        is_read(other)
    });
    assert!(runs_until_held.is_some(), "no run left a snapshot");
}

fn is_let_go(other: &Connection) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    while is_read(other) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

fn wal_frames(place: &Place) -> u64 {
    std::fs::metadata(paths::beside(&place.path, "-wal")).unwrap().len() / FRAME_BYTES
}

#[test]
fn it_is_let_go_when_the_run_ends() {
    let place = Place::new();
    let (process, store, other) = watched(&place);
    for _ in 0..3 {
        hold(&process, "r", &other);
        assert!(is_let_go(&other));
        // Whoever only looks, later, is in no run. (Something has to be in the WAL for it to be read from.)
        std::thread::sleep(Duration::from_millis(2));
        other.execute("UPDATE leases SET token = token + 1", []).unwrap();
        assert!(process.inspect("r").unwrap().is_none());
        assert!(!is_read(&other));
    }
    drop((store, other));
    // Nor is it in the way of closing in good order.
    run(&process, "r", PAIRS);
    process.close();
    assert_eq!(place.names(), ["locks.sqlite"]);
}

#[test]
fn transactions_with_pauses_keep_none() {
    let place = Place::new();
    let process = place.process();
    let seldom = |name| {
        run(&process, name, 1);
        std::thread::sleep(Duration::from_millis(2));
    };
    seldom("r");
    let other = place.raw();
    (0..PAIRS * 2).for_each(|_| {
        seldom("r");
        assert!(!is_read(&other));
    });
}

#[test]
fn what_others_commit_meanwhile_is_seen_at_once() {
    let place = Place::new();
    let ((process, store, raw), other) = (watched(&place), place.process());
    run(&other, "s", 1);
    let mut last = 0;
    for _ in 0..10 {
        hold(&process, "r", &raw);
        let theirs = request(&["r"], 60_000);
        let lease = held(theirs.clone(), other.backend.acquire_sync(&theirs).unwrap());
        assert!(lease.token > last);
        let ours = process.backend.acquire_sync(&request(&["r"], 60_000)).unwrap();
        assert!(matches!(ours, Attempt::Busy(Some(_))), "{ours:?}");
        assert!(other.backend.release_sync(&lease.resources, lease.owner).unwrap());

        hold(&process, "r", &raw);
        let lease = held(theirs.clone(), other.backend.acquire_sync(&theirs).unwrap());
        assert!(process.inspect("r").unwrap().is_some_and(|info| info.token == lease.token));
        assert!(other.backend.release_sync(&lease.resources, lease.owner).unwrap());

        hold(&process, "s", &raw);
        run(&other, "r", 1);
        let seen = store.glimpse();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(store.glimpse(), seen, "it was there to be seen before");
        let ours = request(&["r"], 60_000);
        let lease = held(ours.clone(), process.backend.acquire_sync(&ours).unwrap());
        assert!(process.backend.release_sync(&lease.resources, lease.owner).unwrap());
        last = lease.token;
    }
}

#[test]
fn one_that_is_not_the_newest_keeps_nobody_waiting() {
    let place = Place::new();
    let ((process, store, raw), other) = (watched(&place), place.process());
    hold(&process, "r", &raw);
    run(&other, "s", 1);
    let done = transact(&store, &mut |_| Ok(()));
    assert_eq!(done.unwrap(), Done::Committed { ended: false });
}

#[test]
fn a_long_run_does_not_hold_back_its_own_checkpoints() {
    let place = Place::new();
    let process = place.process();
    run(&process, "r", 10_000);
    // A checkpoint is due at 1000, and may come one snapshot late.
    assert!(wal_frames(&place) < 1300, "{}", wal_frames(&place));
}

#[test]
fn nor_beside_another_process_that_writes_now_and_then() {
    let longest = || {
        let place = Place::new();
        let (process, other) = (place.process(), place.process());
        run(&process, "r", 1);
        let mut most = 0;
        std::thread::scope(|scope| {
            let busy = scope.spawn(|| run(&process, "r", 10_000));
            while !busy.is_finished() {
                run(&other, "s", 1);
                most = most.max(wal_frames(&place));
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        most
    };
    // A checkpoint that meets the other one's transaction is made up for by the next, so the best of three counts.
    let most = (0..3).map(|_| longest()).min().unwrap();
    assert!(most < 1300, "{most}");
}

#[test]
fn what_fails_in_a_run_is_undone() {
    let place = Place::new();
    let (process, store, raw) = watched(&place);
    let doomed = request(&["r", "s"], 60_000);
    hold(&process, "r", &raw);
    let failed = transact(&store, &mut |tx| {
        assert!(matches!(operations::acquire(tx, &doomed)?, Attempt::Granted(_)));
        Err(rusqlite::Error::QueryReturnedNoRows)
    });
    assert_eq!(failed.unwrap_err().code(), "BACKEND_UNAVAILABLE");
    assert!(!is_read(&raw));
    assert_eq!(process.inspect("s").unwrap(), None);

    hold(&process, "r", &raw);
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        transact(&store, &mut |tx| {
            assert!(matches!(operations::acquire(tx, &doomed)?, Attempt::Granted(_)));
            panic!("on purpose");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(process.inspect("s").unwrap(), None);
    hold(&process, "r", &raw);
    assert!(is_let_go(&raw));
}

#[test]
fn a_file_that_is_replaced_meanwhile_is_noticed() {
    let place = Place::new();
    let process = place.process();
    let lease = process.acquire(&["kept"], 60_000);
    let raw = place.raw();
    hold(&process, "r", &raw);
    drop(raw);
    std::fs::rename(&place.path, place.path.with_file_name("moved")).unwrap();
    let next = process.acquire(&["kept"], 60_000);
    assert!(next.token > lease.token);
    assert!(process.outlived(&lease) && !process.outlived(&next));
}

#[test]
#[cfg(unix)]
fn one_spelling_of_the_path_lets_go_when_another_has_closed() {
    // Whose turn it is to see to it goes from one to the other.
    for before in [0, 1] {
        let place = Place::new();
        let registry = registry();
        let link = place.path.with_file_name("link.sqlite");
        std::os::unix::fs::symlink(&place.path, &link).unwrap();
        let (direct, linked) = (place.process_in(registry, &place.path), place.process_in(registry, &link));
        run(&direct, "r", 1);
        run(&linked, "r", 1);
        let raw = place.raw();
        for _ in 0..before {
            hold(&linked, "r", &raw);
            assert!(is_let_go(&raw));
        }
        hold(&linked, "r", &raw);
        // Its thread takes the task that may be at it down with it.
        direct.close();
        assert!(is_let_go(&raw));
        hold(&linked, "r", &raw);
        assert!(is_let_go(&raw));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn there_is_none_with_a_rollback_journal() {
    // In memory: on a disk, commits that survive a power loss are too slow for a run.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("locks.sqlite");
    let place = Place { directory, path };
    let registry = Registry { filesystem: |_| Ok(Kind::Network("NFS")), ..Registry::new(Clock::System) };
    let config = Config { allow_network_filesystem: true, ..place.config() };
    let registry = Box::leak(Box::new(registry));
    let process = Process::of(SqliteBackend::in_registry(config, registry));
    run(&process, "r", 1);
    let other = place.raw();
    for _ in 0..3 {
        run(&process, "r", PAIRS);
        // Readers would be in its way.
        other.execute_batch("BEGIN IMMEDIATE; UPDATE leases SET token = token + 1; COMMIT").unwrap();
    }
}
