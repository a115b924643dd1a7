//! What every backend promises, and what is special about one file: sharing, group commit, patience.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::{Place, Process, held, request};
use crate::backend::contract::{Attempt, LockBackend, Request, SyncBackend};
use crate::backend::sqlite::commit::group_commit::{self, Needs};
use crate::backend::sqlite::process::registry::Registry;
use crate::backend::sqlite::store::Access;
use crate::backend::sqlite::store::rows::Tx;
use crate::backend::sqlite::{Config, Durability, SqliteBackend};
use crate::lease::Resources;
use crate::runtime::clock::Clock;
use crate::runtime::clock::fake::FakeClock;

#[test]
fn one_holds_and_the_others_wait() {
    let place = Place::new();
    let clock = FakeClock::new();
    let (one, two) = (place.process_at(clock.clock()), place.process_at(clock.clock()));
    let first = one.acquire(&["r"], 10_000);
    clock.advance(Duration::from_secs(4));
    assert_eq!(two.busy("r"), Duration::from_secs(6));
    assert_eq!(one.busy("r"), Duration::from_secs(6), "also for its own process");

    let info = two.inspect("r").unwrap().unwrap();
    assert_eq!((info.owner, info.token), (first.owner.to_string(), first.token));
    assert_eq!(info.remaining, Duration::from_secs(6));

    assert!(one.release(&first).unwrap());
    assert!(!one.release(&first).unwrap(), "it is no longer ours");
    assert_eq!(two.inspect("r").unwrap(), None);
    let second = two.acquire(&["r"], 10_000);
    assert!(second.token > first.token);
    assert!(!one.release(&first).unwrap(), "nor may it end somebody else's");
    assert!(two.inspect("r").unwrap().is_some());
}

#[test]
fn a_lease_ends_with_its_ttl() {
    let place = Place::new();
    let clock = FakeClock::new();
    let process = place.process_at(clock.clock());
    let lease = process.acquire(&["r"], 1000);
    clock.advance(Duration::from_millis(999));
    assert_eq!(process.busy("r"), Duration::from_millis(1));
    clock.advance(Duration::from_millis(1));
    assert_eq!(process.inspect("r").unwrap(), None);
    assert_eq!(process.extend(&lease, 1000).unwrap_err().code(), "LOCK_LOST", "it is not revived");
    assert!(!process.release(&lease).unwrap(), "it ended before it was released");
    process.acquire(&["r"], 1000);
}

#[test]
fn tokens_rise_above_the_last_the_clock_and_the_demand() {
    let place = Place::new();
    let clock = FakeClock::new();
    let process = place.process_at(clock.clock());
    let first = process.acquire(&["r"], 1000);
    assert_eq!(first.token, clock.clock().wall_micros());
    process.release(&first).unwrap();
    let second = process.acquire(&["r"], 1000);
    assert_eq!(second.token, first.token + 1, "no time has passed");
    process.release(&second).unwrap();
    clock.step_wall(-3_600_000_000);
    let third = process.acquire(&["r"], 1000);
    assert_eq!(third.token, first.token + 2, "the wall clock went back");

    let demanding = Request { min_token: third.token + 1_000_000, ..request(&["s"], 1000) };
    let asked = demanding.clone();
    let attempt = process.call(move |backend| async move { backend.acquire(&asked).await }).unwrap();
    assert_eq!(held(demanding, attempt).token, third.token + 1_000_001);
}

#[test]
fn several_resources_come_together_or_not_at_all() {
    let place = Place::new();
    let clock = FakeClock::new();
    let process = place.process_at(clock.clock());
    let old = process.acquire(&["b"], 1000);
    process.release(&old).unwrap();
    clock.step_wall(-1_000_000);
    let all = process.acquire(&["a", "b", "c"], 5000);
    assert_eq!(all.token, old.token + 1, "one token, above the highest of them");
    assert_eq!(process.inspect("c").unwrap().unwrap().token, all.token);

    let other = process.acquire(&["d"], 9000);
    let (_, attempt) = process.attempt(&["x", "a", "d", "y"], 1000).unwrap();
    assert_eq!(attempt, Attempt::Busy(Some(Duration::from_secs(9))), "as long as the last of them is taken");
    assert_eq!(process.inspect("x").unwrap(), None, "nothing was written");

    assert!(process.force_release("b"));
    assert!(!process.force_release("b"), "it was free");
    assert_eq!(process.extend(&all, 5000).unwrap_err().code(), "LOCK_LOST", "part lost is lost");
    assert!(!process.release(&all).unwrap(), "not all of it was ours");
    assert_eq!(process.inspect("a").unwrap(), None, "but what was is free");
    assert!(process.release(&other).unwrap());
}

