//! The file is deleted or replaced while it is in use.

use crate::backend::contract::{Attempt, SyncBackend};
use std::sync::Arc;
use std::time::Duration;

use super::roles::Actor;
use super::{Held, Place, Process, held, request, transact};
use crate::backend::sqlite::SqliteBackend;
use crate::backend::sqlite::process::registry::Registry;
use crate::backend::sqlite::store::Done;
use crate::runtime::clock::Clock;

#[test]
fn leases_in_a_deleted_file_are_lost_and_tokens_go_on_rising() {
    let place = Place::new();
    let process = place.process();
    let lease = process.acquire(&["r"], 60_000);
    assert!(!process.outlived(&lease));
    for name in place.names() {
        std::fs::remove_file(place.path.with_file_name(name)).unwrap();
    }
    assert_eq!(process.extend(&lease, 1000).unwrap_err().code(), "LOCK_LOST");
    assert!(process.outlived(&lease));
    assert!(!process.release(&lease).unwrap());
    assert_eq!(process.inspect("r").unwrap(), None);
    assert!(!process.force_release("r"));
    assert_eq!(place.names(), [""; 0], "none of this makes a new file");

    let next = process.acquire(&["r"], 60_000);
    assert!(next.token > lease.token);
    assert!(!process.outlived(&next));
    assert!(process.outlived(&lease));
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
    assert!(process.outlived(&lease));
    assert_eq!(process.extend(&lease, 1000).unwrap_err().code(), "LOCK_LOST");
}

#[test]
#[cfg(unix)]
fn a_link_on_the_way_that_is_switched_is_followed() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    let at = |name: &str| place.path.with_file_name(name);
    std::fs::create_dir(at("a")).unwrap();
    std::fs::create_dir(at("b")).unwrap();
    symlink("a", at("current")).unwrap();
    let registry = Box::leak(Box::new(Registry::new(Clock::System)));
    let linked = place.process_in(registry, &at("current").join("locks.sqlite"));
    let direct = place.process_in(registry, &at("a").join("locks.sqlite"));
    let lease = linked.acquire(&["r"], 60_000);
    assert!(direct.busy("r") > Duration::from_secs(50), "one file by two names");

    std::fs::remove_file(at("current")).unwrap();
    symlink("b", at("current")).unwrap();
    // A process that starts now goes where the link leads now; whoever was there before must follow.
    let newcomer = place
        .process_in(Box::leak(Box::new(Registry::new(Clock::System))), &at("current").join("locks.sqlite"));
    newcomer.acquire(&["r"], 60_000);
    assert_eq!(linked.extend(&lease, 1000).unwrap_err().code(), "LOCK_LOST");
    assert!(linked.outlived(&lease));
    assert!(linked.busy("r") > Duration::from_secs(50));
    assert!(!direct.outlived(&lease), "whose path was not touched");
    assert!(direct.busy("r") > Duration::from_secs(50));
}

#[test]
fn side_files_taken_away_by_hand_end_the_leases_in_them() {
    let place = Place::new();
    let mut holder = Actor::start("holder", &place.path);
    holder.hear();
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(place.path.with_file_name(format!("locks.sqlite{suffix}"))).unwrap();
    }
    // The row was in the -wal, so nobody can know of it.
    let process = place.process();
    let mine = process.acquire(&["r"], 60_000);
    // They are not looked at before each transaction, but often.
    std::thread::sleep(Duration::from_millis(20));
    holder.go_on();
    assert_eq!(holder.hear(), "LOCK_LOST");
    holder.go_on();
    assert_eq!(holder.hear(), "busy", "and from now on it sees the same rows");
    assert!(process.release(&mine).unwrap());
}

/// Two managers of one process lock in two threads while `spoil` takes files away: what both hold, and nobody was told of.
fn held_twice(rounds: u64, spoil: impl Fn(&Place)) -> usize {
    let mut twice = 0;
    for round in 0..rounds {
        let place = Place::new();
        let registry = Box::leak(Box::new(Registry::new(Clock::System)));
        let (a, b) = (place.process_in(registry, &place.path), place.process_in(registry, &place.path));
        a.acquire(&["warm"], 60_000);
        b.acquire(&["warm too"], 60_000);
        let lock_all = |backend: Arc<SqliteBackend>| {
            std::thread::spawn(move || {
                let locked = (0..60).map(|number| {
                    let asked = request(&[&format!("r{number}")], 60_000);
                    match backend.acquire_sync(&asked) {
                        Ok(granted @ Attempt::Granted(_)) => Some(held(asked, granted)),
                        _ => None,
                    }
                });
                locked.collect::<Vec<_>>()
            })
        };
        let threads = [&a, &b].map(|process| lock_all(Arc::clone(&process.backend)));
        std::thread::sleep(Duration::from_micros(200 + (round % 20) * 100));
        spoil(&place);
        let [ours, theirs] = threads.map(|thread| thread.join().unwrap());
        let standing = |process: &Process, lease: &Option<Held>| {
            lease.as_ref().is_some_and(|lease| !process.outlived(lease))
        };
        twice += ours.iter().zip(&theirs).filter(|(x, y)| standing(&a, x) && standing(&b, y)).count();
    }
    twice
}

#[test]
fn a_file_that_goes_while_two_threads_lock_makes_no_two_holders() {
    let twice = held_twice(60, |place| std::fs::remove_file(&place.path).unwrap());
    assert_eq!(twice, 0);
}

#[test]
fn whoever_waited_for_another_transaction_looks_at_the_file_after_that() {
    let place = Place::new();
    let registry: &'static Registry = Box::leak(Box::new(Registry::new(Clock::System)));
    place.process_in(registry, &place.path).acquire(&["r"], 60_000);
    let process = place.process_in(registry, &place.path);
    process.connect().unwrap();
    let store = place.store(registry);
    let transact = |work: &mut dyn FnMut()| {
        transact(&store, &mut |_| {
            work();
            Ok(())
        })
    };
    std::thread::scope(|scope| {
        let mut waiting = None;
        let first = transact(&mut || {
            waiting = Some(scope.spawn(|| transact(&mut || ())));
            // Long enough for the other thread to come to where it waits.
            std::thread::sleep(Duration::from_millis(100));
            std::fs::remove_file(&place.path).unwrap();
        });
        assert_eq!(first.unwrap(), Done::Committed { ended: false });
        assert_eq!(waiting.unwrap().join().unwrap().unwrap(), Done::Replaced);
    });
}

#[test]
fn what_one_call_finds_out_of_side_files_every_later_one_does_too() {
    let place = Place::new();
    let registry = Box::leak(Box::new(Registry::new(Clock::System)));
    let process = place.process_in(registry, &place.path);
    process.acquire(&["r"], 60_000);
    std::thread::sleep(Duration::from_millis(20));
    let store = place.store(registry);
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(place.path.with_file_name(format!("locks.sqlite{suffix}"))).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(transact(&store, &mut |_| Ok(())).unwrap(), Done::Replaced);
    }
}

#[test]
fn tokens_rise_above_those_of_a_deleted_table() {
    let place = Place::new();
    let clock = crate::runtime::clock::fake::FakeClock::new();
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
