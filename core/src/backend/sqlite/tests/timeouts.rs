//! How long callers wait for another program that holds the file's write lock.

use std::time::{Duration, Instant};

use super::roles::ChildProcess;
use super::{Process, TestDir, registry_with, request};
use crate::backend::contract::{Attempt, LockBackend, SyncBackend};
use crate::backend::sqlite::environment::Environment;
use crate::backend::sqlite::fs::kind::Kind;
use crate::backend::sqlite::retry::Timeouts;
use crate::backend::sqlite::{Config, SqliteBackend};
use crate::error::Call;
use crate::runtime::clock::Clock;

fn process_with(dir: &TestDir, timeouts: Timeouts) -> Process {
    dir.process_with(Environment { timeouts, ..Environment::new(Clock::System) })
}

#[test]
fn a_stuck_writer_is_waited_for_within_bounds() {
    let dir = TestDir::new();
    let timeouts = Timeouts {
        task: Duration::from_millis(300),
        sync: Duration::from_millis(150),
        ..Timeouts::default()
    };
    let process = process_with(&dir, timeouts);
    let lease = process.acquire(&["r"], 60_000);
    let mut writer = ChildProcess::start("stuck", &dir.path);
    assert_eq!(writer.read_report(), "locked");

    let since = Instant::now();
    let error = process.attempt(&["s"], 1000).unwrap_err();
    assert_eq!(error.code(), "BACKEND_UNAVAILABLE");
    assert!(error.to_string().contains("another process has held the write lock"), "{error}");
    assert!((250..2000).contains(&since.elapsed().as_millis()), "{:?}", since.elapsed());

    let since = Instant::now();
    let error = process.backend.acquire_sync(&request(&["s"], 1000)).unwrap_err();
    assert_eq!(error.code(), "BACKEND_UNAVAILABLE");
    assert!((120..1500).contains(&since.elapsed().as_millis()), "{:?}", since.elapsed());
    assert!(process.inspect("r").unwrap().is_some(), "a reader does not wait");
    assert_eq!(process.inspect("s").unwrap(), None, "nothing was granted");

    assert_eq!(process.backend.pending_cleanups(), 0);
    for (call, failed) in [
        (Call::Extend, process.extend(&lease, 60_000).map(|_| ())),
        (Call::Release, process.release(&lease).map(|_| ())),
    ] {
        let error = failed.unwrap_err().of(call);
        assert_eq!(error.code(), "BACKEND_UNAVAILABLE");
        assert!(!error.to_string().contains("granted"), "{error}");
    }
    assert_eq!(process.backend.pending_cleanups(), 1, "the release goes on");
    writer.resume();
    assert_eq!(writer.read_report(), "unlocked");
    process.acquire(&["s"], 1000);
    let freed = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        process.inspect("r").unwrap().is_none()
    });
    assert!(freed, "a failed release is retried in the background");
    assert!((0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        process.backend.pending_cleanups() == 0
    }));
}

#[test]
fn closing_retries_a_failed_release_at_once() {
    let dir = TestDir::new();
    let timeouts = Timeouts { task: Duration::from_millis(50), ..Timeouts::default() };
    let process = process_with(&dir, timeouts);
    let lease = process.acquire(&["r"], 60_000);
    let mut writer = ChildProcess::start("stuck", &dir.path);
    writer.read_report();
    process.release(&lease).unwrap_err();
    writer.resume();
    writer.read_report();
    process.close();
    drop(writer);
    let freed = dir.raw().query_row("SELECT owner IS NULL FROM leases", [], |row| row.get(0));
    assert_eq!(freed, Ok(true));
}

#[test]
fn many_calls_time_out_together() {
    let dir = TestDir::new();
    let task = Duration::from_secs(1);
    let process = process_with(&dir, Timeouts { task, ..Timeouts::default() });
    process.connect().unwrap();
    let mut writer = ChildProcess::start("stuck", &dir.path);
    writer.read_report();
    let since = Instant::now();
    // More than fit into two transactions.
    let calls: Vec<_> = (0..600)
        .map(|number| {
            let requested = request(&[&format!("r{number}")], 1000);
            process.start(move |backend| async move { backend.acquire(&requested).await }).unwrap()
        })
        .collect();
    for call in calls {
        assert_eq!(call.recv().unwrap().unwrap_err().code(), "BACKEND_UNAVAILABLE");
    }
    assert!(since.elapsed() < task * 2, "not one after the other: {:?}", since.elapsed());
}

#[test]
fn a_later_call_has_its_own_timeout() {
    let dir = TestDir::new();
    let process = process_with(&dir, Timeouts { task: Duration::from_secs(2), ..Timeouts::default() });
    process.connect().unwrap();
    let mut writer = ChildProcess::start("stuck", &dir.path);
    writer.read_report();
    let attempt = |name: &str| {
        let requested = request(&[name], 1000);
        process.start(move |backend| async move { backend.acquire(&requested).await }).unwrap()
    };
    let first = attempt("a");
    let since = Instant::now();
    assert_eq!(process.inspect("a").unwrap(), None);
    assert!(since.elapsed() < Duration::from_secs(1), "a reader does not wait behind writers");
    std::thread::sleep(Duration::from_secs(1).saturating_sub(since.elapsed()));
    let second = attempt("b");
    assert_eq!(first.recv().unwrap().unwrap_err().code(), "BACKEND_UNAVAILABLE");
    writer.resume();
    assert!(matches!(second.recv().unwrap(), Ok(Attempt::Granted(_))));
}

#[test]
fn a_commit_waits_for_readers_as_long_as_a_begin_does() {
    let dir = TestDir::new();
    let environment = Environment {
        filesystem: |_| Ok(Kind::Network("NFS")),
        timeouts: Timeouts { task: Duration::from_secs(10), ..Timeouts::default() },
        ..Environment::new(Clock::System)
    };
    let config = Config { allow_network_filesystem: true, ..dir.config() };
    let process = Process::new(SqliteBackend::in_registry(config, registry_with(environment)));
    process.acquire(&["r"], 60_000);
    let reader = dir.raw();
    // With a rollback journal it keeps others from committing, though not from beginning.
    reader.execute_batch("BEGIN").unwrap();
    reader.query_row("SELECT count(*) FROM leases", [], |_| Ok(())).unwrap();
    let requested = request(&["s"], 60_000);
    let attempt = process.start(move |backend| async move { backend.acquire(&requested).await }).unwrap();
    assert!(attempt.recv_timeout(Duration::from_millis(400)).is_err(), "it waits");
    reader.execute_batch("COMMIT").unwrap();
    assert!(matches!(attempt.recv().unwrap(), Ok(Attempt::Granted(_))));
    assert!(process.inspect("s").unwrap().is_some());
}

#[test]
fn no_call_waits_longer_than_two_seconds() {
    let Timeouts { task, sync, .. } = Timeouts::default();
    assert_eq!([task, sync], [Duration::from_secs(2); 2], "as index.d.ts says");
}
