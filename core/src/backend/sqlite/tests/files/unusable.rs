//! A connection that does not work any more: it is closed, and the next call opens another one.

use std::time::Duration;

use crate::backend::contract::{Attempt, SyncBackend};
use crate::backend::sqlite::environment::Environment;
use crate::backend::sqlite::retry::Timeouts;
use crate::backend::sqlite::tests::roles::ChildProcess;
use crate::backend::sqlite::tests::{Process, TestDir, registry, registry_with, request, transact};
use crate::runtime::clock::Clock;

fn is_granted(process: &Process, name: &str) -> bool {
    matches!(process.attempt(&[name], 60_000), Ok((_, Attempt::Granted(_))))
}

#[test]
fn processes_get_over_a_removed_wal_once_all_have_noticed() {
    let dir = TestDir::new();
    let mut other = ChildProcess::start("holder", &dir.path);
    other.read_report();
    let process = dir.process();
    let lease = process.acquire(&["mine"], 60_000);
    std::fs::remove_file(dir.path.with_file_name("locks.sqlite-wal")).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    // The other process has the old -shm open, which says what is in the old -wal.
    let _ = process.attempt(&["new"], 60_000);
    assert!(process.was_notified_of_loss(&lease));
    other.resume();
    assert_ne!(other.read_report(), "extended", "its lease is lost, too");
    other.resume();
    other.read_report();
    let works = (0..100).any(|_| is_granted(&process, "after"));
    assert!(works, "neither keeps the other from working");
}

#[test]
fn a_file_that_was_emptied_is_created_anew() {
    let dir = TestDir::new();
    let timeouts = Timeouts { task: Duration::from_millis(200), ..Timeouts::default() };
    let process = || dir.process_with(Environment { timeouts, ..Environment::new(Clock::System) });
    let (one, two) = (process(), process());
    let lease = one.acquire(&["r"], 60_000);
    two.acquire(&["s"], 60_000);
    // Copied into the database, so that nothing is left in the -wal.
    dir.raw().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    std::fs::OpenOptions::new().write(true).open(&dir.path).unwrap().set_len(0).unwrap();
    let error = one.attempt(&["r"], 60_000).unwrap_err();
    assert!(error.to_string().contains("emptied"), "the other process has it open: {error}");
    assert!(one.was_notified_of_loss(&lease));
    assert!(is_granted(&two, "r"), "no process has it open");
    assert!(!is_granted(&one, "r") && is_granted(&one, "another"), "they share the new one");
}

#[test]
fn a_file_of_a_newer_version_is_not_written_any_more() {
    let dir = TestDir::new();
    let registry = registry();
    let process = dir.process_in(registry, &dir.path);
    let lease = process.acquire(&["r"], 60_000);
    let known = |process: &Process| process.attempt(&["s"], 10).map(|_| ()).map_err(|error| error.code());
    assert_eq!(known(&process), Ok(()));
    dir.raw().pragma_update(None, "user_version", 7).unwrap();
    for _ in 0..2 {
        assert_eq!(known(&process), Err("UNSUPPORTED"));
        assert_eq!(process.extend(&lease, 60_000).unwrap_err().code(), "UNSUPPORTED");
        assert_eq!(process.backend.acquire_sync(&request(&["t"], 1000)).unwrap_err().code(), "UNSUPPORTED");
    }
    let changed: u32 = dir
        .raw()
        .query_row("SELECT count(*) FROM leases WHERE resource = 't'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(changed, 0);
    assert!(!process.was_notified_of_loss(&lease), "its row is still there");
    dir.raw().pragma_update(None, "user_version", 1).unwrap();
    process.extend(&lease, 60_000).unwrap();
}

#[test]
fn a_newer_version_is_noticed_within_a_run_of_transactions() {
    let dir = TestDir::new();
    let process = dir.process();
    // Long enough for the read snapshot to be kept.
    for _ in 0..400 {
        let requested = request(&["r"], 60_000);
        process.backend.acquire_sync(&requested).unwrap();
        process.backend.release_sync(&requested.resources, requested.owner, None).unwrap();
    }
    dir.raw().pragma_update(None, "user_version", 7).unwrap();
    assert_eq!(process.backend.acquire_sync(&request(&["r"], 1000)).unwrap_err().code(), "UNSUPPORTED");
}

#[test]
fn a_thread_that_stands_in_a_transaction_is_waited_for_within_bounds() {
    let dir = TestDir::new();
    let (task, sync) = (Duration::from_millis(400), Duration::from_millis(200));
    let timeouts = Timeouts { task, sync, ..Timeouts::default() };
    let registry = registry_with(Environment { timeouts, ..Environment::new(Clock::System) });
    let process = dir.process_in(registry, &dir.path);
    process.connect().unwrap();
    let store = dir.store(registry);
    std::thread::scope(|scope| {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (end, may_end) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            transact(&store, &mut |_| {
                begun.send(()).unwrap();
                // As a disk that does not answer.
                let _ = may_end.recv();
                Ok(())
            })
        });
        has_begun.recv().unwrap();
        let since = std::time::Instant::now();
        let error = process.backend.acquire_sync(&request(&["r"], 1000)).unwrap_err();
        assert_eq!(error.code(), "BACKEND_UNAVAILABLE");
        assert!(error.to_string().contains("its disk does not answer"), "{error}");
        assert!((sync / 2..sync * 8).contains(&since.elapsed()), "{:?}", since.elapsed());
        let since = std::time::Instant::now();
        assert_eq!(process.attempt(&["r"], 1000).unwrap_err().code(), "BACKEND_UNAVAILABLE");
        assert!((task / 2..task * 8).contains(&since.elapsed()), "{:?}", since.elapsed());
        drop(end);
    });
    process.acquire(&["r"], 1000);
}