#[test]
fn an_extension_never_shortens() {
    let place = Place::new();
    let clock = FakeClock::new();
    let process = place.process_at(clock.clock());
    let lease = process.acquire(&["r"], 10_000);
    clock.advance(Duration::from_secs(1));
    let sent = process.extend(&lease, 2000).unwrap();
    assert_eq!(sent, clock.clock().boot());
    assert_eq!(process.busy("r"), Duration::from_secs(9));
    process.extend(&lease, 30_000).unwrap();
    assert_eq!(process.busy("r"), Duration::from_secs(30));
    let stranger = process.acquire(&["s"], 1000);
    let mixed = super::Held { owner: stranger.owner, ..lease.clone() };
    assert_eq!(process.extend(&mixed, 1000).unwrap_err().code(), "LOCK_LOST");
    process.extend(&lease, 1000).unwrap();
}

#[test]
fn managers_of_one_process_share_the_file_whatever_they_call_it() {
    let place = Place::new();
    let registry: &'static Registry = Box::leak(Box::new(Registry::new(Clock::System)));
    let first = Process::of(SqliteBackend::in_registry(place.config(), registry));
    let roundabout = place
        .path
        .parent()
        .unwrap()
        .join("../")
        .join(place.path.strip_prefix(place.path.parent().unwrap().parent().unwrap()).unwrap());
    let config = Config { path: roundabout, durability: Durability::Full, ..place.config() };
    let second = Process::of(SqliteBackend::in_registry(config, registry));
    let lease = first.acquire(&["r"], 10_000);
    let same = Process::of(SqliteBackend::in_registry(place.config(), registry));
    assert!(
        Arc::ptr_eq(&first.backend.file().unwrap(), &same.backend.file().unwrap()),
        "one thread for a path"
    );
    for other in [&second, &same] {
        assert!(other.busy("r") > Duration::from_secs(9));
    }
    assert_eq!(place.liveness_files().len(), 1, "one connection for a file");
    same.close();
    let guarantee = first.describe();
    assert!(guarantee.summary.contains("survives power loss"), "the strictest wins: {guarantee:?}");

    first.close();
    assert_eq!(first.release(&lease).unwrap_err().code(), "CLOSED");
    assert!(second.busy("r") > Duration::from_secs(9), "others go on");
    assert!(second.release(&lease).unwrap());
    second.close();
    assert_eq!(place.names(), ["locks.sqlite"]);
}

