//! The file is deleted or replaced while it is in use.

use std::time::Duration;

use super::Place;
use crate::clock::Clock;

#[test]
fn leases_in_a_deleted_file_are_lost_and_tokens_go_on_rising() {
    let place = Place::new();
    let process = place.process();
    let lease = process.acquire(&["r"], 60_000);
    assert!(!process.backend.outlived(lease.sent));
    for name in place.names() {
        std::fs::remove_file(place.path.with_file_name(name)).unwrap();
    }
    assert!(process.backend.outlived(lease.sent));
    assert_eq!(process.extend(&lease, 1000).unwrap_err().code(), "LOCK_LOST");
    assert!(!process.release(&lease).unwrap());
    assert_eq!(process.inspect("r").unwrap(), None);
    assert!(!process.force_release("r"));
    assert_eq!(place.names(), [""; 0], "none of this makes a new file");

    let next = process.acquire(&["r"], 60_000);
    assert!(next.token > lease.token);
    assert!(!process.backend.outlived(next.sent));
    assert!(process.backend.outlived(lease.sent));
    assert!(!process.release(&lease).unwrap());
    assert!(process.release(&next).unwrap());
}

#[test]
fn a_replaced_file_is_used_and_its_side_files_are_spared() {
    let place = Place::new();
    let (stale, other) = (place.process(), place.process());
    let lease = stale.acquire(&["r"], 60_000);
    // Only the database goes: its -wal and -shm stay, as after a careless `rm locks.sqlite`.
    std::fs::remove_file(&place.path).unwrap();
    let theirs = other.acquire(&["r"], 60_000);
    assert!(theirs.token > lease.token);
    other.acquire(&["s"], 60_000);
    // Now the stale store finds out and closes its connection, with frames in its WAL.
    assert!(stale.busy("r") > Duration::from_secs(50));
    assert!(stale.busy("s") > Duration::from_secs(50));
    assert_eq!(stale.extend(&lease, 1000).unwrap_err().code(), "LOCK_LOST");
    assert!(place.names().contains(&"locks.sqlite-wal".to_owned()), "{:?}", place.names());
    // A third that starts now sees the same rows: the WAL that is there belongs to the database that is there.
    let third = place.process();
    assert!(third.busy("r") > Duration::from_secs(50));
    assert!(third.busy("s") > Duration::from_secs(50));
    assert!(other.release(&theirs).unwrap());
    third.acquire(&["r"], 60_000);
}

#[test]
fn a_file_put_in_its_place_is_used() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let process = place.process();
    let lease = process.acquire(&["r"], 60_000);
    let maker = elsewhere.process();
    maker.acquire(&["s"], 60_000);
    maker.close();
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(place.path.with_file_name(format!("locks.sqlite{suffix}"))).unwrap();
    }
    std::fs::rename(&elsewhere.path, &place.path).unwrap();
    assert!(process.busy("s") > Duration::from_secs(50));
    assert_eq!(process.inspect("r").unwrap(), None);
    assert!(process.backend.outlived(lease.sent));
    assert_eq!(process.extend(&lease, 1000).unwrap_err().code(), "LOCK_LOST");
}

#[test]
fn tokens_rise_above_those_of_a_deleted_table() {
    let place = Place::new();
    let clock = crate::clock::fake::FakeClock::new();
    let process = place.process_at(clock.clock());
    let lease = process.acquire(&["r"], 1000);
    place.raw().execute("DELETE FROM leases", []).unwrap();
    clock.advance(Duration::from_micros(1));
    assert!(process.acquire(&["r"], 1000).token > lease.token);
}

#[test]
fn a_deleted_directory_is_said() {
    let place = Place::new();
    let process = place.process_at(Clock::System);
    let lease = process.acquire(&["r"], 60_000);
    std::fs::remove_dir_all(place.directory.path()).unwrap();
    assert!(!process.release(&lease).unwrap());
    let error = process.attempt(&["r"], 1000).unwrap_err();
    assert_eq!(error.code(), "BACKEND_UNAVAILABLE");
    assert!(error.to_string().contains("directory"), "{error}");
}
