//! How waiters are woken when an attempt may succeed.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::roles::ChildProcess;
use super::{GrantedLease, Process, TestDir, granted, request};
use crate::backend::Waiter;
use crate::backend::contract::{Attempt, LockBackend, Request, SyncBackend};
use crate::lease::Resources;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(10);
/// How long to make sure that nothing happens: longer than the time between two reads of the leases.
const SHORT: Duration = Duration::from_millis(250);

/// A waiter, used from outside the backend's thread.
pub(crate) struct TestWaiter {
    pub(crate) waiter: Waiter,
    pub(crate) request: Request,
}

impl TestWaiter {
    /// Joins the queue and attempts once, as the manager does.
    pub(crate) fn start(process: &Process, names: &[&str], fair: bool) -> (Self, Attempt) {
        let waiter = Waiter::new(fair);
        let request = Request { waiter: Some(waiter.clone()), ..request(names, 60_000) };
        let waiting = Self { waiter, request };
        let (resources, waiter) = (waiting.resources(), waiting.waiter.clone());
        process.call(move |backend| async move { backend.join_queue(&resources, &waiter).await }).unwrap();
        let attempt = waiting.attempt(process);
        (waiting, attempt)
    }

    /// Like `start`, for a waiter that has to wait.
    pub(crate) fn behind(process: &Process, names: &[&str], fair: bool) -> Self {
        let (waiting, attempt) = Self::start(process, names, fair);
        assert!(matches!(attempt, Attempt::Busy(_)), "{attempt:?}");
        waiting
    }

    pub(crate) fn resources(&self) -> Resources {
        self.request.resources.clone()
    }

    pub(crate) fn attempt(&self, process: &Process) -> Attempt {
        let requested = self.request.clone();
        process.call(move |backend| async move { backend.acquire(&requested).await }).unwrap()
    }

    /// Receives a message when the waiter is woken next.
    pub(crate) fn next_wake(&self, process: &Process) -> Receiver<()> {
        let waiter = self.waiter.clone();
        process.start(move |_| async move { waiter.woken().await }).unwrap()
    }

    /// Attempts whenever it is woken, until it is granted its lease.
    pub(crate) fn take(self, process: &Process) -> GrantedLease {
        let end = Instant::now() + LONG;
        while Instant::now() < end {
            self.next_wake(process).recv_timeout(LONG).expect("it is woken");
            let attempt = self.attempt(process);
            if matches!(attempt, Attempt::Granted(_)) {
                let request = self.request.clone();
                self.leave(process);
                return granted(request, attempt);
            }
        }
        panic!("it was woken too often without a grant");
    }

    pub(crate) fn leave(self, process: &Process) {
        let resources = self.resources();
        let left =
            process.start(move |backend| async move { backend.leave_queue(&resources, &self.waiter).await });
        left.unwrap().recv_timeout(LONG).unwrap();
    }
}

fn is_asleep(wake: &Receiver<()>) -> bool {
    wake.recv_timeout(SHORT) == Err(RecvTimeoutError::Timeout)
}

#[test]
fn a_release_wakes_waiters_of_this_process_and_of_others() {
    let dir = TestDir::new();
    let (holder, other) = (dir.process(), dir.process());
    for waits_in in [&holder, &other] {
        for how in ["release", "release_sync", "force_release"] {
            let lease = holder.acquire(&["r"], 60_000);
            let waiting = TestWaiter::behind(waits_in, &["r"], false);
            let wake = waiting.next_wake(waits_in);
            assert!(is_asleep(&wake), "nothing was released");
            match how {
                "release" => assert!(holder.release(&lease).unwrap()),
                "release_sync" => {
                    assert!(holder.backend.release_sync(&lease.resources, lease.owner, None).unwrap());
                }
                _ => assert!(holder.force_release("r")),
            }
            wake.recv_timeout(LONG).expect(how);
            let attempt = waiting.attempt(waits_in);
            let taken = granted(waiting.request.clone(), attempt);
            waiting.leave(waits_in);
            assert!(waits_in.release(&taken).unwrap());
        }
    }
}

#[test]
fn a_release_in_another_process_is_noticed_by_its_commit() {
    let dir = TestDir::new();
    let (holder, other) = (dir.process(), dir.process());
    let mut noticed: Vec<Duration> = (0..15)
        .map(|_| {
            let lease = holder.acquire(&["r"], 60_000);
            let waiting = TestWaiter::behind(&other, &["r"], false);
            let wake = waiting.next_wake(&other);
            std::thread::sleep(Duration::from_millis(20));
            holder.release(&lease).unwrap();
            let since = Instant::now();
            wake.recv_timeout(LONG).unwrap();
            waiting.leave(&other);
            since.elapsed()
        })
        .collect();
    noticed.sort();
    println!("a release is noticed after {:?}, at most {:?}", noticed[7], noticed[14]);
    // Through the reads for dead holders alone it would take 27 ms and more.
    assert!(noticed[7] < Duration::from_millis(15), "{noticed:?}");
}