#[test]
fn what_tasks_ask_for_at_once_is_one_transaction() {
    let place = Place::new();
    let process = place.process();
    process.acquire(&["taken"], 60_000);
    let (done, answers) = mpsc::channel();
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
    for (name, attempt) in answers.iter().take(4) {
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
fn a_row_that_cannot_be_read_harms_no_neighbour() {
    let place = Place::new();
    let process = place.process();
    process.acquire(&["bad"], 60_000);
    place.raw().execute("UPDATE leases SET owner = x'00' WHERE resource = 'bad'", []).unwrap();
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
fn a_full_disk_grants_nothing_and_costs_nothing() {
    let place = Place::new();
    let process = place.process();
    let lease = process.acquire(&["r"], 60_000);
    let name = "x".repeat(512);
    let limit = |pages: u32| {
        // The cap is the connection's own, so it is set through ours.
        let set = move |backend: Arc<SqliteBackend>| async move {
            let needs = Needs { access: Access::Write, create: false };
            let cap = move |tx: &mut Tx<'_>| {
                tx.connection()
                    .pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, u32>(0))
            };
            group_commit::submit(&backend.file()?, needs, 0, cap).await
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
    assert!(process.release(&lease).unwrap(), "what needs no room still works");
    limit(1_000_000);
    process.acquire(&["r"], 1000);
}

#[test]
fn synchronous_calls_and_tasks_share_the_leases() {
    let place = Place::new();
    let process = place.process();
    let asked = request(&["r"], 60_000);
    let lease = held(asked.clone(), process.backend.acquire_sync(&asked).unwrap());
    assert!(process.busy("r") > Duration::from_secs(59));
    assert!(process.backend.release_sync(&lease.resources, lease.owner).unwrap());
    assert!(!process.backend.release_sync(&lease.resources, lease.owner).unwrap());
    let lease = process.acquire(&["r"], 60_000);
    assert!(matches!(process.backend.acquire_sync(&asked).unwrap(), Attempt::Busy(Some(_))));
    assert!(process.backend.release_sync(&lease.resources, lease.owner).unwrap());
}

#[test]
fn threads_and_processes_never_hold_together() {
    let place = Place::new();
    let inside = std::sync::atomic::AtomicUsize::new(0);
    let grants = std::sync::atomic::AtomicUsize::new(0);
    // Two "processes" with a connection each, two threads on each connection.
    let processes = [place.process(), place.process()];
    std::thread::scope(|scope| {
        for process in [&processes[0], &processes[1], &processes[0], &processes[1]] {
            scope.spawn(|| {
                use std::sync::atomic::Ordering::SeqCst;
                let resources = Resources::one("r").unwrap();
                let mut last = 0;
                for _ in 0..300 {
                    let asked = request(&["r"], 60_000);
                    if let Attempt::Granted(grant) = process.backend.acquire_sync(&asked).unwrap() {
                        assert_eq!(inside.fetch_add(1, SeqCst), 0, "two holders");
                        assert!(grant.token > last);
                        last = grant.token;
                        grants.fetch_add(1, SeqCst);
                        inside.fetch_sub(1, SeqCst);
                        assert!(process.backend.release_sync(&resources, asked.owner).unwrap());
                    }
                }
            });
        }
    });
    assert!(grants.into_inner() > 100);
}

#[test]
fn old_tokens_are_forgotten_a_few_at_a_time() {
    let place = Place::new();
    let clock = FakeClock::new();
    let process = place.process_at(clock.clock());
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
        || -> u32 { place.raw().query_row("SELECT count(*) FROM leases", [], |row| row.get(0)).unwrap() };
    assert_eq!(rows(), 51, "nothing is forgotten while nothing is added");
    for number in 0..60 {
        process.acquire(&[&format!("new {number:02}")], 1000);
    }
    assert_eq!(rows(), 61, "the new ones, and the lease that is still held");
    process.extend(&renewed, 1000).unwrap();
    let again = process.acquire(&["old 07"], 1000);
    assert!(again.token >= clock.clock().wall_micros(), "the clock is ahead of the forgotten token");
}

#[test]
fn names_are_compared_byte_by_byte() {
    let place = Place::new();
    let process = place.process();
    for name in ["é", "e\u{301}", "E\u{301}", "a", "A", "a ", "a\0b", "a\0c", "%", "_"] {
        process.acquire(&[name], 60_000);
    }
    assert!(process.busy("a\0b") > Duration::from_secs(50));
}

#[test]
fn after_closing_nothing_works_and_nothing_is_left() {
    let place = Place::new();
    let process = place.process();
    assert!(process.describe().summary.contains("does not exist yet"));
    assert_eq!(process.inspect("r").unwrap(), None);
    assert_eq!(place.names(), [""; 0], "looking makes no file");
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
    assert_eq!(place.names(), ["locks.sqlite"], "one file, without side files");
    assert_eq!(process.attempt(&["r"], 1000).unwrap_err().code(), "CLOSED");
    assert_eq!(process.backend.acquire_sync(&request(&["r"], 1000)).unwrap_err().code(), "CLOSED");
    assert_eq!(process.release(&lease).unwrap_err().code(), "CLOSED");
}
