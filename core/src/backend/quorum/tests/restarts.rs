//! Nodes that forget, nodes that are not independent, clients that disagree.

use std::thread::sleep;
use std::time::Duration;

use super::*;
use crate::backend::redis::tests::eventually;
use crate::backend::redis::tests::servers::proxy::Proxy;
use crate::backend::redis::tests::servers::server::available;

/// A quorum whose nodes do not vote for two seconds after a restart.
fn strict(servers: &[Server]) -> Arc<QuorumBackend> {
    let urls = servers.iter().map(Server::url).collect();
    backend_with(Options { max_ttl_ms: 2_000, restart_delay_ms: None, ..options(urls) })
}

#[test]
fn a_node_that_was_restarted_empty_does_not_vote_for_a_second_holder() {
    if !available() {
        return;
    }
    // Without the delay there are two holders.
    for (delay, second) in [(Some(0), true), (None, false)] {
        let mut servers = servers(3);
        let with = |servers: &[Server]| {
            let urls = servers.iter().map(Server::url).collect();
            backend_with(Options { max_ttl_ms: 2_000, restart_delay_ms: delay, ..options(urls) })
        };
        sleep(Duration::from_millis(3_100));
        let (one, other) = (with(&servers), with(&servers));
        servers[2].kill();
        granted(acquire(&one, &request("r", 2_000)));
        servers[2].restart();
        servers[1].restart();
        let outcome = acquire(&other, &request("r", 2_000));
        assert_eq!(matches!(outcome, Ok(Attempt::Granted(_))), second, "{delay:?}: {outcome:?}");
        if !second {
            let error = outcome.unwrap_err();
            assert!(error.to_string().contains("it was started a moment ago"), "{error}");
            sleep(Duration::from_millis(3_100));
            granted(acquire(&other, &request("r", 2_000)));
        }
    }
}

#[test]
fn a_server_that_takes_a_nodes_place_does_not_vote_however_long_it_says_that_it_runs() {
    if !available() {
        return;
    }
    let mut servers = servers(4);
    let proxy = Proxy::start(servers[2].port);
    let urls = vec![servers[0].url(), servers[1].url(), proxy.url()];
    let backend = backend_with(Options { max_ttl_ms: 2_000, restart_delay_ms: None, ..options(urls) });
    // Until all of them vote.
    sleep(Duration::from_millis(3_100));
    granted(acquire(&backend, &request("r", 2_000)));
    let waits = || {
        let backend = Arc::clone(&backend);
        let admitted = on_io(async move { backend.members.all()[2].voter.admit().await });
        admitted.map(|admitted| Clock::System.boot().until(admitted.votes_from)).unwrap()
    };
    eventually("the third node has answered", || waits().is_zero());
    // The fourth has run for as long as the others, and knows nothing of the lease. To the client it looks as
    // a node does that was restarted while its clock was behind, which was then set.
    proxy.switch(servers[3].port);
    servers[2].kill();
    eventually("it is connected", || {
        let run_id = servers[3].info("server");
        let backend = Arc::clone(&backend);
        let admitted = on_io(async move { backend.members.all()[2].voter.admit().await });
        admitted.is_ok_and(|admitted| run_id.contains(admitted.run_id.as_deref().unwrap_or("none")))
    });
    let left = waits();
    assert!(left > Duration::from_millis(500), "it votes in {left:?}");
    // What was known of the run before is not forgotten with the connection.
    servers[3].run::<u32>(&["CLIENT", "KILL", "TYPE", "normal"]);
    eventually("it is connected again", || waits() > Duration::ZERO);
    assert!(
        waits() + Duration::from_millis(500) > left,
        "it votes {:?} sooner",
        left.saturating_sub(waits())
    );
}

#[test]
fn a_ttl_beyond_the_longest_is_refused() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let error = acquire(&strict(&servers), &request("r", 2_001)).unwrap_err();
    assert_eq!(error.code(), "INVALID_OPTION");
}

#[test]
fn nodes_that_are_not_independent_are_refused() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let twice = vec![servers[0].url(), servers[1].url(), format!("redis://localhost:{}", servers[0].port)];
    let error = acquire(&backend_with(options(twice)), &request("r", 2_000)).unwrap_err();
    assert_eq!(error.code(), "INVALID_OPTION", "{error}");
    let (primary, replicas) = Server::with_replicas(1);
    let urls = vec![primary.url(), replicas[0].url(), servers[0].url()];
    let error = acquire(&backend_with(options(urls)), &request("r", 2_000)).unwrap_err();
    assert_eq!(error.code(), "UNSUPPORTED", "{error}");
    let even = options(servers[..2].iter().map(Server::url).collect());
    assert_eq!(Config::new(even, &Clock::System).err().unwrap().code(), "INVALID_OPTION");
}

#[test]
fn clients_that_disagree_about_the_quorum_are_refused() {
    if !available() {
        return;
    }
    let servers = servers(4);
    let urls = |range: std::ops::Range<usize>| servers[range].iter().map(Server::url).collect::<Vec<_>>();
    granted(acquire(&backend_with(options(urls(0..3))), &request("r", 2_000)));
    let error = acquire(&backend_with(options(urls(1..4))), &request("r", 2_000)).unwrap_err();
    assert_eq!(error.code(), "UNSUPPORTED", "{error}");
    assert!(error.to_string().contains("maxTtlMs 10000"), "{error}");
    let longer = Options { max_ttl_ms: 20_000, ..options(urls(0..3)) };
    let error = acquire(&backend_with(longer), &request("r", 2_000)).unwrap_err();
    assert_eq!(error.code(), "UNSUPPORTED", "{error}");
}

#[test]
fn a_node_that_becomes_a_replica_does_not_stop_the_others() {
    if !available() {
        return;
    }
    let servers = servers(4);
    let backend = backend(&servers[..3]);
    granted(acquire(&backend, &request("warm", 5_000)));
    let port = servers[3].port.to_string();
    servers[0].run::<String>(&["REPLICAOF", "127.0.0.1", &port]);
    servers[0].run::<u32>(&["CLIENT", "KILL", "TYPE", "normal"]);
    for _ in 0..3 {
        let held = request("r", 5_000);
        granted(acquire(&backend, &held));
        assert_eq!(release(&backend, &held), Ok(true));
    }
}

#[test]
fn scripts_of_one_run_are_not_used_on_another() {
    if !available() {
        return;
    }
    let servers = servers(4);
    let proxy = Proxy::start(servers[2].port);
    let backend = backend_with(options(vec![servers[0].url(), servers[1].url(), proxy.url()]));
    let admit = || {
        let backend = Arc::clone(&backend);
        on_io(async move { backend.members.all()[2].voter.admit().await.map(|it| it.run_id.clone()) })
    };
    proxy.hold(|request| request.windows(6).any(|word| word == b"SCRIPT"));
    let first = std::thread::scope(|scope| {
        let first = scope.spawn(admit);
        eventually("the scripts are under way", || proxy.is_holding());
        // As by a proxy before a server that is replaced: the connection stays.
        proxy.switch(servers[3].port);
        proxy.let_go();
        first.join().unwrap()
    });
    let error = first.unwrap_err();
    assert!(error.to_string().contains("no reply: the server was restarted meanwhile"), "{error}");
    let run_id = admit().unwrap().unwrap();
    assert!(servers[3].info("server").contains(&format!("run_id:{run_id}")), "{run_id}");
}
