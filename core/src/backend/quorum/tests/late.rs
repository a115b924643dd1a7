//! Calls that a node executes late, on a connection that was given up.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::*;
use crate::backend::redis::tests::eventually;
use crate::backend::redis::tests::servers::proxy::Proxy;
use crate::backend::redis::tests::servers::server::available;

/// A quorum whose third node is behind a proxy. Connections on which nothing comes are given up soon.
fn behind_proxy(servers: &[Server]) -> (Arc<QuorumBackend>, Proxy) {
    let proxy = Proxy::start(servers[2].port);
    let mut options = options(vec![servers[0].url(), servers[1].url(), proxy.url()]);
    for node in &mut options.nodes {
        node.command_timeout_ms = 200;
    }
    (backend_with(options), proxy)
}

fn is_call(request: &[u8]) -> bool {
    request.windows(7).any(|word| word == b"EVALSHA")
}

/// Whether the last argument of the call is 1.
fn is_heal(request: &[u8]) -> bool {
    is_call(request) && request.ends_with(b"\r\n$1\r\n1\r\n")
}

/// Waits until all nodes vote: one that is connected too late for a lease never gets it.
fn all_vote(backend: &Arc<QuorumBackend>, servers: &[Server]) {
    let mut number = 0;
    eventually("all nodes are connected", || {
        number += 1;
        let name = format!("warm{number}");
        granted(acquire(backend, &request(&name, 5_000)));
        sleep(Duration::from_millis(20));
        locked(servers, &name) == servers.len()
    });
}

/// Long before the end of a lease.
fn undone_soon(servers: &[Server]) {
    let start = Instant::now();
    eventually("it is undone", || locked(servers, "r") == 0);
    assert!(start.elapsed() < Duration::from_secs(5), "it was not undone, but expired");
}

#[test]
fn a_heal_that_comes_after_the_release_is_undone() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let (backend, proxy) = behind_proxy(&servers);
    let held = request("r", 10_000);
    granted(acquire(&backend, &held));
    eventually("all nodes have it", || locked(&servers, "r") == 3);
    servers[2].run::<u32>(&["DEL", &lock_key("r")]);
    proxy.hold(is_heal);
    assert!(extend(&backend, &held).is_ok());
    eventually("the heal is under way", || proxy.is_holding());
    // On another connection, as the heal is not answered.
    eventually("a later heal arrives", || {
        assert!(extend(&backend, &held).is_ok());
        sleep(Duration::from_millis(20));
        locked(&servers, "r") == 3
    });
    assert_eq!(release(&backend, &held), Ok(true));
    eventually("it is released everywhere", || locked(&servers, "r") == 0);
    assert!(proxy.is_holding());
    proxy.let_go();
    sleep(MOMENT);
    undone_soon(&servers);
}

#[test]
fn a_proposal_that_comes_after_the_lease_was_lost_is_undone() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let (backend, proxy) = behind_proxy(&servers);
    all_vote(&backend, &servers);
    proxy.hold(is_call);
    let (held, start) = (request("r", 10_000), Instant::now());
    granted(acquire(&backend, &held));
    eventually("the proposal is under way", || proxy.is_holding());
    sleep(Duration::from_millis(250));
    for server in &servers[..2] {
        server.run::<u32>(&["DEL", &lock_key("r")]);
    }
    assert_eq!(extend(&backend, &held).unwrap_err().code(), "LOCK_LOST");
    sleep(Duration::from_millis(50));
    proxy.let_go();
    // A second after it was made, the token would be too low.
    assert!(start.elapsed() < Duration::from_secs(1), "the machine is too slow for this test");
    sleep(MOMENT);
    undone_soon(&servers);
}

#[test]
fn a_grant_of_one_round_counts_for_no_other_although_no_clock_has_moved() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let (backend, proxy) = behind_proxy(&servers);
    all_vote(&backend, &servers);
    servers[0].run::<()>(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    // Only a call with a second round tells anything. On a busy machine some have none, because the contender
    // gave way, or the third node answered, before the first was over; and some give up before it gives way.
    let (start, mut seconds) = (Instant::now(), 0);
    for attempt in 0.. {
        let names = (0..).map(|number| format!("r{attempt}-{number}"));
        let name = names.into_iter().find(|name| backend.members.order(name)[0] == 0).unwrap();
        // Ahead of all clocks: the next token does not rise with them.
        let ahead = Clock::System.wall_micros() + 10_000_000;
        let wanted = Request { min_token: ahead, ..request(&name, 2_000) };
        proxy.hold(is_call);
        // A contender that gives way between the first round and the second.
        let stays = ["5", "15", "45"][attempt % 3];
        servers[1].run::<String>(&["SET", &lock_key(&name), "another", "PX", stays]);
        let outcome = std::thread::scope(|scope| {
            let acquiring = scope.spawn(|| acquire(&backend, &wanted));
            sleep(Duration::from_millis(40));
            proxy.let_go();
            acquiring.join().unwrap()
        });
        if let Ok(Attempt::Granted(grant)) = outcome {
            if calls_for(&servers[0], &name) > 1 {
                assert!(grant.token > ahead + 1, "the third node granted only the first proposal");
                seconds += 1;
            }
            assert_eq!(release(&backend, &wanted), Ok(true));
        }
        if seconds == 5 {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "only {seconds} calls had a second round");
    }
}

/// How many scripts were called for this resource, by a server that logs all commands.
fn calls_for(server: &Server, name: &str) -> usize {
    type Entry = (i64, i64, i64, Vec<Vec<u8>>, String, String);
    let entries: Vec<Entry> = server.run(&["SLOWLOG", "GET", "100"]);
    let key = lock_key(name).into_bytes();
    entries.iter().filter(|(_, _, _, words, ..)| words[0] == b"EVALSHA" && words.contains(&key)).count()
}

#[test]
fn an_unknown_outcome_is_not_told_as_nothing_granted() {
    if !available() {
        return;
    }
    let mut servers = servers(3);
    let backend = backend(&servers);
    all_vote(&backend, &servers);
    servers[1..].iter().for_each(Server::pause);
    let error = std::thread::scope(|scope| {
        let acquiring = scope.spawn(|| acquire(&backend, &request("r", 5_000)));
        sleep(Duration::from_millis(100));
        servers[1..].iter_mut().for_each(Server::kill);
        acquiring.join().unwrap().unwrap_err()
    });
    assert_eq!(error.code(), "OUTCOME_UNKNOWN", "{error}");
    let message = error.to_string();
    assert!(message.contains("no reply") && !message.contains("nothing was granted"), "{message}");
}
