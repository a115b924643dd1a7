//! The file is deleted or replaced while it is in use.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::contract::{Attempt, SyncBackend};
use crate::backend::sqlite::SqliteBackend;
use crate::backend::sqlite::store::Done;
use crate::backend::sqlite::tests;
use crate::backend::sqlite::tests::roles::ChildProcess;
use crate::backend::sqlite::tests::{GrantedLease, Process, TestDir, granted, registry, request, transact};
use crate::runtime::clock::Clock;

#[test]
fn leases_in_a_deleted_file_are_lost_and_tokens_keep_rising() {
    let dir = TestDir::new();
    let process = dir.process();
    let lease = process.acquire(&["r"], 60_000);
    assert!(!process.was_notified_of_loss(&lease));
    for name in dir.names() {
        std::fs::remove_file(dir.path.with_file_name(name)).unwrap();
    }
    assert_eq!(process.extend(&lease, 1000).unwrap_err().code(), "LOCK_LOST");
    assert!(process.was_notified_of_loss(&lease));
    assert!(!process.release(&lease).unwrap());
    assert_eq!(process.inspect("r").unwrap(), None);
    assert!(!process.force_release("r"));
    assert_eq!(dir.names(), [""; 0], "none of this creates a new file");

    let next = process.acquire(&["r"], 60_000);
    assert!(next.token > lease.token);
    assert!(!process.was_notified_of_loss(&next));
    assert!(process.was_notified_of_loss(&lease));
    assert!(!process.release(&lease).unwrap());
    assert!(process.release(&next).unwrap());
}

#[test]
fn a_replacement_is_used_and_its_wal_files_stay() {
    let dir = TestDir::new();
    let (stale, other) = (dir.process(), dir.process());
    let lease = stale.acquire(&["r"], 60_000);
    // Only the database is deleted: its -wal and -shm stay, as after a careless `rm locks.sqlite`.
    std::fs::remove_file(&dir.path).unwrap();
    let theirs = other.acquire(&["r"], 60_000);
    assert!(theirs.token > lease.token);
    other.acquire(&["s"], 60_000);
    // Now the stale store notices and closes its connection, with frames in its WAL.
    assert!(stale.busy_for("r") > Duration::from_secs(50));
    assert!(stale.busy_for("s") > Duration::from_secs(50));
    assert_eq!(stale.extend(&lease, 1000).unwrap_err().code(), "LOCK_LOST");
    assert!(dir.names().contains(&"locks.sqlite-wal".to_owned()), "{:?}", dir.names());
    // A third process that starts now sees the same rows: the current WAL belongs to the current database.
    let third = dir.process();
    assert!(third.busy_for("r") > Duration::from_secs(50));
    assert!(third.busy_for("s") > Duration::from_secs(50));
    assert!(other.release(&theirs).unwrap());
    third.acquire(&["r"], 60_000);
}

#[test]
fn a_file_put_in_its_place_is_used() {
    let (dir, elsewhere) = (TestDir::new(), TestDir::new());
    let process = dir.process();
    let lease = process.acquire(&["r"], 60_000);
    let maker = elsewhere.process();
    maker.acquire(&["s"], 60_000);
    maker.close();
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(dir.path.with_file_name(format!("locks.sqlite{suffix}"))).unwrap();
    }
    std::fs::rename(&elsewhere.path, &dir.path).unwrap();
    assert!(process.busy_for("s") > Duration::from_secs(50));
    assert_eq!(process.inspect("r").unwrap(), None);
    assert!(process.was_notified_of_loss(&lease));
    assert_eq!(process.extend(&lease, 1000).unwrap_err().code(), "LOCK_LOST");
}

