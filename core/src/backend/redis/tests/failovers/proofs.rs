//! What was proved, undone or released around a failover counts on the new primary only.

use crate::backend::contract::Presence;
use crate::backend::redis::tests::servers::proxy::Proxy;
use crate::backend::redis::tests::servers::server::{Server, available};
use crate::backend::redis::tests::*;
use crate::backend::waiter::Waiter;

/// Makes another connection, as the first waiter does.
fn connect_again(backend: &Arc<RedisBackend>) {
    let (backend, waiter) = (Arc::clone(backend), Waiter::new(false));
    on_io(async move { backend.join_queue(&one("other"), &waiter).await }).unwrap();
}

/// The old primary still serves, and its replica acknowledges in time, but nothing of that is known to the
/// server that has taken over meanwhile.
#[test]
fn a_proof_that_arrives_after_another_server_took_over_proves_nothing() {
    if !available() {
        return;
    }
    let (old, replicas) = Server::with_replicas(1);
    let new = Server::start(&[]);
    let proxy = Proxy::start(old.port);
    let backend = backend(&proxy.url(), 1);
    granted(acquire(&backend, &request(one("first"), 60_000, acks(1, 2_000))));
    replicas[0].pause();
    let wanted = request(one("r"), 60_000, acks(1, 15_000));
    let error = std::thread::scope(|scope| {
        let call = scope.spawn(|| acquire(&backend, &wanted));
        eventually("it is written", || old.exists(&lock_key("r")));
        proxy.switch(new.port);
        connect_again(&backend);
        assert!(!call.is_finished());
        replicas[0].resume();
        call.join().unwrap().unwrap_err()
    });
    assert_eq!(code(&error), "OUTCOME_UNKNOWN", "{error}");
    assert!(error.to_string().contains("another server answers"), "{error}");
    // What it may have left behind is deleted where it counts.
    let owner = wanted.owner.to_string();
    new.run::<()>(&["SET", &lock_key("r"), &owner, "PX", "60000"]);
    eventually("it is rolled back", || !new.exists(&lock_key("r")));
}

#[test]
fn an_extension_that_is_proved_after_another_server_took_over_moves_no_deadline() {
    if !available() {
        return;
    }
    let (old, replicas) = Server::with_replicas(1);
    let new = Server::start(&[]);
    let proxy = Proxy::start(old.port);
    let backend = backend(&proxy.url(), 1);
    let lease = request(one("r"), 60_000, acks(1, 15_000));
    granted(acquire(&backend, &lease));
    replicas[0].pause();
    let longer = Request { ttl: ttl(100_000), ..lease };
    let error = std::thread::scope(|scope| {
        let call = scope.spawn(|| {
            let (backend, lease) = (Arc::clone(&backend), longer.clone());
            on_io(async move { backend.extend(&lease.resources, lease.owner, lease.ttl, lease.acks).await })
        });
        eventually("it is written", || old.run::<u32>(&["PTTL", &lock_key("r")]) > 70_000);
        proxy.switch(new.port);
        connect_again(&backend);
        assert!(!call.is_finished());
        replicas[0].resume();
        call.join().unwrap().unwrap_err()
    });
    assert_eq!(code(&error), "OUTCOME_UNKNOWN", "{error}");
}

/// The replica that takes over may be the one that acknowledged it, and not have heard that it was undone.
#[test]
fn a_rollback_that_the_new_primary_does_not_know_is_repeated_there() {
    if !available() {
        return;
    }
    let (old, new) = (Server::start(&[]), Server::start(&[]));
    let proxy = Proxy::start(old.port);
    let backend = backend(&proxy.url(), 1);
    let refused = request(one("r"), 60_000, acks(1, 10));
    assert_eq!(code(&acquire(&backend, &refused).unwrap_err()), "INSUFFICIENT_REPLICAS");
    assert!(!old.exists(&lock_key("r")));
    assert_eq!(backend.pending_cleanups(), 0);
    let owner = refused.owner.to_string();
    new.run::<()>(&["SET", &lock_key("r"), &owner, "PX", "60000"]);
    new.run::<()>(&["SET", &lock_key("another"), "another owner", "PX", "60000"]);
    proxy.switch(new.port);
    connect_again(&backend);
    eventually("it is rolled back", || !new.exists(&lock_key("r")));
    assert!(new.exists(&lock_key("another")));
}

/// The server that hangs has lost all it had, and says so when another one has taken over.
#[test]
fn a_server_that_was_replaced_meanwhile_does_not_say_what_is_missing() {
    if !available() {
        return;
    }
    let (old, new) = (Server::start(&[]), Server::start(&[]));
    let proxy = Proxy::start(old.port);
    let backend = backend(&proxy.url(), 0);
    let lease = request(one("r"), 60_000, acks(0, 0));
    granted(acquire(&backend, &lease));
    let ask = || {
        let (backend, asked) = (Arc::clone(&backend), vec![(lease.resources.clone(), lease.owner)]);
        on_io(async move { backend.find_missing(&asked).await })
    };
    assert_eq!(ask(), [Presence::Held]);
    old.run::<()>(&["FLUSHALL"]);
    assert_eq!(ask(), [Presence::Missing]);
    old.pause();
    let answers = std::thread::scope(|scope| {
        let call = scope.spawn(ask);
        std::thread::sleep(Duration::from_millis(100));
        proxy.switch(new.port);
        connect_again(&backend);
        assert!(!call.is_finished());
        old.resume();
        call.join().unwrap()
    });
    assert_eq!(answers, [Presence::Unknown]);
}
