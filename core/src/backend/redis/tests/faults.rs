//! The outcome of attempts when replicas lag, servers go away and connections break.

use super::*;
use crate::backend::redis::tests::servers::proxy::{Fault, Proxy};
use crate::backend::redis::tests::servers::server::{Server, available};

pub fn shortfall(outcome: Result<Attempt>) -> crate::error::Shortfall {
    match outcome {
        Err(Error::InsufficientReplicas(shortfall)) => shortfall,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_grant_without_acknowledgements_is_refused_in_time_and_undone() {
    if !available() {
        return;
    }
    let (primary, replicas) = Server::with_replicas(2);
    // On its own this server would notice the timeout of WAIT up to a second late.
    primary.run::<()>(&["CONFIG", "SET", "hz", "1"]);
    let backend = backend(&primary.url(), 2);
    granted(acquire(&backend, &request(one("warm"), 10_000, acks(2, 1_000))));
    replicas.iter().for_each(Server::pause);
    for _ in 0..4 {
        let start = Instant::now();
        let lack = shortfall(acquire(&backend, &request(one("r"), 30_000, acks(2, 200))));
        let elapsed = start.elapsed();
        assert_eq!((lack.required, lack.received, lack.connected), (2, 0, Some(2)));
        assert!(lack.rolled_back);
        assert!(lack.to_string().contains("check the replicas and their lag"), "{lack}");
        assert!(!primary.exists(&lock_key("r")));
        assert!(elapsed < Duration::from_millis(600), "{elapsed:?}");
    }
    replicas[0].resume();
    let lack = shortfall(acquire(&backend, &request(one("r"), 30_000, acks(2, 500))));
    assert_eq!(lack.received, 1);
    granted(acquire(&backend, &request(one("r"), 30_000, acks(1, 1_000))));
    assert_eq!(backend.pending_cleanups(), 0);
}

#[test]
fn a_rollback_does_not_touch_the_next_owner_after_the_lease_expired() {
    if !available() {
        return;
    }
    let (primary, replicas) = Server::with_replicas(1);
    let backend = backend(&primary.url(), 1);
    granted(acquire(&backend, &request(one("warm"), 10_000, acks(1, 1_000))));
    replicas[0].pause();
    let waiting = Arc::clone(&backend);
    let attempt = std::thread::spawn(move || acquire(&waiting, &request(one("r"), 50, acks(1, 1_000))));
    eventually("the lease is there", || primary.exists(&lock_key("r")));
    eventually("it expired, and another owner got it", || {
        primary.run::<Option<String>>(&["SET", &lock_key("r"), "stranger", "PX", "60000", "NX"]).is_some()
    });
    assert!(!attempt.is_finished(), "WAIT still blocks");
    let lack = shortfall(attempt.join().unwrap());
    assert!(lack.rolled_back, "nothing of ours is left");
    assert_eq!(primary.run::<String>(&["GET", &lock_key("r")]), "stranger");
}

#[test]
fn forgotten_scripts_are_loaded_again_and_the_wait_after_them_is_not_a_proof() {
    if !available() {
        return;
    }
    let (mut primary, replicas) = Server::with_replicas(1);
    let backend = backend(&primary.url(), 1);
    let lease = |policy| request(one("r"), 60_000, policy);
    for policy in [acks(1, 1_000), acks(0, 0)] {
        let first = lease(policy);
        granted(acquire(&backend, &first));
        primary.run::<()>(&["SCRIPT", "FLUSH"]);
        assert!(release(&backend, &first).unwrap());
        primary.run::<()>(&["SCRIPT", "FLUSH"]);
        let again = lease(policy);
        assert_eq!(granted(acquire(&backend, &again)).acks.map_or(0, |acks| acks.received), policy.required);
        assert!(release(&backend, &again).unwrap());
    }
    // Everything written so far is acknowledged, so a WAIT after NOSCRIPT would return 1 immediately.
    primary.run::<()>(&["SCRIPT", "FLUSH"]);
    replicas[0].pause();
    assert_eq!(shortfall(acquire(&backend, &lease(acks(1, 200)))).received, 0);
    replicas[0].resume();

    primary.restart();
    primary.await_replicas(&replicas);
    let after = lease(acks(1, 5_000));
    assert_eq!(granted(acquire(&backend, &after)).acks.unwrap().received, 1);
}

#[test]
fn a_restart_while_idle_is_noticed_before_the_next_attempt() {
    if !available() {
        return;
    }
    let (mut primary, replicas) = Server::with_replicas(1);
    let backend = backend(&primary.url(), 1);
    for name in ["a", "b", "c"] {
        let lease = request(one(name), 60_000, acks(1, 5_000));
        granted(acquire(&backend, &lease));
        assert!(release(&backend, &lease).unwrap());
        primary.restart();
        primary.await_replicas(&replicas);
    }
    assert_eq!(backend.pending_cleanups(), 0);
}

#[test]
fn a_replica_grants_nothing() {
    if !available() {
        return;
    }
    let (_primary, replicas) = Server::with_replicas(1);
    let backend = backend(&replicas[0].url(), 1);
    for policy in [acks(1, 100), acks(0, 0)] {
        let error = acquire(&backend, &request(one("r"), 10_000, policy)).unwrap_err();
        assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
        assert!(error.to_string().contains("is a replica"), "{error}");
    }
    assert_eq!(backend.pending_cleanups(), 0, "there is nothing to undo");
}

#[test]
fn a_break_before_the_proof_leaves_the_outcome_unknown_and_the_key_is_deleted() {
    if !available() {
        return;
    }
    let (primary, _replicas) = Server::with_replicas(1);
    let proxy = Proxy::start(primary.port);
    let backend = backend(&proxy.url(), 1);
    granted(acquire(&backend, &request(one("warm"), 10_000, acks(1, 1_000))));

    proxy.set(Fault::CutAfterFirstReply);
    let error = acquire(&backend, &request(one("r"), 600_000, acks(1, 1_000))).unwrap_err();
    assert_eq!(code(&error), "OUTCOME_UNKNOWN");
    assert!(error.to_string().contains("closed the connection"), "{error}");
    eventually("the key is deleted", || !primary.exists(&lock_key("r")));
    assert!(primary.exists(&fence_key("r")), "it had been granted");
    eventually("cleanup is done", || backend.pending_cleanups() == 0);

    // The request never arrived: there is nothing to delete, which proves nothing.
    proxy.set(Fault::None);
    granted(acquire(&backend, &request(one("warm2"), 10_000, acks(1, 1_000))));
    proxy.set(Fault::CutBeforeServer);
    let sent = Instant::now();
    let error = acquire(&backend, &request(one("s"), 1_500, acks(1, 500))).unwrap_err();
    assert_eq!(code(&error), "OUTCOME_UNKNOWN");
    assert_eq!(backend.pending_cleanups(), 1);
    eventually("cleanup gives up", || backend.pending_cleanups() == 0);
    assert!(sent.elapsed() >= Duration::from_millis(1_500), "not before the TTL");
    assert!(!primary.exists(&fence_key("s")));
}

#[test]
fn busy_in_a_batch_that_breaks_is_busy() {
    if !available() {
        return;
    }
    let (primary, _replicas) = Server::with_replicas(1);
    let proxy = Proxy::start(primary.port);
    let backend = backend(&proxy.url(), 1);
    granted(acquire(&backend, &request(one("held"), 60_000, acks(1, 1_000))));
    proxy.set(Fault::CutAfterFirstReply);
    let both = Arc::clone(&backend);
    // Two requests of one event-loop turn form one batch.
    let (held, free) = on_io(async move {
        let held = request(one("held"), 10_000, acks(1, 1_000));
        let free = request(one("free"), 10_000, acks(1, 1_000));
        tokio::join!(both.acquire(&held), both.acquire(&free))
    });
    assert!(matches!(held, Ok(Attempt::Busy(Busy { remaining: Some(_), .. }))), "{held:?}");
    assert_eq!(code(&free.unwrap_err()), "OUTCOME_UNKNOWN");
    eventually("the key is deleted", || !primary.exists(&lock_key("free")));
    assert!(primary.exists(&lock_key("held")));
}

#[test]
fn each_request_of_a_batch_has_its_own_outcome() {
    if !available() {
        return;
    }
    let (primary, replicas) = Server::with_replicas(2);
    let backend = backend(&primary.url(), 2);
    granted(acquire(&backend, &request(one("held"), 60_000, acks(2, 1_000))));
    let batch = |policy: AckPolicy| {
        let backend = Arc::clone(&backend);
        on_io(async move {
            let held = request(one("held"), 10_000, policy);
            let free = request(one("free"), 10_000, policy);
            let outcomes = tokio::join!(backend.acquire(&held), backend.acquire(&free));
            let _ = backend.release(&free.resources, free.owner, free.ttl, None).await;
            outcomes
        })
    };
    let (held, free) = batch(acks(2, 1_000));
    assert!(matches!(held, Ok(Attempt::Busy(_))), "{held:?}");
    assert_eq!(granted(free).acks.unwrap().received, 2);
    replicas.iter().for_each(Server::pause);
    let (held, free) = batch(acks(2, 200));
    assert!(matches!(held, Ok(Attempt::Busy(_))), "{held:?}");
    assert_eq!(shortfall(free).received, 0);
    assert!(primary.exists(&lock_key("held")) && !primary.exists(&lock_key("free")));
}

#[test]
fn a_connection_without_a_reply_is_closed_and_its_request_is_undone() {
    if !available() {
        return;
    }
    let (primary, _replicas) = Server::with_replicas(1);
    let proxy = Proxy::start(primary.port);
    let backend = backend_with(Options { command_timeout_ms: 300, ..options(&proxy.url(), 1) });
    granted(acquire(&backend, &request(one("warm"), 10_000, acks(1, 1_000))));
    proxy.set(Fault::Swallow);
    let error = acquire(&backend, &request(one("r"), 600_000, acks(1, 100))).unwrap_err();
    assert_eq!(code(&error), "OUTCOME_UNKNOWN");
    assert!(error.to_string().contains("no reply within"), "{error}");
    eventually("the key is deleted", || !primary.exists(&lock_key("r")));
    proxy.set(Fault::None);
    let before = proxy.connections.load(std::sync::atomic::Ordering::Relaxed);
    granted(acquire(&backend, &request(one("r"), 10_000, acks(1, 1_000))));
    assert!(
        proxy.connections.load(std::sync::atomic::Ordering::Relaxed) > before,
        "the connection is a new one"
    );
}

#[test]
fn a_grant_that_is_executed_late_is_undone_even_after_close() {
    if !available() {
        return;
    }
    let (primary, _replicas) = Server::with_replicas(1);
    let backend = backend_with(Options {
        command_timeout_ms: 200,
        connect_timeout_ms: 200,
        ..options(&primary.url(), 1)
    });
    granted(acquire(&backend, &request(one("warm"), 10_000, acks(1, 1_000))));
    primary.pause();
    let attempts = [request(one("r"), 3_000, acks(1, 100)), request(one("short"), 200, acks(1, 100))];
    for outcome in acquire_together(&backend, &attempts) {
        assert_eq!(code(&outcome.unwrap_err()), "OUTCOME_UNKNOWN");
    }
    let closing = Arc::clone(&backend);
    on_io(async move { closing.close().await });
    // For longer than the shorter TTL, which has not begun.
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(backend.pending_cleanups(), 2);
    primary.resume();
    eventually("both were granted", || {
        primary.exists(&fence_key("r")) && primary.exists(&fence_key("short"))
    });
    let since = Instant::now();
    eventually("the key is deleted", || !primary.exists(&lock_key("r")));
    assert!(since.elapsed() < Duration::from_secs(2), "it has not just expired");
    // If the reply to the deletion was lost, only once the lease would be over.
    eventually("cleanup is done", || backend.pending_cleanups() == 0);
    eventually("its connections are closed", || {
        !primary.run::<String>(&["CLIENT", "LIST"]).contains("name=fencelock")
    });
}

#[test]
fn a_release_without_a_reply_is_retried_in_the_background() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let backend = backend_with(Options { command_timeout_ms: 200, ..options(&server.url(), 0) });
    let lease = request(one("r"), 600_000, acks(0, 0));
    granted(acquire(&backend, &lease));
    server.pause();
    let error = release(&backend, &lease).unwrap_err();
    assert_eq!(code(&error), "OUTCOME_UNKNOWN");
    assert!(error.to_string().contains("its release is retried"), "{error}");
    server.resume();
    eventually("the key is deleted", || !server.exists(&lock_key("r")));
    eventually("cleanup is done", || backend.pending_cleanups() == 0);
}

#[test]
fn a_worker_that_stalls_delays_nothing_else() {
    if !available() {
        return;
    }
    let (primary, replicas) = Server::with_replicas(2);
    let backend = backend(&primary.url(), 2);
    let held = request(one("held"), 60_000, acks(2, 1_000));
    granted(acquire(&backend, &held));
    replicas[0].pause();
    let stalled: Vec<_> = (0..20)
        .map(|i| {
            // One after the other, so that each would get a worker of its own if it could.
            std::thread::sleep(Duration::from_millis(10));
            let backend = Arc::clone(&backend);
            std::thread::spawn(move || {
                acquire(&backend, &request(one(&format!("slow{i}")), 30_000, acks(2, 3_000)))
            })
        })
        .collect();
    eventually("some are in flight", || !primary.run::<Vec<String>>(&["KEYS", "*slow*:lock"]).is_empty());
    for i in 0..50 {
        let quick = request(one(&format!("quick{i}")), 30_000, acks(1, 1_000));
        granted(acquire(&backend, &quick));
        granted(acquire(&backend, &request(one(&format!("none{i}")), 30_000, acks(0, 0))));
        assert!(release(&backend, &quick).unwrap());
    }
    let extending = Arc::clone(&backend);
    let (resources, owner) = (held.resources.clone(), held.owner);
    on_io(async move { extending.extend(&resources, owner, ttl(60_000), acks(1, 1_000)).await }).unwrap();
    assert!(stalled.iter().all(|attempt| !attempt.is_finished()), "they still wait for their replica");
    for attempt in stalled {
        assert_eq!(shortfall(attempt.join().unwrap()).received, 1);
    }
}

#[test]
fn closing_while_a_worker_stalls_is_bounded_and_does_not_change_the_outcome() {
    if !available() {
        return;
    }
    let (primary, replicas) = Server::with_replicas(1);
    let backend = backend_with(Options { command_timeout_ms: 500, ..options(&primary.url(), 1) });
    granted(acquire(&backend, &request(one("warm"), 10_000, acks(1, 1_000))));
    replicas[0].pause();
    let waiting = Arc::clone(&backend);
    let attempt = std::thread::spawn(move || acquire(&waiting, &request(one("r"), 60_000, acks(1, 3_000))));
    eventually("it is in flight", || primary.exists(&lock_key("r")));
    let closing = Arc::clone(&backend);
    on_io(async move { closing.close().await });
    assert!(!attempt.is_finished(), "close does not wait for it");
    assert!(shortfall(attempt.join().unwrap()).rolled_back);
    assert!(!primary.exists(&lock_key("r")));
}