#[test]
#[cfg(unix)]
fn a_symbolic_link_that_is_changed_is_followed() {
    use std::os::unix::fs::symlink;
    let dir = TestDir::new();
    let at = |name: &str| dir.path.with_file_name(name);
    std::fs::create_dir(at("a")).unwrap();
    std::fs::create_dir(at("b")).unwrap();
    symlink("a", at("current")).unwrap();
    let registry = registry();
    let linked = dir.process_in(registry, &at("current").join("locks.sqlite"));
    let direct = dir.process_in(registry, &at("a").join("locks.sqlite"));
    let lease = linked.acquire(&["r"], 60_000);
    assert!(direct.busy_for("r") > Duration::from_secs(50), "one file by two names");

    std::fs::remove_file(at("current")).unwrap();
    symlink("b", at("current")).unwrap();
    // A process that starts now follows the new link, and earlier ones must follow it too.
    let newcomer = dir.process_in(tests::registry(), &at("current").join("locks.sqlite"));
    newcomer.acquire(&["r"], 60_000);
    assert_eq!(linked.extend(&lease, 1000).unwrap_err().code(), "LOCK_LOST");
    assert!(linked.was_notified_of_loss(&lease));
    assert!(linked.busy_for("r") > Duration::from_secs(50));
    assert!(!direct.was_notified_of_loss(&lease), "its path did not change");
    assert!(direct.busy_for("r") > Duration::from_secs(50));
}

#[test]
fn deleting_the_wal_files_by_hand_ends_the_leases_in_them() {
    let dir = TestDir::new();
    let mut holder = ChildProcess::start("holder", &dir.path);
    holder.read_report();
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(dir.path.with_file_name(format!("locks.sqlite{suffix}"))).unwrap();
    }
    // The row was in the -wal, so other processes cannot see it.
    let process = dir.process();
    let mine = process.acquire(&["r"], 60_000);
    // They are checked often, but not before each transaction.
    std::thread::sleep(Duration::from_millis(20));
    holder.resume();
    assert_eq!(holder.read_report(), "LOCK_LOST");
    holder.resume();
    assert_eq!(holder.read_report(), "busy", "from now on it sees the same rows");
    assert!(process.release(&mine).unwrap());
}

/// Two managers of one process acquire locks in two threads while `spoil` removes files. Returns how many
/// locks both hold without having been notified of the loss.
fn held_twice(rounds: u64, spoil: impl Fn(&TestDir)) -> usize {
    let mut twice = 0;
    for round in 0..rounds {
        let dir = TestDir::new();
        let registry = registry();
        let (a, b) = (dir.process_in(registry, &dir.path), dir.process_in(registry, &dir.path));
        a.acquire(&["warm"], 60_000);
        b.acquire(&["warm too"], 60_000);
        let lock_all = |backend: Arc<SqliteBackend>| {
            std::thread::spawn(move || {
                let locked = (0..60).map(|number| {
                    let requested = request(&[&format!("r{number}")], 60_000);
                    match backend.acquire_sync(&requested) {
                        Ok(attempt @ Attempt::Granted(_)) => Some(granted(requested, attempt)),
                        _ => None,
                    }
                });
                locked.collect::<Vec<_>>()
            })
        };
        let threads = [&a, &b].map(|process| lock_all(Arc::clone(&process.backend)));
        std::thread::sleep(Duration::from_micros(200 + (round % 20) * 100));
        spoil(&dir);
        let [ours, theirs] = threads.map(|thread| thread.join().unwrap());
        let is_active = |process: &Process, lease: &Option<GrantedLease>| {
            lease.as_ref().is_some_and(|lease| !process.was_notified_of_loss(lease))
        };
        twice += ours.iter().zip(&theirs).filter(|(x, y)| is_active(&a, x) && is_active(&b, y)).count();
    }
    twice
}

#[test]
fn deleting_the_file_while_two_threads_acquire_makes_no_two_holders() {
    let twice = held_twice(60, |dir| std::fs::remove_file(&dir.path).unwrap());
    assert_eq!(twice, 0);
}

#[test]
fn a_transaction_that_waited_for_another_checks_the_file_afterwards() {
    let dir = TestDir::new();
    let registry = registry();
    dir.process_in(registry, &dir.path).acquire(&["r"], 60_000);
    let process = dir.process_in(registry, &dir.path);
    process.connect().unwrap();
    let store = dir.store(registry);
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
            // Long enough for the other thread to start waiting.
            std::thread::sleep(Duration::from_millis(100));
            std::fs::remove_file(&dir.path).unwrap();
        });
        assert_eq!(first.unwrap(), Done::Replaced, "it took so long that it checks again");
        assert_eq!(waiting.unwrap().join().unwrap().unwrap(), Done::Replaced);
    });
}

