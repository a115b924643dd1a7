//! Minimums: what keeps others out although the lease was released, or its holder is dead.

use std::path::Path;

use rusqlite::params;

use super::roles::{ChildProcess, backend, report, wait_for_parent};
use super::*;
use crate::backend::contract::SyncBackend;
use crate::backend::sqlite::holders::holder::{Holder, StoredHolder};
use crate::backend::sqlite::store::transaction::signed;
use crate::runtime::clock::fake::FakeClock;

const SECOND: Duration = Duration::from_secs(1);

fn with_minimum(names: &[&str], ttl_ms: u32, seconds: u32) -> Request {
    Request { min_hold: SECOND * seconds, ..request(names, ttl_ms) }
}

fn acquire(process: &Process, request: &Request) -> GrantedLease {
    let requested = request.clone();
    let attempt = process.call(move |backend| async move { backend.acquire(&requested).await });
    granted(request.clone(), attempt.unwrap())
}

/// Releases it so that this much of its minimum stays.
fn leave(process: &Process, lease: &GrantedLease, now: BootInstant, rest: Duration) -> Result<bool> {
    let GrantedLease { resources, owner, .. } = lease.clone();
    process.call(move |backend| async move {
        backend.release(&resources, owner, Ttl::from_millis(10_000).unwrap(), Some(now + rest)).await
    })
}

/// The role of a process that holds `r` for a minute, with a minimum of 20 seconds.
pub(super) fn hold(file: &Path) {
    let backend = backend(file);
    let attempt = backend.acquire_sync(&with_minimum(&["r"], 60_000, 20)).unwrap();
    let Attempt::Granted(grant) = attempt else { panic!("{attempt:?}") };
    report(grant.token);
    wait_for_parent();
}

#[test]
fn a_release_leaves_the_rest_and_never_more_than_there_was() {
    let dir = TestDir::new();
    let clock = FakeClock::new();
    let (holder, other) = (dir.process_at(clock.clock()), dir.process_at(clock.clock()));
    for (ttl_ms, seconds, lasts, rest, left) in
        [(60_000, 20, 60, 20, 20), (10_000, 20, 20, 20, 20), (10_000, 20, 20, 500, 20)]
    {
        let lease = acquire(&holder, &with_minimum(&["r", "s"], ttl_ms, seconds));
        assert_eq!(other.busy_for("r"), SECOND * lasts);
        assert!(leave(&holder, &lease, clock.clock().boot(), SECOND * rest).unwrap());
        // Again, as after an unknown outcome.
        assert!(leave(&holder, &lease, clock.clock().boot(), SECOND * rest).unwrap());
        for name in ["r", "s"] {
            assert_eq!(other.busy_for(name), SECOND * left);
        }
        let info = other.inspect("r").unwrap().unwrap();
        assert_eq!((info.owner, info.token), (lease.owner.to_string(), lease.token));
        clock.advance(SECOND * (left - 1));
        assert_eq!(other.busy_for("r"), SECOND);
        clock.advance(SECOND);
        assert!(!leave(&holder, &lease, clock.clock().boot(), SECOND).unwrap(), "it is over");
        assert!(other.acquire(&["r"], 10).token > lease.token);
        clock.advance(SECOND);
    }
}

#[test]
fn an_extension_never_shortens_and_a_release_after_it_does() {
    let dir = TestDir::new();
    let clock = FakeClock::new();
    let (holder, other) = (dir.process_at(clock.clock()), dir.process_at(clock.clock()));
    let lease = acquire(&holder, &with_minimum(&["r"], 10_000, 20));
    holder.extend(&lease, 15_000).unwrap();
    assert_eq!(other.busy_for("r"), SECOND * 20, "an extension never shortens");
    holder.extend(&lease, 60_000).unwrap();
    assert_eq!(other.busy_for("r"), SECOND * 60);
    clock.advance(SECOND * 5);
    assert!(leave(&holder, &lease, clock.clock().boot(), SECOND * 15).unwrap());
    assert_eq!(other.busy_for("r"), SECOND * 15);
}

#[test]
fn the_minimum_of_a_dead_holder_is_waited_for() {
    let dir = TestDir::new();
    let mut holder = ChildProcess::start("holder with a minimum", &dir.path);
    let token: u64 = holder.read_report().parse().unwrap();
    let process = dir.process();
    assert!(process.busy_for("r") > SECOND * 50, "it is alive");
    holder.kill();
    let rest = process.busy_for("r");
    assert!(rest <= SECOND * 20 && rest > SECOND * 5, "{rest:?}");
    assert_eq!(process.inspect("r").unwrap().unwrap().token, token);
    assert!(process.force_release("r"));
    assert!(process.acquire(&["r"], 60_000).token > token);
}

#[test]
fn the_minimum_of_a_dead_holder_outlasts_its_removal_and_a_reboot() {
    let dir = TestDir::new();
    let mut holder = ChildProcess::start("holder with a minimum", &dir.path);
    holder.read_report();
    let left = dir.liveness_files();
    holder.kill();
    let process = dir.process();
    process.connect().unwrap();
    assert!((0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        !left[0].exists()
    }));
    let rest = process.busy_for("r");
    assert!(rest <= SECOND * 20 && rest > SECOND * 5, "{rest:?}");
    // Another boot, by whose wall clock the minimum has not passed.
    let clock = FakeClock::new();
    let wall = signed(Clock::System.wall_micros()) - signed(clock.clock().wall_micros());
    clock.step_wall(wall);
    let rest = dir.process_at(clock.clock()).busy_for("r");
    assert!(rest <= SECOND * 20 && rest > SECOND * 2, "{rest:?}");
    clock.advance(SECOND * 20);
    dir.process_at(clock.clock()).acquire(&["r"], 1_000);
}

#[test]
fn closing_keeps_no_liveness_file_for_a_minimum() {
    let dir = TestDir::new();
    let process = dir.process();
    let lease = acquire(&process, &with_minimum(&["r"], 10_000, 20));
    assert!(leave(&process, &lease, Clock::System.boot(), SECOND * 20).unwrap());
    process.close();
    assert_eq!(dir.liveness_files(), Vec::<PathBuf>::new());
    assert!(dir.process().busy_for("r") > SECOND * 10);
}

#[test]
fn a_version_without_minimums_finds_an_unknown_holder_and_a_lease_that_lasts() {
    let dir = TestDir::new();
    let process = dir.process();
    acquire(&process, &with_minimum(&["r"], 10_000, 20));
    let (holder, wall): (Vec<u8>, i64) = dir
        .raw()
        .query_row("SELECT holder, wall_us FROM leases WHERE resource = 'r'", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(Holder::decode(&holder), None, "so nothing proves its death");
    assert!(StoredHolder::decode(&holder).unwrap().minimum.is_some());
    assert!(wall > signed(Clock::System.wall_micros() + 15_000_000));
    // It grants what is free without looking at the holder that was.
    let freed = "UPDATE leases SET owner = NULL, boot_us = NULL, wall_us = NULL, holder = NULL";
    dir.raw().execute(freed, params![]).unwrap();
    process.acquire(&["r"], 1_000);
}
