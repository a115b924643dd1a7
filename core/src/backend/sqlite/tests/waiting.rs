//! How waiters learn that an attempt may succeed.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::roles::Actor;
use super::{Held, Place, Process, held, request};
use crate::backend::Waiter;
use crate::backend::contract::{Attempt, LockBackend, Request, SyncBackend};
use crate::lease::Resources;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(10);
/// In which nothing happens, if nothing is to happen: longer than the time between two looks.
const SHORT: Duration = Duration::from_millis(250);

/// Somebody who waits, seen from outside of the backend's thread.
pub(crate) struct Waiting {
    pub(crate) waiter: Waiter,
    pub(crate) request: Request,
}

impl Waiting {
    /// Lines up and attempts once, as the core does.
    pub(crate) fn start(process: &Process, names: &[&str], fair: bool) -> (Self, Attempt) {
        let waiter = Waiter::new(fair);
        let request = Request { waiter: Some(waiter.clone()), ..request(names, 60_000) };
        let waiting = Self { waiter, request };
        let (resources, waiter) = (waiting.resources(), waiting.waiter.clone());
        process.call(move |backend| async move { backend.join_queue(&resources, &waiter).await }).unwrap();
        let attempt = waiting.attempt(process);
        (waiting, attempt)
    }

    /// Like `start`, of somebody who has to wait.
    pub(crate) fn behind(process: &Process, names: &[&str], fair: bool) -> Self {
        let (waiting, attempt) = Self::start(process, names, fair);
        assert!(matches!(attempt, Attempt::Busy(_)), "{attempt:?}");
        waiting
    }

    pub(crate) fn resources(&self) -> Resources {
        self.request.resources.clone()
    }

    pub(crate) fn attempt(&self, process: &Process) -> Attempt {
        let asked = self.request.clone();
        process.call(move |backend| async move { backend.acquire(&asked).await }).unwrap()
    }

    /// A message when it is woken next.
    pub(crate) fn bell(&self, process: &Process) -> Receiver<()> {
        let waiter = self.waiter.clone();
        process.start(move |_| async move { waiter.woken().await }).unwrap()
    }

    /// Attempts whenever it is woken, until it is granted its lease.
    pub(crate) fn take(self, process: &Process) -> Held {
        let end = Instant::now() + LONG;
        while Instant::now() < end {
            self.bell(process).recv_timeout(LONG).expect("it is woken");
            let attempt = self.attempt(process);
            if matches!(attempt, Attempt::Granted(_)) {
                let request = self.request.clone();
                self.leave(process);
                return held(request, attempt);
            }
        }
        panic!("it is woken in vain, again and again");
    }

    pub(crate) fn leave(self, process: &Process) {
        let resources = self.resources();
        let left =
            process.start(move |backend| async move { backend.leave_queue(&resources, &self.waiter).await });
        left.unwrap().recv_timeout(LONG).unwrap();
    }
}

fn sleeps(bell: &Receiver<()>) -> bool {
    bell.recv_timeout(SHORT) == Err(RecvTimeoutError::Timeout)
}

#[test]
fn a_release_wakes_waiters_of_this_process_and_of_others() {
    let place = Place::new();
    let (holder, other) = (place.process(), place.process());
    for waits_in in [&holder, &other] {
        for how in ["release", "release_sync", "force_release"] {
            let lease = holder.acquire(&["r"], 60_000);
            let waiting = Waiting::behind(waits_in, &["r"], false);
            let bell = waiting.bell(waits_in);
            assert!(sleeps(&bell), "nothing was released");
            match how {
                "release" => assert!(holder.release(&lease).unwrap()),
                "release_sync" => {
                    assert!(holder.backend.release_sync(&lease.resources, lease.owner).unwrap());
                }
                _ => assert!(holder.force_release("r")),
            }
            bell.recv_timeout(LONG).expect(how);
            let attempt = waiting.attempt(waits_in);
            let taken = held(waiting.request.clone(), attempt);
            waiting.leave(waits_in);
            assert!(waits_in.release(&taken).unwrap());
        }
    }
}

