//! The contract of every backend, and what is specific to a file: sharing and group commit.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::{Process, TestDir, granted, registry, request};
use crate::backend::contract::{Attempt, Busy, LockBackend, Request, SyncBackend};
use crate::backend::sqlite::store::access::Needs;
use crate::backend::sqlite::store::transaction::Tx;
use crate::backend::sqlite::{Config, Durability, SqliteBackend};
use crate::lease::Resources;
use crate::runtime::clock::fake::FakeClock;

#[test]
fn while_one_owner_holds_all_others_are_busy() {
    let dir = TestDir::new();
    let clock = FakeClock::new();
    let (one, two) = (dir.process_at(clock.clock()), dir.process_at(clock.clock()));
    let first = one.acquire(&["r"], 10_000);
    clock.advance(Duration::from_secs(4));
    assert_eq!(two.busy_for("r"), Duration::from_secs(6));
    assert_eq!(one.busy_for("r"), Duration::from_secs(6), "also for its own process");

    let info = two.inspect("r").unwrap().unwrap();
    assert_eq!((info.owner, info.token), (first.owner.to_string(), first.token));
    assert_eq!(info.remaining, Duration::from_secs(6));

    assert!(one.release(&first).unwrap());
    assert!(!one.release(&first).unwrap(), "it is no longer ours");
    assert_eq!(two.inspect("r").unwrap(), None);
    let second = two.acquire(&["r"], 10_000);
    assert!(second.token > first.token);
    assert!(!one.release(&first).unwrap(), "nor may it end the lease of another owner");
    assert!(two.inspect("r").unwrap().is_some());
}

#[test]
fn a_lease_ends_with_its_ttl() {
    let dir = TestDir::new();
    let clock = FakeClock::new();
    let process = dir.process_at(clock.clock());
    let lease = process.acquire(&["r"], 1000);
    clock.advance(Duration::from_millis(999));
    assert_eq!(process.busy_for("r"), Duration::from_millis(1));
    clock.advance(Duration::from_millis(1));
    assert_eq!(process.inspect("r").unwrap(), None);
    assert_eq!(process.extend(&lease, 1000).unwrap_err().code(), "LOCK_LOST", "it is not revived");
    assert!(!process.release(&lease).unwrap(), "it ended before it was released");
    process.acquire(&["r"], 1000);
}

#[test]
fn tokens_rise_above_the_last_one_the_clock_and_the_minimum() {
    let dir = TestDir::new();
    let clock = FakeClock::new();
    let process = dir.process_at(clock.clock());
    let first = process.acquire(&["r"], 1000);
    assert_eq!(first.token, clock.clock().wall_micros());
    process.release(&first).unwrap();
    let second = process.acquire(&["r"], 1000);
    assert_eq!(second.token, first.token + 1, "no time has passed");
    process.release(&second).unwrap();
    clock.step_wall(-3_600_000_000);
    let third = process.acquire(&["r"], 1000);
    assert_eq!(third.token, first.token + 2, "the wall clock went back");

    let with_minimum = Request { min_token: third.token + 1_000_000, ..request(&["s"], 1000) };
    let requested = with_minimum.clone();
    let attempt = process.call(move |backend| async move { backend.acquire(&requested).await }).unwrap();
    assert_eq!(granted(with_minimum, attempt).token, third.token + 1_000_001);
}

