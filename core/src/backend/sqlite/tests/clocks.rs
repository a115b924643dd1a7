//! The clock by which a lease ends.

use std::time::Duration;

use super::TestDir;
use super::roles::ChildProcess;
use crate::runtime::clock::BootIdentity;
use crate::runtime::clock::fake::FakeClock;

const HOUR: i64 = 3_600_000_000;

#[test]
fn setting_the_wall_clock_neither_ends_nor_prolongs_a_lease() {
    for step in [HOUR, -HOUR] {
        let dir = TestDir::new();
        let clock = FakeClock::new();
        let (holder, other) = (dir.process_at(clock.clock()), dir.process_at(clock.clock()));
        let lease = holder.acquire(&["r"], 10_000);
        clock.step_wall(step);
        assert_eq!(other.busy_for("r"), Duration::from_secs(10), "{step}");
        holder.extend(&lease, 20_000).unwrap();
        assert_eq!(other.busy_for("r"), Duration::from_secs(20), "{step}");
        clock.advance(Duration::from_secs(20));
        assert!(other.acquire(&["r"], 1000).token > lease.token, "{step}");
    }
}

#[test]
fn after_a_reboot_every_holder_is_dead() {
    let dir = TestDir::new();
    let mut holder = ChildProcess::start("holder", &dir.path);
    let token: u64 = holder.read_report().parse().unwrap();
    holder.kill();
    // So that nothing else proves its death.
    for file in dir.liveness_files() {
        std::fs::remove_file(file).unwrap();
    }
    assert!(dir.process().busy_for("r") > Duration::from_secs(50));
    let clock = FakeClock::new();
    let after = dir.process_at(clock.clock());
    assert_eq!(after.inspect("r").unwrap(), None);
    assert!(after.acquire(&["r"], 10_000).token > token);
}

#[test]
fn a_living_holder_with_another_boot_id_keeps_its_lease() {
    // As in containers whose manager gives each its own boot id.
    let dir = TestDir::new();
    let (here, there) = (FakeClock::new(), FakeClock::new());
    there.set_identity(Some(BootIdentity { boot: [9; 16], time_namespace: 0 }));
    let (holder, other) = (dir.process_at(here.clock()), dir.process_at(there.clock()));
    holder.acquire(&["r"], 10_000);
    assert_eq!(other.busy_for("r"), Duration::from_secs(10));
    there.advance(Duration::from_secs(10));
    other.acquire(&["r"], 1000);
}

#[test]
fn in_another_time_namespace_the_wall_clock_decides() {
    let dir = TestDir::new();
    let (here, there) = (FakeClock::new(), FakeClock::new());
    there.set_identity(Some(BootIdentity { boot: [7; 16], time_namespace: 99 }));
    // Its boot clock is an hour ahead, and its wall clock is the same.
    there.advance(Duration::from_secs(3600));
    there.step_wall(-HOUR);
    let (holder, other) = (dir.process_at(here.clock()), dir.process_at(there.clock()));
    holder.acquire(&["r"], 10_000);
    assert_eq!(other.busy_for("r"), Duration::from_secs(10));
    there.advance(Duration::from_secs(10));
    other.acquire(&["r"], 1000);
}

#[test]
fn without_a_boot_identity_the_wall_clock_decides() {
    for (theirs, ours) in [(false, true), (true, false), (false, false)] {
        let dir = TestDir::new();
        let clocks = [theirs, ours].map(|known| {
            let clock = FakeClock::new();
            if !known {
                clock.set_identity(None);
            }
            clock
        });
        let (holder, other) = (dir.process_at(clocks[0].clock()), dir.process_at(clocks[1].clock()));
        let lease = holder.acquire(&["r"], 10_000);
        clocks[1].step_wall(4_000_000);
        assert_eq!(other.busy_for("r"), Duration::from_secs(6));
        holder.extend(&lease, 12_000).unwrap();
        assert_eq!(other.busy_for("r"), Duration::from_secs(8));
        clocks[1].step_wall(8_000_000);
        other.acquire(&["r"], 1000);
    }
}
