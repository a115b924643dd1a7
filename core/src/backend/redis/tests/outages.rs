//! The server is away, and comes back.

use super::*;
use crate::backend::redis::tests::servers::faulty_server::{Damage, FaultyServer};
use crate::backend::redis::tests::servers::server::{Server, available};

#[test]
fn a_server_that_is_away_is_reported_immediately_and_used_again_when_it_is_back() {
    if !available() {
        return;
    }
    let mut server = Server::start(&[]);
    let backend = backend(&server.url(), 0);
    let lease = request(one("r"), 60_000, acks(0, 0));
    granted(acquire(&backend, &lease));
    server.kill();
    // Time for the I/O thread to read the end of the stream: a request sent before that has an unknown
    // outcome.
    std::thread::sleep(Duration::from_millis(100));
    for policy in [acks(0, 0), acks(1, 1_000)] {
        for _ in 0..20 {
            let error = acquire(&backend, &request(one("r"), 60_000, policy)).unwrap_err();
            assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
            assert!(error.to_string().contains("connection refused"), "{error}");
            assert!(error.to_string().contains("is the server running"), "{error}");
        }
    }
    assert_eq!(code(&release(&backend, &lease).unwrap_err()), "BACKEND_UNAVAILABLE");
    assert_eq!(backend.pending_cleanups(), 1, "the release is retried");
    server.restart();
    eventually("it is used again", || acquire(&backend, &request(one("s"), 60_000, acks(0, 0))).is_ok());
    eventually("the release is done", || backend.pending_cleanups() == 0);
}

/// So calls with `waitMs` wait for it. It may have been demoted before it went away.
#[test]
fn a_server_that_was_reached_before_may_be_back_soon() {
    if !available() {
        return;
    }
    let attempt = |backend: &Arc<RedisBackend>| acquire(backend, &request(one("r"), 10, acks(0, 0)));
    for is_demoted in [false, true] {
        let mut server = Server::start(&[]);
        let (known, stranger) = (backend(&server.url(), 0), backend(&server.url(), 0));
        attempt(&known).unwrap();
        if is_demoted {
            server.run::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
            assert!(attempt(&known).unwrap_err().is_failover(), "it is a replica");
        }
        server.kill();
        eventually("it is away", || attempt(&known).is_err_and(|error| error.cause_code().is_some()));
        assert!(attempt(&known).unwrap_err().is_failover(), "demoted: {is_demoted}");
        assert!(!attempt(&stranger).unwrap_err().is_failover());
    }
}

#[test]
fn a_server_that_goes_away_while_it_is_asked_may_be_back_soon() {
    let server = FaultyServer::start();
    server.damage_always("SCRIPT", Damage::Cut(0));
    let backend = backend(&server.url(), 0);
    let error = acquire(&backend, &request(one("r"), 10_000, acks(0, 0))).unwrap_err();
    assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
    assert!(error.is_failover(), "{error}");
    server.behave();
    granted(acquire(&backend, &request(one("r"), 10_000, acks(0, 0))));
}

#[test]
fn the_first_call_after_an_outage_is_served() {
    if !available() {
        return;
    }
    let mut server = Server::start(&[]);
    let backend = backend(&server.url(), 0);
    let attempt = |backend: &Arc<RedisBackend>| acquire(backend, &request(one("r"), 10, acks(0, 0)));
    for _ in 0..3 {
        server.kill();
        // The connection before notices it.
        std::thread::sleep(Duration::from_millis(100));
        // Longer pauses each time.
        for _ in 0..6 {
            assert_eq!(code(&attempt(&backend).unwrap_err()), "BACKEND_UNAVAILABLE");
        }
        server.restart();
        attempt(&backend).unwrap();
    }
}

#[test]
fn callers_share_the_attempts_to_connect_during_an_outage() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let backend = backend(&format!("redis://127.0.0.1:{port}"), 0);
    let began = Instant::now();
    for _ in 0..3 {
        let calls: Vec<_> = (0..1_000)
            .map(|_| {
                let backend = Arc::clone(&backend);
                async move { backend.acquire(&request(one("r"), 10, acks(0, 0))).await.unwrap_err() }
            })
            .collect();
        let errors = on_io(async move { join_all(calls).await });
        assert!(errors.iter().all(|error| code(error) == "BACKEND_UNAVAILABLE"));
    }
    assert!(began.elapsed() < LONG / 4, "{:?}", began.elapsed());
}
