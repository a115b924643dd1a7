//! Minimums: what a release leaves, and what ignores it.

use super::servers::proxy::{Fault, Proxy};
use super::servers::server::{Server, available};
use super::*;

fn with_minimum(name: &str, ttl_ms: u32, min_ms: u64) -> Request {
    Request { min_hold: Duration::from_millis(min_ms), ..request(one(name), ttl_ms, acks(0, 0)) }
}

/// Releases it so that this much of its minimum stays.
fn leave(backend: &Arc<RedisBackend>, lease: &Request, rest_ms: u64) -> Result<bool> {
    let (backend, lease) = (Arc::clone(backend), lease.clone());
    let until = Clock::System.boot() + Duration::from_millis(rest_ms);
    on_io(async move { backend.release(&lease.resources, lease.owner, lease.lasts(), Some(until)).await })
}

fn left_ms(server: &Server, name: &str) -> i64 {
    server.run(&["PTTL", &lock_key(name)])
}

#[test]
fn a_release_leaves_the_rest_and_never_more_than_there_was() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let backend = backend(&server.url(), 0);
    for (name, ttl_ms, min_ms, rest_ms, most) in [
        ("longer ttl", 60_000, 20_000, 19_000, 19_000),
        ("shorter ttl", 10_000, 20_000, 500_000, 20_000),
        ("longer rest", 10_000, 5_000, 50_000, 10_000),
    ] {
        let lease = with_minimum(name, ttl_ms, min_ms);
        granted(acquire(&backend, &lease));
        let lasts = i64::from(lease.lasts().as_millis());
        assert!((lasts - 5_000..=lasts).contains(&left_ms(&server, name)), "{name}");
        assert_eq!(leave(&backend, &lease, rest_ms), Ok(true), "{name}");
        assert!((most - 5_000..=most).contains(&left_ms(&server, name)), "{name}");
        assert_eq!(leave(&backend, &with_minimum(name, ttl_ms, 0), 1), Ok(false), "another owner");
        assert!(left_ms(&server, name) > 1_000, "{name}");
        assert_eq!(release(&backend, &lease), Ok(true), "{name}");
        assert_eq!(leave(&backend, &lease, 1_000), Ok(false), "it was released");
    }
    let lease = with_minimum("short", 10_000, 20_000);
    granted(acquire(&backend, &lease));
    assert_eq!(leave(&backend, &lease, 300), Ok(true));
    let ends = Instant::now() + Duration::from_millis(300);
    let (other, waits) = (backend.clone(), request(one("short"), 1_000, acks(0, 0)));
    eventually("it ends", || matches!(acquire(&other, &waits), Ok(Attempt::Granted(_))));
    assert!(Instant::now() + Duration::from_millis(5) >= ends);
}

#[test]
fn a_failed_release_leaves_what_is_left_by_then() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let backend = backend_with(Options { command_timeout_ms: 200, ..options(&server.url(), 0) });
    let lease = with_minimum("r", 600_000, 30_000);
    granted(acquire(&backend, &lease));
    server.pause();
    assert_eq!(code(&leave(&backend, &lease, 30_000).unwrap_err()), "OUTCOME_UNKNOWN");
    server.resume();
    eventually("cleanup is done", || backend.pending_cleanups() == 0);
    assert!((1..=30_000).contains(&left_ms(&server, "r")));
    // What was over by then is deleted.
    let lease = with_minimum("over", 600_000, 300);
    granted(acquire(&backend, &lease));
    server.pause();
    assert_eq!(code(&leave(&backend, &lease, 300).unwrap_err()), "OUTCOME_UNKNOWN");
    std::thread::sleep(Duration::from_millis(300));
    server.resume();
    eventually("cleanup is done", || backend.pending_cleanups() == 0);
    eventually("the key is gone", || !server.exists(&lock_key("over")));
}

#[test]
fn grants_without_proof_are_undone_at_once_and_long_after_their_ttl() {
    if !available() {
        return;
    }
    let (primary, replicas) = Server::with_replicas(1);
    let proxy = Proxy::start(primary.port);
    let behind = backend(&proxy.url(), 1);
    let proved = |name| Request { acks: acks(1, 1_000), ..with_minimum(name, 1_000, 60_000) };
    granted(acquire(&behind, &proved("warm")));
    proxy.set(Fault::CutAfterFirstReply);
    assert_eq!(code(&acquire(&behind, &proved("unknown")).unwrap_err()), "OUTCOME_UNKNOWN");
    eventually("it is deleted", || !primary.exists(&lock_key("unknown")));
    assert!(primary.exists(&fence_key("unknown")), "it had been granted");

    let backend = backend(&primary.url(), 1);
    replicas.iter().for_each(Server::pause);
    let unproved = Request { acks: acks(1, 100), ..proved("unproved") };
    assert_eq!(code(&acquire(&backend, &unproved).unwrap_err()), "INSUFFICIENT_REPLICAS");
    assert!(!primary.exists(&lock_key("unproved")));
}