#[test]
fn a_release_in_another_process_is_noticed_by_its_commit() {
    let place = Place::new();
    let (holder, other) = (place.process(), place.process());
    let mut noticed: Vec<Duration> = (0..15)
        .map(|_| {
            let lease = holder.acquire(&["r"], 60_000);
            let waiting = Waiting::behind(&other, &["r"], false);
            let bell = waiting.bell(&other);
            std::thread::sleep(Duration::from_millis(20));
            holder.release(&lease).unwrap();
            let since = Instant::now();
            bell.recv_timeout(LONG).unwrap();
            waiting.leave(&other);
            since.elapsed()
        })
        .collect();
    noticed.sort();
    println!("a release is noticed after {:?}, at the longest {:?}", noticed[7], noticed[14]);
    // By the looks for dead holders alone it would take 27 ms and more.
    assert!(noticed[7] < Duration::from_millis(15), "{noticed:?}");
}

#[test]
fn nobody_is_woken_in_vain_by_what_others_do() {
    let place = Place::new();
    let (holder, other) = (place.process(), place.process());
    let _lease = holder.acquire(&["r"], 60_000);
    let waiting = Waiting::behind(&other, &["r"], false);
    let bell = waiting.bell(&other);
    let unrelated = holder.acquire(&["another"], 60_000);
    holder.release(&unrelated).unwrap();
    assert!(sleeps(&bell));
}

#[test]
fn one_waiter_of_a_process_is_woken_and_the_next_when_that_one_leaves() {
    let place = Place::new();
    let (holder, other) = (place.process(), place.process());
    let lease = holder.acquire(&["r"], 60_000);
    let (first, second) =
        (Waiting::behind(&other, &["r"], false), Waiting::behind(&other, &["r", "s"], false));
    let (bell, next) = (first.bell(&other), second.bell(&other));
    holder.release(&lease).unwrap();
    bell.recv_timeout(LONG).unwrap();
    assert!(sleeps(&next), "one of them can have it");
    first.leave(&other);
    next.recv_timeout(LONG).unwrap();
    second.leave(&other);
}

#[test]
fn several_resources_are_waited_for_together() {
    let place = Place::new();
    let (holder, other) = (place.process(), place.process());
    for fair in [false, true] {
        let (a, b) = (holder.acquire(&["a"], 60_000), holder.acquire(&["b"], 60_000));
        let waiting = Waiting::behind(&other, &["c", "b", "a"], fair);
        let bell = waiting.bell(&other);
        holder.release(&a).unwrap();
        assert!(sleeps(&bell), "b is held");
        holder.release(&b).unwrap();
        bell.recv_timeout(LONG).unwrap();
        let taken = held(waiting.request.clone(), waiting.attempt(&other));
        waiting.leave(&other);
        other.release(&taken).unwrap();
    }
}

#[test]
fn a_killed_holder_is_found_out() {
    let place = Place::new();
    let mut holder = Actor::start("holder", &place.path);
    holder.hear();
    let process = place.process();
    let (one, fair) =
        (Waiting::behind(&process, &["r"], false), Waiting::behind(&process, &["another"], true));
    let (bell, next) = (one.bell(&process), fair.bell(&process));
    assert!(sleeps(&bell), "it lives");
    holder.kill();
    bell.recv_timeout(LONG).unwrap();
    next.recv_timeout(LONG).unwrap();
    for waiting in [one, fair] {
        held(waiting.request.clone(), waiting.attempt(&process));
        waiting.leave(&process);
    }
}

#[test]
fn everybody_is_woken_when_the_file_goes() {
    for fair in [false, true] {
        let place = Place::new();
        let (holder, other) = (place.process(), place.process());
        holder.acquire(&["r"], 60_000);
        let waiting = Waiting::behind(&other, &["r"], fair);
        let bell = waiting.bell(&other);
        assert!(sleeps(&bell));
        std::fs::remove_file(&place.path).unwrap();
        bell.recv_timeout(LONG).unwrap();
        held(waiting.request.clone(), waiting.attempt(&other));
        waiting.leave(&other);
    }
}

#[test]
fn nothing_runs_while_nobody_waits_and_the_file_is_let_go() {
    let place = Place::new();
    let (holder, other) = (place.process(), place.process());
    let _lease = holder.acquire(&["r"], 60_000);
    let waiting = Waiting::behind(&other, &["r"], false);
    let file = other.backend.file().unwrap();
    assert!(file.watch.is_attended());
    waiting.leave(&other);
    let idle = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        !file.watch.is_attended()
    });
    assert!(idle);

    // Somebody waits on, and still the file is closed with its last manager.
    let _waiting = Waiting::behind(&other, &["r"], false);
    let weak = std::sync::Arc::downgrade(&file);
    drop(file);
    other.close();
    let gone = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        weak.strong_count() == 0
    });
    assert!(gone, "the task does not keep it");
    assert_eq!(place.liveness_files().len(), 1, "only the holder's");
}
