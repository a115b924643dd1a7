//! The tokens of names that are not used any more are pruned.

use std::time::Duration;

use super::TestDir;
use crate::runtime::clock::fake::FakeClock;

#[test]
fn old_tokens_are_pruned_a_few_at_a_time() {
    let dir = TestDir::new();
    let clock = FakeClock::new();
    let process = dir.process_at(clock.clock());
    let day = Duration::from_secs(86_400);
    for number in 0..50 {
        let lease = process.acquire(&[&format!("old {number:02}")], 1000);
        assert!(process.release(&lease).unwrap());
    }
    let renewed = process.acquire(&["old but held"], 86_400_000);
    for _ in 0..16 {
        clock.advance(day / 2);
        process.extend(&renewed, 86_400_000).unwrap();
    }
    let rows =
        || -> u32 { dir.raw().query_row("SELECT count(*) FROM leases", [], |row| row.get(0)).unwrap() };
    assert_eq!(rows(), 51, "nothing is pruned while nothing is granted");
    for number in 0..60 {
        process.acquire(&[&format!("new {number:02}")], 1000);
    }
    assert_eq!(rows(), 61, "the new ones, and the lease that is still held");
    process.extend(&renewed, 1000).unwrap();
    let again = process.acquire(&["old 07"], 1000);
    assert!(again.token >= clock.clock().wall_micros(), "the clock is ahead of the pruned token");
}

#[test]
fn old_tokens_are_pruned_although_no_names_are_added() {
    let dir = TestDir::new();
    let clock = FakeClock::new();
    let process = dir.process_at(clock.clock());
    for number in 0..200 {
        let lease = process.acquire(&[&format!("old {number:03}")], 1000);
        assert!(process.release(&lease).unwrap());
    }
    let rows =
        || -> u32 { dir.raw().query_row("SELECT count(*) FROM leases", [], |row| row.get(0)).unwrap() };
    clock.advance(Duration::from_secs(8 * 86_400));
    let mut left = Vec::new();
    for _ in 0..8 {
        let lease = process.acquire(&["old 100"], 1000);
        process.release(&lease).unwrap();
        left.push(rows());
        clock.advance(Duration::from_secs(1));
    }
    assert!(left.windows(2).all(|pair| pair[0] - pair[1] <= 64), "a few at a time: {left:?}");
    assert_eq!(left[7], 1, "{left:?}");
}
