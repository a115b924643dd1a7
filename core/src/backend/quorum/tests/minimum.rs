//! Minimums: what a release leaves on the nodes.

use super::*;
use crate::backend::redis::tests::eventually;
use crate::backend::redis::tests::servers::server::available;

fn with_minimum(name: &str, ttl_ms: u32, min_ms: u64) -> Request {
    Request { min_hold: Duration::from_millis(min_ms), ..request(name, ttl_ms) }
}

/// Releases it so that this much of its minimum stays.
fn leave(backend: &Arc<QuorumBackend>, lease: &Request, rest_ms: u64) -> Result<bool> {
    let (backend, lease) = (Arc::clone(backend), lease.clone());
    let until = Clock::System.boot() + Duration::from_millis(rest_ms);
    on_io(async move { backend.release(&lease.resources, lease.owner, lease.lasts(), Some(until)).await })
}

fn left_ms(server: &Server, name: &str) -> i64 {
    server.run(&["PTTL", &lock_key(name)])
}

#[test]
fn a_release_leaves_the_rest_on_all_nodes() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let backend = backend(&servers);
    let lease = with_minimum("r", 1_000, 9_000);
    granted(acquire(&backend, &lease));
    eventually("all nodes have it", || locked(&servers, "r") == 3);
    assert!(servers.iter().all(|server| left_ms(server, "r") > 4_000), "longer than the TTL");
    assert_eq!(leave(&backend, &lease, 6_000), Ok(true));
    eventually("all have the rest", || {
        servers.iter().all(|server| (1..=6_000).contains(&left_ms(server, "r")))
    });
    assert!(matches!(acquire(&backend, &request("r", 1_000)), Ok(Attempt::Busy(_))));
    assert_eq!(release(&backend, &lease), Ok(true));
    eventually("it is gone", || locked(&servers, "r") == 0);
}

#[test]
fn a_node_that_is_away_at_the_release_gets_the_rest_later() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let mut options = options(servers.iter().map(Server::url).collect());
    for node in &mut options.nodes {
        node.command_timeout_ms = 200;
    }
    let backend = backend_with(options);
    let lease = with_minimum("r", 10_000, 5_000);
    granted(acquire(&backend, &lease));
    eventually("all nodes have it", || locked(&servers, "r") == 3);
    servers[2].pause();
    assert_eq!(leave(&backend, &lease, 5_000), Ok(true));
    servers[2].resume();
    eventually("it has the rest", || {
        backend.pending_cleanups() == 0 && (1..=5_000).contains(&left_ms(&servers[2], "r"))
    });
}

#[test]
fn a_minimum_is_at_most_as_long_as_a_restarted_node_does_not_vote() {
    let backend = backend_with(options((1..=3).map(|port| format!("redis://127.0.0.1:{port}")).collect()));
    let error = acquire(&backend, &with_minimum("r", 1_000, 10_001)).unwrap_err();
    assert_eq!(error.code(), "INVALID_OPTION");
    assert!(error.to_string().contains("minHoldMs") && error.to_string().contains("maxTtlMs"), "{error}");
}
