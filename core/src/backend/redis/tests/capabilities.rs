//! What a server can do is found out before anything is granted.

use super::*;
use crate::backend::redis::tests::servers::faulty_server::{Damage, FaultyServer};

fn instead(reply: &str) -> Damage {
    Damage::Instead(reply.as_bytes().to_vec())
}

#[test]
fn a_server_that_lacks_wait_grants_nothing_with_acknowledgements_and_gets_no_wait_without() {
    let server = FaultyServer::start();
    server.damage_always("WAIT", instead("-ERR unknown command 'WAIT', with args beginning with: '0'\r\n"));
    let backend = backend(&server.url(), 1);
    let with = request(one("r"), 10_000, acks(1, 100));
    let error = acquire(&backend, &with).unwrap_err();
    assert_eq!(code(&error), "UNSUPPORTED");
    assert!(error.to_string().contains("nothing was granted"), "{error}");
    assert!(!server.is_held_by(&with.owner.to_string()), "it was never sent");
    let waits = server.waits();
    granted(acquire(&backend, &request(one("r"), 10_000, acks(0, 0))));
    assert_eq!(server.waits(), waits);
    // As soon as it has it.
    server.behave();
    assert!(matches!(acquire(&backend, &with), Ok(_) | Err(Error::InsufficientReplicas(_))));
    assert!(server.waits() > waits);
}

#[test]
fn an_active_replica_and_a_changed_script_are_unsupported() {
    for (command, reply, words) in [
        ("INFO", "$19\r\nrole:active-replica\r\n", "active replica"),
        ("SCRIPT", "$40\r\n0000000000000000000000000000000000000000\r\n", "SCRIPT LOAD"),
        ("probe", "-ERR unknown command 'EVALSHA'\r\n", "EVALSHA"),
        ("probe", "-ERR Unknown Redis command called from script script: 1, on @user_script:5.\r\n", "TIME"),
    ] {
        let server = FaultyServer::start();
        server.damage_always(command, instead(reply));
        let lease = request(one("r"), 10_000, acks(0, 0));
        let error = acquire(&backend(&server.url(), 0), &lease).unwrap_err();
        assert_eq!(code(&error), "UNSUPPORTED", "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!server.is_held_by(&lease.owner.to_string()));
    }
}

#[test]
fn a_server_is_asked_once_and_again_when_it_refuses_a_permission() {
    let server = FaultyServer::start();
    let backend = backend(&server.url(), 0);
    let lease = || request(one("r"), 10_000, acks(0, 0));
    for _ in 0..3 {
        granted(acquire(&backend, &lease()));
    }
    assert_eq!(server.probes(), 1);
    server.damage_always(
        "acquire",
        instead("-NOPERM this user has no permissions to run the 'evalsha' command\r\n"),
    );
    acquire(&backend, &lease()).unwrap_err();
    assert_eq!(server.probes(), 1);
    server.behave();
    granted(acquire(&backend, &lease()));
    assert_eq!(server.probes(), 2);
}
