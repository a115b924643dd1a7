//! How long callers wait for another program that keeps the file's write lock.

use crate::backend::contract::{Attempt, LockBackend, SyncBackend};
use std::time::{Duration, Instant};

use super::roles::Actor;
use super::{Place, Process, request};
use crate::backend::sqlite::process::registry::Registry;
use crate::backend::sqlite::retry::Patience;
use crate::runtime::clock::Clock;

fn patient(place: &Place, patience: Patience) -> Process {
    place.process_of(Registry { patience, ..Registry::new(Clock::System) })
}

#[test]
fn a_stuck_writer_is_waited_for_within_bounds() {
    let place = Place::new();
    let patience = Patience {
        task: Duration::from_millis(300),
        sync: Duration::from_millis(150),
        ..Patience::default()
    };
    let process = patient(&place, patience);
    let lease = process.acquire(&["r"], 60_000);
    let mut writer = Actor::start("stuck", &place.path);
    assert_eq!(writer.hear(), "locked");

    let since = Instant::now();
    let error = process.attempt(&["s"], 1000).unwrap_err();
    assert_eq!(error.code(), "BACKEND_UNAVAILABLE");
    assert!(error.to_string().contains("another process has kept the write lock"), "{error}");
    assert!((250..2000).contains(&since.elapsed().as_millis()), "{:?}", since.elapsed());

    let since = Instant::now();
    let error = process.backend.acquire_sync(&request(&["s"], 1000)).unwrap_err();
    assert_eq!(error.code(), "BACKEND_UNAVAILABLE");
    assert!((120..1500).contains(&since.elapsed().as_millis()), "{:?}", since.elapsed());
    assert!(process.inspect("r").unwrap().is_some(), "who only looks is not kept waiting");
    assert_eq!(process.inspect("s").unwrap(), None, "nothing was granted");

    assert_eq!(process.release(&lease).unwrap_err().code(), "BACKEND_UNAVAILABLE");
    writer.go_on();
    assert_eq!(writer.hear(), "unlocked");
    process.acquire(&["s"], 1000);
    let freed = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        process.inspect("r").unwrap().is_none()
    });
    assert!(freed, "a release that failed is made up for in the background");
}

#[test]
fn closing_makes_up_for_a_failed_release_at_once() {
    let place = Place::new();
    let patience = Patience { task: Duration::from_millis(50), ..Patience::default() };
    let process = patient(&place, patience);
    let lease = process.acquire(&["r"], 60_000);
    let mut writer = Actor::start("stuck", &place.path);
    writer.hear();
    process.release(&lease).unwrap_err();
    writer.go_on();
    writer.hear();
    process.close();
    drop(writer);
    let freed = place.raw().query_row("SELECT owner IS NULL FROM leases", [], |row| row.get(0));
    assert_eq!(freed, Ok(true));
}

#[test]
fn many_calls_lose_patience_together() {
    let place = Place::new();
    let task = Duration::from_secs(1);
    let process = patient(&place, Patience { task, ..Patience::default() });
    process.connect().unwrap();
    let mut writer = Actor::start("stuck", &place.path);
    writer.hear();
    let since = Instant::now();
    // More than two transactions' worth.
    let calls: Vec<_> = (0..600)
        .map(|number| {
            let asked = request(&[&format!("r{number}")], 1000);
            process.start(move |backend| async move { backend.acquire(&asked).await }).unwrap()
        })
        .collect();
    for call in calls {
        assert_eq!(call.recv().unwrap().unwrap_err().code(), "BACKEND_UNAVAILABLE");
    }
    assert!(since.elapsed() < task * 2, "not in turns: {:?}", since.elapsed());
}

#[test]
fn who_comes_later_has_patience_left() {
    let place = Place::new();
    let process = patient(&place, Patience { task: Duration::from_secs(2), ..Patience::default() });
    process.connect().unwrap();
    let mut writer = Actor::start("stuck", &place.path);
    writer.hear();
    let attempt = |name: &str| {
        let asked = request(&[name], 1000);
        process.start(move |backend| async move { backend.acquire(&asked).await }).unwrap()
    };
    let first = attempt("a");
    let since = Instant::now();
    assert_eq!(process.inspect("a").unwrap(), None);
    assert!(since.elapsed() < Duration::from_secs(1), "who only looks does not wait behind them");
    std::thread::sleep(Duration::from_secs(1).saturating_sub(since.elapsed()));
    let second = attempt("b");
    assert_eq!(first.recv().unwrap().unwrap_err().code(), "BACKEND_UNAVAILABLE");
    writer.go_on();
    assert!(matches!(second.recv().unwrap(), Ok(Attempt::Granted(_))));
}
