//! A server that no longer knows who a connection is.

use super::*;
use crate::backend::redis::AskedCredentials;
use crate::backend::redis::tests::servers::faulty_server::{Damage, FaultyServer};

const LOGGED_OUT: &str = "-NOAUTH Authentication required.\r\n";

#[test]
fn an_open_connection_that_was_logged_out_logs_in_again() {
    let server = FaultyServer::start();
    let asked = AskedCredentials::new(|_| ());
    let backend =
        backend_with(Options { credentials: Some(Arc::clone(&asked)), ..options(&server.url(), 0) });
    let answering = Arc::clone(&asked);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| acquire(&backend, &request(one("r"), 10_000, acks(0, 0))));
        eventually("it is asked for credentials, and they are used", || {
            answering.supply(1, None, "token".into(), None);
            call.is_finished()
        });
        granted(call.join().unwrap());
    });
    let before = server.logins();
    assert!(!before.is_empty());
    server.damage_always("acquire", Damage::Instead(LOGGED_OUT.into()));
    let error = acquire(&backend, &request(one("r"), 10_000, acks(0, 0))).unwrap_err();
    assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
    assert!(error.to_string().contains("asks for a password"), "{error}");
    eventually("it logs in again", || server.logins().len() > before.len());
    let mut connections = server.logins();
    connections.sort_unstable();
    connections.dedup();
    assert_eq!(connections, before, "on the same connection");
    server.behave();
    granted(acquire(&backend, &request(one("r"), 10_000, acks(0, 0))));
}
