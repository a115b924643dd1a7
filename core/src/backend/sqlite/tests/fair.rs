//! Fair lines: who is served before whom, and who is passed over.

use crate::backend::contract::{Attempt, LockBackend, SyncBackend};
use std::time::{Duration, Instant};

use super::roles::Actor;
use super::waiting::Waiting;
use super::{Place, Process, request};
use crate::runtime::clock::fake::FakeClock;

/// How many entries the queue has, and how many processes and resources are marked for it.
fn entries(place: &Place) -> (u32, u32, u32) {
    let count = |sql: &str| place.raw().query_row(sql, [], |row| row.get(0)).unwrap();
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
fn whoever_came_first_is_served_first() {
    let place = Place::new();
    let processes = [place.process(), place.process(), place.process()];
    let mut lease = processes[0].acquire(&["r"], 60_000);
    let line: Vec<_> = (0..6)
        .map(|at| (&processes[at * 2 % 3], Waiting::behind(&processes[at * 2 % 3], &["r"], true)))
        .collect();
    assert_eq!(entries(&place), (6, 3, 1));
    let mut holder = &processes[0];
    let mut rest = line.into_iter();
    while let Some((process, next)) = rest.next() {
        holder.release(&lease).unwrap();
        for (other, later) in rest.as_slice() {
            assert!(
                matches!(later.attempt(other), Attempt::Busy(None)),
                "not before its turn, nor to be tried soon"
            );
        }
        lease = next.take(process);
        holder = process;
    }
    assert_eq!(entries(&place).0, 0);
    assert_eq!(entries(&place).2, 0, "the row says so");
}

#[test]
fn nobody_gets_past_the_line_to_a_free_resource() {
    let place = Place::new();
    let (holder, other) = (place.process(), place.process());
    let lease = holder.acquire(&["r"], 60_000);
    let waiting = Waiting::behind(&other, &["r"], true);
    holder.release(&lease).unwrap();
    for process in [&holder, &other] {
        assert_eq!(process.attempt(&["r"], 1000).unwrap().1, Attempt::Busy(None));
        assert_eq!(process.attempt(&["s", "r"], 1000).unwrap().1, Attempt::Busy(None));
        let sync = process.backend.acquire_sync(&request(&["r"], 1000)).unwrap();
        assert_eq!(sync, Attempt::Busy(None), "the synchronous variant neither");
        let (hurried, attempt) = Waiting::start(process, &["r"], false);
        assert_eq!(attempt, Attempt::Busy(None), "nor who waits, but not fairly");
        hurried.leave(process);
    }
    let taken = waiting.take(&other);
    other.release(&taken).unwrap();
    assert!(!is_busy(&holder, "r"));
}

#[test]
fn who_gives_up_leaves_no_entry_and_the_next_is_woken() {
    let place = Place::new();
    let (holder, other) = (place.process(), place.process());
    let lease = holder.acquire(&["r"], 60_000);
    let (first, second) = (Waiting::behind(&holder, &["r"], true), Waiting::behind(&other, &["r"], true));
    holder.release(&lease).unwrap();
    let bell = second.bell(&other);
    assert!(bell.recv_timeout(Duration::from_millis(250)).is_err(), "it is not its turn");
    first.leave(&holder);
    bell.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(entries(&place).0, 1);
    second.leave(&other);
    assert_eq!((entries(&place).0, entries(&place).2), (0, 0));
    assert!(!is_busy(&holder, "r"));
}

#[test]
fn a_line_for_several_resources_has_one_order() {
    let place = Place::new();
    let process = place.process();
    let lease = process.acquire(&["b"], 60_000);
    let first = Waiting::behind(&process, &["a", "b"], true);
    let second = Waiting::behind(&process, &["c", "a"], true);
    let third = Waiting::behind(&process, &["c"], true);
    assert_eq!(entries(&place), (5, 1, 3));
    process.release(&lease).unwrap();
    assert_eq!(third.attempt(&process), Attempt::Busy(None), "c is free, but the second waits for it");
    let lease = first.take(&process);
    process.release(&lease).unwrap();
    let lease = second.take(&process);
    process.release(&lease).unwrap();
    let lease = third.take(&process);
    process.release(&lease).unwrap();
    assert_eq!((entries(&place).0, entries(&place).2), (0, 0));
    assert!(!is_busy(&process, "a"));
}

#[test]
fn the_dead_are_passed_over_at_once_and_leave_nothing() {
    let place = Place::new();
    let process = place.process();
    let lease = process.acquire(&["r"], 60_000);
    let mut actor = Actor::start("fair waiter", &place.path);
    actor.hear();
    let waiting = Waiting::behind(&process, &["r"], true);
    assert_eq!(entries(&place).0, 2);
    process.release(&lease).unwrap();
    assert!(is_busy(&process, "r"), "it lives");
    actor.kill();
    let since = Instant::now();
    let lease = waiting.take(&process);
    assert!(since.elapsed() < Duration::from_secs(1), "by its liveness file: {:?}", since.elapsed());
    assert_eq!((entries(&place).0, entries(&place).2), (0, 0));
    process.release(&lease).unwrap();
}

#[test]
fn the_dead_are_cleared_from_the_line_at_open() {
    let place = Place::new();
    let holder = place.process();
    holder.acquire(&["r"], 60_000);
    let mut actor = Actor::start("fair waiter", &place.path);
    actor.hear();
    actor.kill();
    assert_eq!(entries(&place), (1, 1, 1));
    let process = place.process();
    process.connect().unwrap();
    let cleared = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        entries(&place) == (0, 0, 0)
    });
    assert!(cleared);
}