#[test]
fn nothing_is_granted_without_a_token_above_the_last_one() {
    let dir = TestDir::new();
    let clock = FakeClock::new();
    let process = dir.process_at(clock.clock());
    for name in ["r", "s"] {
        process.release(&process.acquire(&[name], 1000)).unwrap();
    }
    let store = |token: i64| {
        dir.raw().execute("UPDATE leases SET token = ?1 WHERE resource = 'r'", [token]).unwrap();
    };
    let highest = (1 << 53) - 1;
    store(highest - 1);
    let last = process.acquire(&["r"], 1000);
    assert_eq!(last.token, highest as u64);
    assert!(process.busy_for("r") > Duration::ZERO, "a held lock is busy, whatever its token");
    process.release(&last).unwrap();
    for stored in [highest, highest + 1, i64::MAX] {
        store(stored);
        for names in [&["r"][..], &["s", "r"], &["r", "new"]] {
            let error = process.attempt(names, 1000).unwrap_err();
            assert_eq!(error.code(), "BACKEND_UNAVAILABLE");
            let words = format!("the stored token of \"r\" is {stored}, so tokens cannot rise");
            assert!(error.to_string().contains(&words), "{error}");
        }
        let sync = process.backend.acquire_sync(&request(&["r"], 1000)).unwrap_err();
        assert!(sync.to_string().contains("cannot rise"), "{sync}");
        assert_eq!(process.inspect("r").unwrap(), None, "nothing was written");
        assert_eq!(process.inspect("new").unwrap(), None);
        let kept = dir.raw().query_row("SELECT token FROM leases WHERE resource = 'r'", [], |row| row.get(0));
        assert_eq!(kept, Ok(stored));
        process.release(&process.acquire(&["s"], 1000)).unwrap();
    }
    clock.step_wall(1 << 53);
    let error = process.attempt(&["s"], 1000).unwrap_err();
    assert!(error.to_string().contains("the clock of this host"), "{error}");
}

#[test]
fn several_resources_are_granted_together_or_not_at_all() {
    let dir = TestDir::new();
    let clock = FakeClock::new();
    let process = dir.process_at(clock.clock());
    let old = process.acquire(&["b"], 1000);
    process.release(&old).unwrap();
    clock.step_wall(-1_000_000);
    let all = process.acquire(&["a", "b", "c"], 5000);
    assert_eq!(all.token, old.token + 1, "one token, above the highest of them");
    assert_eq!(process.inspect("c").unwrap().unwrap().token, all.token);

    let other = process.acquire(&["d"], 9000);
    let (_, attempt) = process.attempt(&["x", "a", "d", "y"], 1000).unwrap();
    assert_eq!(
        attempt,
        Attempt::Busy(Busy { resource: 2, remaining: Some(Duration::from_secs(9)) }),
        "for as long as the last of them is taken"
    );
    assert_eq!(process.inspect("x").unwrap(), None, "nothing was written");

    assert!(process.force_release("b"));
    assert!(!process.force_release("b"), "it was free");
    assert_eq!(process.extend(&all, 5000).unwrap_err().code(), "LOCK_LOST", "part lost is lost");
    assert!(!process.release(&all).unwrap(), "not all of it was ours");
    assert_eq!(process.inspect("a").unwrap(), None, "but what was ours is free");
    assert!(process.release(&other).unwrap());
}

#[test]
fn an_extension_never_shortens() {
    let dir = TestDir::new();
    let clock = FakeClock::new();
    let process = dir.process_at(clock.clock());
    let lease = process.acquire(&["r"], 10_000);
    clock.advance(Duration::from_secs(1));
    let sent = process.extend(&lease, 2000).unwrap();
    assert_eq!(sent, clock.clock().boot());
    assert_eq!(process.busy_for("r"), Duration::from_secs(9));
    process.extend(&lease, 30_000).unwrap();
    assert_eq!(process.busy_for("r"), Duration::from_secs(30));
    let stranger = process.acquire(&["s"], 1000);
    let mixed = super::GrantedLease { owner: stranger.owner, ..lease.clone() };
    assert_eq!(process.extend(&mixed, 1000).unwrap_err().code(), "LOCK_LOST");
    process.extend(&lease, 1000).unwrap();
}