#[test]
fn missing_wal_files_are_noticed_by_every_later_transaction() {
    let dir = TestDir::new();
    let registry = registry();
    let process = dir.process_in(registry, &dir.path);
    process.acquire(&["r"], 60_000);
    std::thread::sleep(Duration::from_millis(20));
    let store = dir.store(registry);
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(dir.path.with_file_name(format!("locks.sqlite{suffix}"))).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(transact(&store, &mut |_| Ok(())).unwrap(), Done::Replaced);
    }
}

#[test]
#[cfg(unix)]
fn a_wal_that_is_deleted_under_several_processes_keeps_no_process_out() {
    for suffix in ["-wal", "-shm"] {
        let dir = TestDir::new();
        // One that has nothing to do, and so does not notice.
        let mut idle = ChildProcess::start("user of a damaged file", &dir.path);
        assert_eq!(idle.read_report(), "ready");
        let mut turn = || {
            idle.resume();
            let held = idle.read_report();
            idle.resume();
            assert_eq!(idle.read_report(), "released");
            held
        };
        assert_eq!(turn(), "new a,new b,r0,r1,r2,r3");
        let process = dir.process();
        let lease = process.acquire(&["mine"], 60_000);
        std::thread::sleep(Duration::from_millis(20));
        std::fs::remove_file(dir.path.with_file_name(format!("locks.sqlite{suffix}"))).unwrap();
        let next = process.acquire(&["r0"], 60_000);
        assert!(process.was_notified_of_loss(&lease));
        let newcomer = dir.process();
        assert!(newcomer.busy_for("r0") > Duration::from_secs(50), "{suffix}: it sees the same leases");
        newcomer.acquire(&["r1"], 60_000);
        assert_eq!(turn(), "new a,new b,r2,r3", "{suffix}: so does the idle one");
        assert!(!process.was_notified_of_loss(&next));
    }
}

#[test]
#[cfg(unix)]
fn a_cut_shm_is_noticed_before_it_is_read() {
    let dir = TestDir::new();
    let registry = registry();
    let process = dir.process_in(registry, &dir.path);
    let lease = process.acquire(&["r"], 60_000);
    std::thread::sleep(Duration::from_millis(20));
    let store = dir.store(registry);
    // By another process, because closing a descriptor would drop SQLite's locks.
    let shm = dir.path.with_file_name("locks.sqlite-shm");
    assert!(std::process::Command::new("truncate").args(["-s", "0"]).arg(shm).status().unwrap().success());
    // Reading what is mapped would end this process.
    assert_eq!(transact(&store, &mut |_| Ok(())).unwrap(), Done::Replaced);
    assert!(store.is_replaced());
    drop(store);
    process.acquire(&["s"], 60_000);
    assert!(process.was_notified_of_loss(&lease));
}

#[test]
fn tokens_rise_above_those_of_a_deleted_table() {
    let dir = TestDir::new();
    let clock = crate::runtime::clock::fake::FakeClock::new();
    let process = dir.process_at(clock.clock());
    let lease = process.acquire(&["r"], 1000);
    dir.raw().execute("DELETE FROM leases", []).unwrap();
    clock.advance(Duration::from_micros(1));
    assert!(process.acquire(&["r"], 1000).token > lease.token);
}

#[test]
fn a_deleted_directory_is_reported() {
    let dir = TestDir::new();
    let process = dir.process_at(Clock::System);
    let lease = process.acquire(&["r"], 60_000);
    std::fs::remove_dir_all(dir.directory.path()).unwrap();
    assert!(!process.release(&lease).unwrap());
    let error = process.attempt(&["r"], 1000).unwrap_err();
    assert_eq!(error.code(), "BACKEND_UNAVAILABLE");
    assert!(error.to_string().contains("directory"), "{error}");
}
