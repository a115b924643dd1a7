//! How a client learns of another primary while the old one answers, or hangs and keeps its connections.

use super::sentinel::located;
use crate::backend::redis::config::slot::slot_of;
use crate::backend::redis::tests::servers::clusters::ClusterServers;
use crate::backend::redis::tests::servers::sentinels::{Group, NAME, Sentinel};
use crate::backend::redis::tests::servers::server::{Server, available};
use crate::backend::redis::tests::*;
use crate::backend::redis::{SentinelLogin, SentinelOptions};

/// Locks without acknowledgements, until this server grants one; returns how long that took.
fn until_granted_by(backend: &Arc<RedisBackend>, server: &Server) -> Duration {
    let began = Instant::now();
    let mut number = 0;
    eventually("the new primary grants", || {
        number += 1;
        let name = format!("r{number}");
        let outcome = acquire(backend, &request(one(&name), 60_000, acks(0, 0)));
        std::thread::sleep(Duration::from_millis(20));
        outcome.is_ok() && server.exists(&lock_key(&name))
    });
    began.elapsed()
}

/// The old primary takes writes for ten seconds more, and nothing that it says is a reason for a doubt.
#[test]
fn a_planned_failover_is_known_by_its_announcement() {
    if !available() {
        return;
    }
    let group = Group::start(1);
    let backend = backend_with(located(group.urls(), 1));
    granted(acquire(&backend, &request(one("first"), 60_000, acks(0, 0))));
    // The connections that listen are made meanwhile.
    std::thread::sleep(Duration::from_millis(500));
    group.fail_over();
    let old = group.servers[0].port;
    eventually("a Sentinel names another", || group.sentinels.iter().any(|sentinel| sentinel.names() != old));
    let took = until_granted_by(&backend, &group.servers[1]);
    assert!(took < Duration::from_secs(3), "{took:?}");
}

/// An announcement can be lost with its connection, and this user may not listen at all.
#[test]
fn a_primary_in_use_is_asked_for_again_after_ten_seconds() {
    if !available() {
        return;
    }
    let (old, new) = (Server::start(&[]), Server::start(&[]));
    let sentinel = Sentinel::start(
        "user locks on >other resetchannels -@all +auth +hello +ping +sentinel|get-master-addr-by-name \
         +sentinel|master +sentinel|sentinels",
        None,
    );
    sentinel.watch(old.port, 1);
    let location = Location::Sentinels(SentinelOptions { urls: vec![sentinel.url()], name: NAME.into() });
    let sentinel_login =
        SentinelLogin { username: Some("locks".into()), password: Some("other".into()), tls: None };
    let backend = backend_with(Options { location, sentinel_login, ..options("", 0) });
    granted(acquire(&backend, &request(one("first"), 60_000, acks(0, 0))));
    assert!(old.exists(&lock_key("first")));
    // No failover, so the old one is not told.
    sentinel.run::<()>(&["SENTINEL", "REMOVE", NAME]);
    sentinel.watch(new.port, 1);
    let took = until_granted_by(&backend, &new);
    assert!(took < Duration::from_secs(14), "{took:?}");
}

/// A call that the hung server has received; `others` is done again and again until it ends.
fn ends_in_time(
    backend: &Arc<RedisBackend>,
    hung: &Server,
    name: &str,
    happens: impl FnOnce(),
    others: impl Fn(),
) {
    granted(acquire(backend, &request(one("first"), 60_000, acks(0, 0))));
    granted(acquire(backend, &request(one(name), 60_000, acks(0, 0))));
    let lease = request(one(name), 60_000, acks(0, 0));
    hung.pause();
    let error = std::thread::scope(|scope| {
        let call = scope.spawn(|| acquire(backend, &lease));
        std::thread::sleep(Duration::from_millis(100));
        let began = Instant::now();
        happens();
        eventually("the call ends", || {
            others();
            call.is_finished()
        });
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        call.join().unwrap().unwrap_err()
    });
    assert_eq!(code(&error), "OUTCOME_UNKNOWN", "{error}");
    hung.resume();
}

#[test]
fn calls_to_a_primary_that_hangs_end_when_sentinels_name_another() {
    if !available() {
        return;
    }
    let group = Group::start(1);
    let backend = backend_with(Options { command_timeout_ms: 60_000, ..located(group.urls(), 1) });
    ends_in_time(&backend, &group.servers[0], "r", || {}, || {});
}

#[test]
fn calls_to_a_primary_that_hangs_end_when_its_cluster_has_another() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(1);
    let location = Location::Cluster(cluster.urls());
    let backend = backend_with(Options { location, command_timeout_ms: 60_000, ..options("", 1) });
    let hung = cluster.owner(slot_of("r"));
    let mut others = (0..100).map(|number| format!("o{number}"));
    let other = others.find(|name| cluster.owner(slot_of(name)) != hung).unwrap();
    let replica = &cluster.nodes[hung + 3];
    ends_in_time(
        &backend,
        &cluster.nodes[hung],
        "r",
        || {
            eventually("its replica takes over", || replica.info("replication").contains("role:master"));
        },
        || {
            std::thread::sleep(Duration::from_millis(100));
            // Another shard redirects nothing, but a connection that breaks makes the client look.
            let killed = cluster.nodes[cluster.owner(slot_of(&other))]
                .run::<u32>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            let _ = (killed, acquire(&backend, &request(one(&other), 10, acks(0, 0))));
        },
    );
}