#[test]
fn managers_of_one_process_share_the_file_under_every_path() {
    let dir = TestDir::new();
    let registry = registry();
    let first = Process::new(SqliteBackend::in_registry(dir.config(), registry));
    let roundabout = dir
        .path
        .parent()
        .unwrap()
        .join("../")
        .join(dir.path.strip_prefix(dir.path.parent().unwrap().parent().unwrap()).unwrap());
    let config = Config { path: roundabout, durability: Durability::Full, ..dir.config() };
    let second = Process::new(SqliteBackend::in_registry(config, registry));
    let lease = first.acquire(&["r"], 10_000);
    let same = Process::new(SqliteBackend::in_registry(dir.config(), registry));
    assert!(
        Arc::ptr_eq(&first.backend.file().unwrap(), &same.backend.file().unwrap()),
        "one thread for a path"
    );
    for other in [&second, &same] {
        assert!(other.busy_for("r") > Duration::from_secs(9));
    }
    assert_eq!(dir.liveness_files().len(), 1, "one connection for a file");
    same.close();
    let guarantee = first.describe();
    assert!(
        guarantee.summary.contains("survives power loss"),
        "the strictest requirement applies: {guarantee:?}"
    );

    first.close();
    assert_eq!(first.release(&lease).unwrap_err().code(), "CLOSED");
    assert!(second.busy_for("r") > Duration::from_secs(9), "others continue");
    assert!(second.release(&lease).unwrap());
    second.close();
    assert_eq!(dir.names(), ["locks.sqlite"]);
}

#[test]
fn operations_submitted_at_the_same_time_share_one_transaction() {
    let dir = TestDir::new();
    let process = dir.process();
    process.acquire(&["taken"], 60_000);
    let (done, results) = mpsc::channel();
    // Spawned by a task, so that all are ready before the first one runs.
    let started = process.start(move |backend| async move {
        for name in ["a", "taken", "b", "c"] {
            let (backend, done) = (Arc::clone(&backend), done.clone());
            tokio::spawn(async move {
                let attempt = backend.acquire(&request(&[name], 60_000)).await;
                done.send((name, attempt.unwrap())).unwrap();
            });
        }
    });
    started.unwrap().recv().unwrap();
    let mut sent = Vec::new();
    for (name, attempt) in results.iter().take(4) {
        match attempt {
            Attempt::Granted(grant) => sent.push(grant.sent),
            Attempt::Busy(_) => assert_eq!(name, "taken"),
        }
    }
    assert_eq!(sent.len(), 3);
    assert!(
        sent.iter().all(|&moment| moment == sent[0]),
        "one moment of sending, so one transaction: {sent:?}"
    );
}

#[test]
fn an_unreadable_row_does_not_affect_other_operations() {
    let dir = TestDir::new();
    let process = dir.process();
    process.acquire(&["bad"], 60_000);
    dir.raw().execute("UPDATE leases SET owner = x'00' WHERE resource = 'bad'", []).unwrap();
    let calls = ["a", "bad", "b"].map(|name| {
        let call = move |backend: Arc<SqliteBackend>| async move {
            backend.acquire(&request(&[name], 60_000)).await
        };
        process.start(call).unwrap()
    });
    let [a, bad, b] = calls.map(|call| call.recv_timeout(Duration::from_secs(10)).unwrap());
    assert!(matches!(a, Ok(Attempt::Granted(_))), "{a:?}");
    assert!(matches!(b, Ok(Attempt::Granted(_))), "{b:?}");
    assert!(bad.unwrap_err().to_string().contains("is damaged"));
}