/// Has the next write fail in a way that speaks of the connection, as a damaged page would.
pub(super) fn break_connection(process: &Process, dir: &TestDir) {
    let raw = dir.raw();
    let (away, back) = ("ALTER TABLE leases RENAME TO away", "ALTER TABLE away RENAME TO leases");
    raw.execute_batch(away).unwrap();
    process.attempt(&["other"], 60_000).unwrap_err();
    raw.execute_batch(back).unwrap();
}

#[test]
fn a_connection_that_is_opened_anew_keeps_one_liveness_file_for_all_leases() {
    let dir = TestDir::new();
    let process = dir.process();
    let mut leases = Vec::new();
    for number in 0..3 {
        leases.push(process.acquire(&[&format!("r{number}")], 60_000));
        break_connection(&process, &dir);
    }
    leases.push(process.acquire(&["r"], 60_000));
    let kept = dir.names().into_iter().filter(|name| name.contains("-live-")).count();
    assert_eq!(kept, 1, "{:?}", dir.names());
    for lease in &leases {
        assert!(process.release(lease).unwrap());
    }
    drop(process);
}

#[test]
fn the_file_is_watched_for_leases_of_a_connection_that_was_given_up() {
    let dir = TestDir::new();
    let process = dir.process();
    let lease = process.acquire(&["r"], 60_000);
    break_connection(&process, &dir);
    // The new connection has released all that it granted.
    let other = process.acquire(&["s"], 60_000);
    assert!(process.release(&other).unwrap());
    assert!(!process.was_notified_of_loss(&lease));
    std::fs::remove_file(&dir.path).unwrap();
    let began = std::time::Instant::now();
    while !process.was_notified_of_loss(&lease) {
        assert!(began.elapsed() < Duration::from_secs(10), "the loss is noticed without a call");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn files_that_have_gone_are_noticed_although_another_thread_uses_the_connection() {
    let dir = TestDir::new();
    let registry = registry();
    let process = dir.process_in(registry, &dir.path);
    let lease = process.acquire(&["r"], 60_000);
    let store = dir.store(registry);
    std::thread::scope(|scope| {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (end, may_end) = std::sync::mpsc::channel::<()>();
        let (store, used) = (&store, &store);
        scope.spawn(move || {
            transact(used, &mut |_| {
                begun.send(()).unwrap();
                let _ = may_end.recv();
                Ok(())
            })
        });
        has_begun.recv().unwrap();
        std::fs::remove_file(dir.path.with_file_name("locks.sqlite-wal")).unwrap();
        let (started, has_started) = std::sync::mpsc::channel();
        let retired = scope.spawn(move || {
            started.send(()).unwrap();
            store.retire();
        });
        has_started.recv().unwrap();
        drop(end);
        retired.join().unwrap();
    });
    assert!(process.was_notified_of_loss(&lease));
}
