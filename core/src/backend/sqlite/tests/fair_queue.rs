//! Fair queues: the order in which waiters are served, and which are skipped.

use std::time::{Duration, Instant};

use super::roles::ChildProcess;
use super::waiting::TestWaiter;
use super::{Process, TestDir, registry, request};
use crate::backend::contract::{Attempt, Busy, LockBackend, SyncBackend};
use crate::runtime::clock::fake::FakeClock;

/// The number of entries in the queue, and the number of processes and resources recorded for it.
fn entries(dir: &TestDir) -> (u32, u32, u32) {
    let count = |sql: &str| dir.raw().query_row(sql, [], |row| row.get(0)).unwrap();
    (
        count("SELECT count(*) FROM queue"),
        count("SELECT count(*) FROM processes"),
        count("SELECT count(*) FROM leases WHERE queued IS NOT NULL"),
    )
}

fn is_busy(process: &Process, name: &str) -> bool {
    matches!(process.attempt(&[name], 1000).unwrap().1, Attempt::Busy(_))
}

#[test]
fn waiters_are_served_in_the_order_in_which_they_came() {
    let dir = TestDir::new();
    let processes = [dir.process(), dir.process(), dir.process()];
    let mut lease = processes[0].acquire(&["r"], 60_000);
    let queue: Vec<_> = (0..6)
        .map(|at| (&processes[at * 2 % 3], TestWaiter::behind(&processes[at * 2 % 3], &["r"], true)))
        .collect();
    assert_eq!(entries(&dir), (6, 3, 1));
    let mut holder = &processes[0];
    let mut rest = queue.into_iter();
    while let Some((process, next)) = rest.next() {
        holder.release(&lease).unwrap();
        for (other, later) in rest.as_slice() {
            assert!(
                matches!(later.attempt(other), Attempt::Busy(Busy { remaining: None, .. })),
                "not before its turn, and without a time to retry at"
            );
        }
        lease = next.take(process);
        holder = process;
    }
    assert_eq!(entries(&dir).0, 0);
    assert_eq!(entries(&dir).2, 0, "the flag is cleared");
}

#[test]
fn no_request_overtakes_the_queue_for_a_free_resource() {
    let dir = TestDir::new();
    let (holder, other) = (dir.process(), dir.process());
    let lease = holder.acquire(&["r"], 60_000);
    let waiting = TestWaiter::behind(&other, &["r"], true);
    holder.release(&lease).unwrap();
    for process in [&holder, &other] {
        assert_eq!(process.attempt(&["r"], 1000).unwrap().1, Attempt::Busy(Busy::default()));
        assert_eq!(
            process.attempt(&["s", "r"], 1000).unwrap().1,
            Attempt::Busy(Busy { resource: 1, remaining: None })
        );
        let sync = process.backend.acquire_sync(&request(&["r"], 1000)).unwrap();
        assert_eq!(sync, Attempt::Busy(Busy::default()), "nor the synchronous variant");
        let (hurried, attempt) = TestWaiter::start(process, &["r"], false);
        assert_eq!(attempt, Attempt::Busy(Busy::default()), "nor a waiter that is not fair");
        hurried.leave(process);
    }
    let taken = waiting.take(&other);
    other.release(&taken).unwrap();
    assert!(!is_busy(&holder, "r"));
}

#[test]
fn a_waiter_that_gives_up_leaves_no_entry_and_the_next_is_woken() {
    let dir = TestDir::new();
    let (holder, other) = (dir.process(), dir.process());
    let lease = holder.acquire(&["r"], 60_000);
    let (first, second) =
        (TestWaiter::behind(&holder, &["r"], true), TestWaiter::behind(&other, &["r"], true));
    holder.release(&lease).unwrap();
    let wake = second.next_wake(&other);
    assert!(wake.recv_timeout(Duration::from_millis(250)).is_err(), "it is not its turn");
    first.leave(&holder);
    wake.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(entries(&dir).0, 1);
    second.leave(&other);
    assert_eq!((entries(&dir).0, entries(&dir).2), (0, 0));
    assert!(!is_busy(&holder, "r"));
}

#[test]
fn a_queue_for_several_resources_has_one_order() {
    let dir = TestDir::new();
    let process = dir.process();
    let lease = process.acquire(&["b"], 60_000);
    let first = TestWaiter::behind(&process, &["a", "b"], true);
    let second = TestWaiter::behind(&process, &["c", "a"], true);
    let third = TestWaiter::behind(&process, &["c"], true);
    assert_eq!(entries(&dir), (5, 1, 3));
    process.release(&lease).unwrap();
    assert_eq!(
        third.attempt(&process),
        Attempt::Busy(Busy::default()),
        "c is free, but the second waits for it"
    );
    let lease = first.take(&process);
    process.release(&lease).unwrap();
    let lease = second.take(&process);
    process.release(&lease).unwrap();
    let lease = third.take(&process);
    process.release(&lease).unwrap();
    assert_eq!((entries(&dir).0, entries(&dir).2), (0, 0));
    assert!(!is_busy(&process, "a"));
}

