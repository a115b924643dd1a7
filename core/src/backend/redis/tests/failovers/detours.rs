//! Nodes of a cluster that do not serve: they redirect to each other or to themselves, or hang up.

use std::io::Read;
use std::net::TcpListener;

use super::cluster::errors;
use crate::backend::redis::config::slot::slot_of;
use crate::backend::redis::tests::servers::clusters::ClusterServers;
use crate::backend::redis::tests::servers::proxy::Proxy;
use crate::backend::redis::tests::servers::server::available;
use crate::backend::redis::tests::*;

/// The nodes with all slots between them say that each other has this one.
#[test]
fn nodes_that_redirect_to_each_other_are_asked_a_few_times_only() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(0);
    let slot = slot_of("r");
    let (owner, other) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    let name = slot.to_string();
    let assign = |at: usize, to: usize| {
        cluster.nodes[at].run::<()>(&["CLUSTER", "SETSLOT", &name, "NODE", &cluster.id(to)]);
    };
    let location = Location::Cluster(cluster.urls());
    let backend = backend_with(Options { location, ..options("", 0) });
    granted(acquire(&backend, &request(one("r"), 60_000, acks(0, 0))));
    assign(other, owner);
    cluster.nodes[owner].run::<()>(&["DEL", &lock_key("r"), &fence_key("r")]);
    assign(owner, other);
    let before = errors(&cluster, "MOVED");
    let error = acquire(&backend, &request(one("r"), 60_000, acks(0, 0))).unwrap_err();
    assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
    assert!(error.to_string().contains(&format!("keep redirecting slot {slot}")), "{error}");
    assert!(error.is_failover(), "it is worth another attempt");
    let redirects = errors(&cluster, "MOVED") - before;
    assert!((2..=6).contains(&redirects), "{redirects}");
    // Once they agree, it works again.
    assign(owner, owner);
    assign(other, owner);
    eventually("it is granted", || acquire(&backend, &request(one("r"), 60_000, acks(0, 0))).is_ok());
}

/// As behind a proxy or an address whose server was replaced by another node.
#[test]
fn a_node_that_redirects_to_the_address_it_has_is_connected_again_once() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(0);
    let slot = slot_of("r");
    let (owner, other) = (&cluster.nodes[cluster.owner(slot)], &cluster.nodes[(cluster.owner(slot) + 1) % 3]);
    let proxy = Proxy::start(other.port);
    let backend = backend_with(Options {
        node_address_map: vec![(("127.0.0.1".into(), owner.port), ("127.0.0.1".into(), proxy.port))],
        location: Location::Cluster(vec![other.url()]),
        ..options("", 0)
    });
    let attempt = || acquire(&backend, &request(one("r"), 60_000, acks(0, 0)));
    let before = errors(&cluster, "MOVED");
    let error = attempt().unwrap_err();
    assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
    assert!(error.to_string().contains(&format!("keep redirecting slot {slot}")), "{error}");
    assert_eq!(errors(&cluster, "MOVED") - before, 2, "by the first connection, and by the second one");
    // The open connection leads to the wrong node still; the next one does not.
    proxy.switch(owner.port);
    granted(attempt());
    assert!(owner.exists(&lock_key("r")));
}

/// As one that is killed at that moment: a call that waits waits for its successor.
#[test]
fn a_primary_that_hangs_up_while_it_is_connected_may_have_a_successor() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(0);
    let owner = &cluster.nodes[cluster.owner(slot_of("r"))];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            // All of it is read, so that it is the end of the connection and not a reset.
            let _ = client.read(&mut [0; 1_024]);
        }
    });
    let backend = backend_with(Options {
        node_address_map: vec![(("127.0.0.1".into(), owner.port), ("127.0.0.1".into(), port))],
        location: Location::Cluster(cluster.urls()),
        ..options("", 0)
    });
    let error = acquire(&backend, &request(one("r"), 60_000, acks(0, 0))).unwrap_err();
    assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
    assert!(error.to_string().contains("broke during the handshake"), "{error}");
    assert!(error.is_failover(), "{error}");
}

/// The other nodes serve their slots, and redirect to the one that is away.
#[test]
fn a_node_that_is_away_is_told_in_time_and_used_again_when_it_is_back() {
    if !available() {
        return;
    }
    let mut cluster = ClusterServers::start(0);
    for node in &cluster.nodes {
        node.run::<()>(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let location = Location::Cluster(cluster.urls());
    let times = Options { connect_timeout_ms: 1_000, command_timeout_ms: 1_000, ..options("", 0) };
    let backend = backend_with(Options { location, ..times });
    let down = cluster.owner(slot_of("r"));
    let mut others = (0..100).map(|number| format!("o{number}"));
    let other = others.find(|name| cluster.owner(slot_of(name)) != down).unwrap();
    let attempt = |name: &str| acquire(&backend, &request(one(name), 10, acks(0, 0)));
    granted(attempt("r"));
    cluster.nodes[down].kill();
    for _ in 0..3 {
        let began = Instant::now();
        let error = loop {
            match attempt("r").unwrap_err() {
                // It may be sent before the end of the connection is noticed.
                Error::OutcomeUnknown(_) => {}
                error => break error,
            }
        };
        assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
        assert!(error.is_failover(), "{error}");
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        granted(attempt(&other));
        std::thread::sleep(Duration::from_millis(400));
    }
    cluster.nodes[down].restart();
    eventually("it is granted", || attempt("r").is_ok());
}