#[test]
fn a_full_disk_grants_nothing_and_loses_nothing() {
    let dir = TestDir::new();
    let process = dir.process();
    let lease = process.acquire(&["r"], 60_000);
    let name = "x".repeat(512);
    let limit = |pages: u32| {
        // The limit belongs to a connection, so it is set on ours.
        let set = move |backend: Arc<SqliteBackend>| async move {
            let cap = move |tx: &mut Tx<'_>| {
                tx.connection()
                    .pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, u32>(0))
            };
            backend.file()?.commits().submit(Needs::WRITE, 0, cap).await
        };
        process.call(set).unwrap();
    };
    limit(1);
    let mut refused = None;
    for number in 0..100 {
        let wide = format!("{number}{}", &name[..500]);
        if let Err(error) = process.attempt(&[&wide], 1000) {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("the file cannot grow");
    assert_eq!(refused.code(), "BACKEND_UNAVAILABLE");
    assert!(refused.to_string().contains("no space"), "{refused}");
    assert!(process.release(&lease).unwrap(), "operations that need no space still work");
    limit(1_000_000);
    process.acquire(&["r"], 1000);
}

#[test]
fn synchronous_calls_and_tasks_share_the_leases() {
    let dir = TestDir::new();
    let process = dir.process();
    let requested = request(&["r"], 60_000);
    let lease = granted(requested.clone(), process.backend.acquire_sync(&requested).unwrap());
    assert!(process.busy_for("r") > Duration::from_secs(59));
    assert!(process.backend.release_sync(&lease.resources, lease.owner, None).unwrap());
    assert!(!process.backend.release_sync(&lease.resources, lease.owner, None).unwrap());
    let lease = process.acquire(&["r"], 60_000);
    assert!(matches!(
        process.backend.acquire_sync(&requested).unwrap(),
        Attempt::Busy(Busy { remaining: Some(_), .. })
    ));
    assert!(process.backend.release_sync(&lease.resources, lease.owner, None).unwrap());
}

#[test]
fn threads_and_processes_never_hold_together() {
    let dir = TestDir::new();
    let inside = std::sync::atomic::AtomicUsize::new(0);
    let grants = std::sync::atomic::AtomicUsize::new(0);
    // Two "processes" with a connection each, two threads on each connection.
    let processes = [dir.process(), dir.process()];
    std::thread::scope(|scope| {
        for process in [&processes[0], &processes[1], &processes[0], &processes[1]] {
            scope.spawn(|| {
                use std::sync::atomic::Ordering::SeqCst;
                let resources = Resources::one("r").unwrap();
                let mut last = 0;
                for _ in 0..300 {
                    let requested = request(&["r"], 60_000);
                    if let Attempt::Granted(grant) = process.backend.acquire_sync(&requested).unwrap() {
                        assert_eq!(inside.fetch_add(1, SeqCst), 0, "two holders");
                        assert!(grant.token > last);
                        last = grant.token;
                        grants.fetch_add(1, SeqCst);
                        inside.fetch_sub(1, SeqCst);
                        assert!(process.backend.release_sync(&resources, requested.owner, None).unwrap());
                    }
                }
            });
        }
    });
    assert!(grants.into_inner() > 100);
}

#[test]
fn names_are_compared_byte_by_byte() {
    let dir = TestDir::new();
    let process = dir.process();
    for name in ["é", "e\u{301}", "E\u{301}", "a", "A", "a ", "a\0b", "a\0c", "%", "_"] {
        process.acquire(&[name], 60_000);
    }
    assert!(process.busy_for("a\0b") > Duration::from_secs(50));
}

#[test]
fn after_closing_every_call_fails_and_only_the_database_is_left() {
    let dir = TestDir::new();
    let process = dir.process();
    assert!(process.describe().summary.contains("does not exist yet"));
    assert_eq!(process.inspect("r").unwrap(), None);
    assert_eq!(dir.names(), [""; 0], "reading creates no file");
    process.connect().unwrap();
    let lease = process.acquire(&["r"], 60_000);
    let guarantee = process.describe();
    assert!(guarantee.summary.contains("WAL"), "{guarantee:?}");
    assert_eq!(guarantee.replicas_declared, None);
    // The tests may run in a container.
    assert!(guarantee.warnings.iter().all(|warning| warning.contains("overlay")), "{guarantee:?}");
    let file = guarantee.file.unwrap();
    assert_eq!(
        (file.exists, file.is_network, file.is_durable, file.journal.as_str()),
        (true, false, false, "wal")
    );
    assert!(process.release(&lease).unwrap());
    process.close();
    process.close();
    assert_eq!(dir.names(), ["locks.sqlite"], "without -wal and -shm");
    assert_eq!(process.attempt(&["r"], 1000).unwrap_err().code(), "CLOSED");
    assert_eq!(process.backend.acquire_sync(&request(&["r"], 1000)).unwrap_err().code(), "CLOSED");
    assert_eq!(process.release(&lease).unwrap_err().code(), "CLOSED");
}