#[test]
fn a_process_without_a_sign_of_life_is_passed_over() {
    let place = Place::new();
    let clock = FakeClock::new();
    // The clock stands still for the one that waits, so it cannot tell that it has not been heard of.
    let (stopped, process) = (place.process_at(FakeClock::new().clock()), place.process_at(clock.clock()));
    let lease = process.acquire(&["r"], 60_000);
    let first = Waiting::behind(&stopped, &["r"], true);
    process.release(&lease).unwrap();
    clock.advance(Duration::from_millis(1400));
    assert!(is_busy(&process, "r"), "it may live");
    clock.advance(Duration::from_millis(200));
    let lease = process.acquire(&["r"], 60_000);
    assert_eq!(entries(&place), (0, 0, 0));
    // It lines up anew.
    assert!(matches!(first.attempt(&stopped), Attempt::Busy(_)));
    assert_eq!(entries(&place), (1, 1, 1));
    process.release(&lease).unwrap();
    first.leave(&stopped);
}

#[test]
fn a_process_whose_entries_went_lines_up_anew() {
    let place = Place::new();
    let process = place.process();
    let _lease = process.acquire(&["r"], 60_000);
    let waiting = Waiting::behind(&process, &["r"], true);
    place
        .raw()
        .execute_batch("DELETE FROM queue; DELETE FROM processes; UPDATE leases SET queued = NULL")
        .unwrap();
    // Its next sign of life tells it.
    waiting.bell(&process).recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(matches!(waiting.attempt(&process), Attempt::Busy(_)));
    assert_eq!(entries(&place), (1, 1, 1));
    waiting.leave(&process);
}

#[test]
fn a_line_outlives_what_a_sign_of_life_is_believed_for() {
    let place = Place::new();
    let (holder, other) = (place.process(), place.process());
    let lease = holder.acquire(&["r"], 60_000);
    let waiting = Waiting::behind(&other, &["r"], true);
    std::thread::sleep(Duration::from_millis(3500));
    holder.release(&lease).unwrap();
    assert!(is_busy(&holder, "r"), "it is still in line");
    waiting.take(&other);
}

#[test]
fn closing_takes_all_entries_away() {
    let place = Place::new();
    let (holder, other) = (place.process(), place.process());
    let _lease = holder.acquire(&["r"], 60_000);
    let _waiting = Waiting::behind(&other, &["r"], true);
    assert_eq!(entries(&place), (1, 1, 1));
    other.close();
    assert_eq!(entries(&place), (0, 0, 0));
}

#[test]
fn a_waiter_leaves_its_line_after_its_manager_closed() {
    let place = Place::new();
    let registry = Box::leak(Box::new(crate::backend::sqlite::process::registry::Registry::new(
        crate::runtime::clock::Clock::System,
    )));
    let (one, two) = (place.process_in(registry, &place.path), place.process_in(registry, &place.path));
    let _lease = one.acquire(&["r"], 60_000);
    let waiting = Waiting::behind(&two, &["r"], true);
    // A thread to call it on, which a closed manager has none of.
    let (resources, waiter, backend) =
        (waiting.resources(), waiting.waiter.clone(), std::sync::Arc::clone(&two.backend));
    two.close();
    assert_eq!(entries(&place).0, 1, "the file is still in use");
    let left = one.start(move |_| async move { backend.leave_queue(&resources, &waiter).await }).unwrap();
    left.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(entries(&place).0, 0);
}
