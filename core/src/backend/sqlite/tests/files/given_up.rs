//! A connection that is given up while threads still use it, and the leases that it leaves.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::backend::contract::{LockBackend, SyncBackend};
use crate::backend::sqlite::environment::Environment;
use crate::backend::sqlite::fs::kind::{self, Kind};
use crate::backend::sqlite::process::registry::Registry;
use crate::backend::sqlite::retry::Timeouts;
use crate::backend::sqlite::tests::files::unusable::break_connection;
use crate::backend::sqlite::tests::{GrantedLease, Process, TestDir, registry, registry_with, request};
use crate::error::Result;
use crate::runtime::clock::Clock;

/// Gives the connection up.
fn retire(dir: &TestDir, registry: &Registry) {
    dir.store(registry).retire();
}

fn is_notified_in_time(process: &Process, lease: &GrantedLease) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        if process.was_notified_of_loss(lease) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

#[test]
fn no_other_connection_opens_while_a_thread_uses_one_that_is_given_up() {
    let dir = TestDir::new();
    let timeouts = Timeouts { sync: Duration::from_millis(50), ..Timeouts::default() };
    let registry = registry_with(Environment { timeouts, ..Environment::new(Clock::System) });
    let process = dir.process_in(registry, &dir.path);
    let lease = process.acquire(&["r"], 60_000);
    let used = dir.store(registry);
    used.retire();
    let error = process.backend.acquire_sync(&request(&["s"], 1000)).unwrap_err();
    assert!(error.to_string().contains("this process has been writing"), "{error}");
    let attempt = process.start(|backend| async move { backend.acquire(&request(&["s"], 60_000)).await });
    let attempt = attempt.unwrap();
    assert!(attempt.recv_timeout(Duration::from_millis(50)).is_err(), "it waits for the thread");
    drop(used);
    attempt.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
    assert!(!process.was_notified_of_loss(&lease));
    assert!(process.release(&lease).unwrap());
}

static OPENED: AtomicUsize = AtomicUsize::new(0);

fn count_opened(directory: &Path) -> Result<Kind> {
    OPENED.fetch_add(1, Ordering::SeqCst);
    kind::detect(directory)
}

#[test]
fn calls_that_wait_together_open_a_damaged_file_anew_once() {
    let dir = TestDir::new();
    let environment = Environment { filesystem: count_opened, ..Environment::new(Clock::System) };
    let process = dir.process_in(registry_with(environment), &dir.path);
    process.connect().unwrap();
    dir.raw().execute_batch("ALTER TABLE leases RENAME TO away").unwrap();
    let before = OPENED.load(Ordering::SeqCst);
    let failed = process.call(|backend| async move {
        let requests: Vec<_> = (0..200).map(|number| request(&[&format!("r{number}")], 1000)).collect();
        let outcomes = join_all(requests.iter().map(|request| backend.acquire(request))).await;
        Ok(outcomes.iter().filter(|outcome| outcome.is_err()).count())
    });
    assert_eq!(failed.unwrap(), 200);
    let opened = OPENED.load(Ordering::SeqCst) - before;
    assert!((1..=2).contains(&opened), "{opened} times");
    dir.raw().execute_batch("ALTER TABLE away RENAME TO leases").unwrap();
    process.acquire(&["r0"], 1000);
}

#[test]
fn leases_that_a_connection_left_are_counted_until_they_are_released() {
    let dir = TestDir::new();
    let registry = registry();
    let process = dir.process_in(registry, &dir.path);
    let (first, second) = (process.acquire(&["a"], 60_000), process.acquire(&["b"], 60_000));
    let file = process.backend.file().unwrap();
    let may_hold = || file.committer().may_hold_leases();
    break_connection(&process, &dir);
    assert!(process.release(&first).unwrap());
    let third = process.acquire(&["c"], 60_000);
    assert!(process.release(&second).unwrap());
    assert!(may_hold(), "the third is held");
    assert!(process.release(&third).unwrap());
    assert!(!may_hold());
    let fourth = process.acquire(&["d"], 60_000);
    retire(&dir, registry);
    assert!(may_hold(), "although the file is not open");
    assert!(process.release(&fourth).unwrap());
    assert!(!may_hold());
}

#[test]
fn leases_that_a_connection_left_are_lost_with_their_file() {
    let registry = registry();
    for is_used in [true, false] {
        let dir = TestDir::new();
        let process = dir.process_in(registry, &dir.path);
        let lease = process.acquire(&["r"], 60_000);
        retire(&dir, registry);
        // Before another connection is open.
        std::fs::rename(&dir.path, dir.path.with_file_name("old")).unwrap();
        if is_used {
            let next = process.acquire(&["r"], 60_000);
            assert!(process.was_notified_of_loss(&lease));
            assert!(!process.was_notified_of_loss(&next));
        } else {
            assert!(is_notified_in_time(&process, &lease), "without a call");
        }
    }
}