#[test]
fn waiters_of_a_dead_process_are_skipped_at_once_and_leave_nothing() {
    let dir = TestDir::new();
    let process = dir.process();
    let lease = process.acquire(&["r"], 60_000);
    let mut child = ChildProcess::start("fair waiter", &dir.path);
    child.read_report();
    let waiting = TestWaiter::behind(&process, &["r"], true);
    assert_eq!(entries(&dir).0, 2);
    process.release(&lease).unwrap();
    assert!(is_busy(&process, "r"), "it is alive");
    child.kill();
    let since = Instant::now();
    let lease = waiting.take(&process);
    assert!(since.elapsed() < Duration::from_secs(1), "by its liveness file: {:?}", since.elapsed());
    assert_eq!((entries(&dir).0, entries(&dir).2), (0, 0));
    process.release(&lease).unwrap();
}

#[test]
fn waiters_of_dead_processes_are_removed_at_open() {
    let dir = TestDir::new();
    let holder = dir.process();
    holder.acquire(&["r"], 60_000);
    let mut child = ChildProcess::start("fair waiter", &dir.path);
    child.read_report();
    child.kill();
    assert_eq!(entries(&dir), (1, 1, 1));
    let process = dir.process();
    process.connect().unwrap();
    let cleared = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        entries(&dir) == (0, 0, 0)
    });
    assert!(cleared);
}

#[test]
fn waiters_of_a_process_without_a_heartbeat_are_skipped() {
    let dir = TestDir::new();
    let clock = FakeClock::new();
    // The clock of the waiting process stands still, so it does not notice that its heartbeat has expired.
    let (stopped, process) = (dir.process_at(FakeClock::new().clock()), dir.process_at(clock.clock()));
    let lease = process.acquire(&["r"], 60_000);
    let first = TestWaiter::behind(&stopped, &["r"], true);
    process.release(&lease).unwrap();
    clock.advance(Duration::from_millis(1400));
    assert!(is_busy(&process, "r"), "it may be alive");
    clock.advance(Duration::from_millis(200));
    let lease = process.acquire(&["r"], 60_000);
    assert_eq!(entries(&dir), (0, 0, 0));
    // It enters the queue again.
    assert!(matches!(first.attempt(&stopped), Attempt::Busy(_)));
    assert_eq!(entries(&dir), (1, 1, 1));
    process.release(&lease).unwrap();
    first.leave(&stopped);
}

#[test]
fn a_process_whose_entries_were_removed_enters_again() {
    let dir = TestDir::new();
    let process = dir.process();
    let _lease = process.acquire(&["r"], 60_000);
    let waiting = TestWaiter::behind(&process, &["r"], true);
    let raw = dir.raw();
    // A heartbeat may hold the write lock.
    raw.busy_timeout(Duration::from_secs(5)).unwrap();
    raw.execute_batch("DELETE FROM queue; DELETE FROM processes; UPDATE leases SET queued = NULL").unwrap();
    // Its next heartbeat finds it out.
    waiting.next_wake(&process).recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(matches!(waiting.attempt(&process), Attempt::Busy(_)));
    assert_eq!(entries(&dir), (1, 1, 1));
    waiting.leave(&process);
}

#[test]
fn entries_outlive_the_validity_of_one_heartbeat() {
    let dir = TestDir::new();
    let (holder, other) = (dir.process(), dir.process());
    let lease = holder.acquire(&["r"], 60_000);
    let waiting = TestWaiter::behind(&other, &["r"], true);
    std::thread::sleep(Duration::from_millis(3500));
    holder.release(&lease).unwrap();
    assert!(is_busy(&holder, "r"), "it is still in the queue");
    waiting.take(&other);
}

#[test]
fn closing_removes_all_entries() {
    let dir = TestDir::new();
    let (holder, other) = (dir.process(), dir.process());
    let _lease = holder.acquire(&["r"], 60_000);
    let _waiting = TestWaiter::behind(&other, &["r"], true);
    assert_eq!(entries(&dir), (1, 1, 1));
    other.close();
    assert_eq!(entries(&dir), (0, 0, 0));
}

#[test]
fn a_waiter_leaves_its_queue_after_its_manager_closed() {
    let dir = TestDir::new();
    let registry = registry();
    let (one, two) = (dir.process_in(registry, &dir.path), dir.process_in(registry, &dir.path));
    let _lease = one.acquire(&["r"], 60_000);
    let waiting = TestWaiter::behind(&two, &["r"], true);
    // The call needs a thread, which a closed manager does not have.
    let (resources, waiter, backend) =
        (waiting.resources(), waiting.waiter.clone(), std::sync::Arc::clone(&two.backend));
    two.close();
    assert_eq!(entries(&dir).0, 1, "the file is still in use");
    let left = one.start(move |_| async move { backend.leave_queue(&resources, &waiter).await }).unwrap();
    left.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(entries(&dir).0, 0);
}