#[test]
fn a_waiter_is_not_woken_for_other_resources() {
    let dir = TestDir::new();
    let (holder, other) = (dir.process(), dir.process());
    let _lease = holder.acquire(&["r"], 60_000);
    let waiting = TestWaiter::behind(&other, &["r"], false);
    let wake = waiting.next_wake(&other);
    let unrelated = holder.acquire(&["another"], 60_000);
    holder.release(&unrelated).unwrap();
    assert!(is_asleep(&wake));
}

#[test]
fn one_waiter_of_a_process_is_woken_and_the_next_when_that_one_leaves() {
    let dir = TestDir::new();
    let (holder, other) = (dir.process(), dir.process());
    let lease = holder.acquire(&["r"], 60_000);
    let (first, second) =
        (TestWaiter::behind(&other, &["r"], false), TestWaiter::behind(&other, &["r", "s"], false));
    let (wake, next) = (first.next_wake(&other), second.next_wake(&other));
    holder.release(&lease).unwrap();
    wake.recv_timeout(LONG).unwrap();
    assert!(is_asleep(&next), "one of them can have it");
    first.leave(&other);
    next.recv_timeout(LONG).unwrap();
    second.leave(&other);
}

#[test]
fn several_resources_are_waited_for_together() {
    let dir = TestDir::new();
    let (holder, other) = (dir.process(), dir.process());
    for fair in [false, true] {
        let (a, b) = (holder.acquire(&["a"], 60_000), holder.acquire(&["b"], 60_000));
        let waiting = TestWaiter::behind(&other, &["c", "b", "a"], fair);
        let wake = waiting.next_wake(&other);
        holder.release(&a).unwrap();
        assert!(is_asleep(&wake), "b is held");
        holder.release(&b).unwrap();
        wake.recv_timeout(LONG).unwrap();
        let taken = granted(waiting.request.clone(), waiting.attempt(&other));
        waiting.leave(&other);
        other.release(&taken).unwrap();
    }
}

#[test]
fn waiters_are_woken_when_the_holder_is_killed() {
    let dir = TestDir::new();
    let mut holder = ChildProcess::start("holder", &dir.path);
    holder.read_report();
    let process = dir.process();
    let (one, fair) =
        (TestWaiter::behind(&process, &["r"], false), TestWaiter::behind(&process, &["another"], true));
    let (wake, next) = (one.next_wake(&process), fair.next_wake(&process));
    assert!(is_asleep(&wake), "it is alive");
    holder.kill();
    wake.recv_timeout(LONG).unwrap();
    next.recv_timeout(LONG).unwrap();
    for waiting in [one, fair] {
        granted(waiting.request.clone(), waiting.attempt(&process));
        waiting.leave(&process);
    }
}

#[test]
fn every_waiter_is_woken_when_the_file_is_deleted() {
    for fair in [false, true] {
        let dir = TestDir::new();
        let (holder, other) = (dir.process(), dir.process());
        holder.acquire(&["r"], 60_000);
        let waiting = TestWaiter::behind(&other, &["r"], fair);
        let wake = waiting.next_wake(&other);
        assert!(is_asleep(&wake));
        std::fs::remove_file(&dir.path).unwrap();
        wake.recv_timeout(LONG).unwrap();
        granted(waiting.request.clone(), waiting.attempt(&other));
        waiting.leave(&other);
    }
}

#[test]
fn the_poller_runs_only_while_there_are_waiters_and_does_not_keep_the_file() {
    let dir = TestDir::new();
    let (holder, other) = (dir.process(), dir.process());
    let _lease = holder.acquire(&["r"], 60_000);
    let waiting = TestWaiter::behind(&other, &["r"], false);
    let file = other.backend.file().unwrap();
    assert!(file.poller().waiters().is_polled());
    waiting.leave(&other);
    let idle = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        !file.poller().waiters().is_polled()
    });
    assert!(idle);

    // A waiter keeps waiting, and still the file closes with its last manager.
    let _waiting = TestWaiter::behind(&other, &["r"], false);
    let weak = std::sync::Arc::downgrade(&file);
    drop(file);
    other.close();
    let is_dropped = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        weak.strong_count() == 0
    });
    assert!(is_dropped, "the task does not keep it");
    assert_eq!(dir.liveness_files().len(), 1, "only the holder's");
}
