//! Grants, contention, releases and extensions.

use std::thread::sleep;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::*;
use crate::backend::contract::Busy;
use crate::backend::redis::tests::eventually;
use crate::backend::redis::tests::servers::server::available;
use crate::error::Error;

fn busy(outcome: Result<Attempt>) -> Busy {
    match outcome {
        Ok(Attempt::Busy(busy)) => busy,
        other => panic!("not busy: {other:?}"),
    }
}

#[test]
fn a_majority_grants_and_tokens_rise() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let (one, other) = (backend(&servers), backend(&servers));
    let mut last = 0;
    for _ in 0..5 {
        let first = request("r", 5_000);
        let grant = granted(acquire(&one, &first));
        assert!(grant.token > last);
        last = grant.token;
        let acks = grant.acks.unwrap();
        assert_eq!((acks.required, (2..=3).contains(&acks.received)), (2, true));
        let left = busy(acquire(&other, &request("r", 5_000))).remaining.unwrap();
        assert!(left > Duration::from_secs(4) && left < Duration::from_millis(5_100), "{left:?}");
        assert!(extend(&one, &first).is_ok());
        assert_eq!(release(&one, &first), Ok(true));
        assert_eq!(release(&one, &first), Ok(false));
        eventually("all nodes are free", || locked(&servers, "r") == 0);
    }
}

#[test]
fn a_refused_attempt_leaves_nothing_behind() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let (one, other) = (backend(&servers), backend(&servers));
    granted(acquire(&one, &request("r", 5_000)));
    // Only one node is free for the other.
    servers[0].run::<u32>(&["DEL", &lock_key("r")]);
    for _ in 0..3 {
        busy(acquire(&other, &request("r", 5_000)));
    }
    eventually("the free node is free again", || locked(&servers, "r") == 2);
    eventually("nothing is to be undone", || other.pending_cleanups() == 0);
}

#[test]
fn contenders_of_one_moment_settle() {
    if !available() {
        return;
    }
    let servers = servers(5);
    let backends: Vec<_> = (0..6).map(|_| backend(&servers)).collect();
    for backend in &backends {
        let backend = Arc::clone(backend);
        on_io(async move { backend.connect().await }).unwrap();
    }
    for round in 0..20 {
        let name = format!("r{round}");
        let attempts = backends.clone().into_iter().map(move |backend| {
            let request = request(&name, 5_000);
            async move { backend.acquire(&request).await }
        });
        let outcomes = on_io(async move { join_all(attempts.collect::<Vec<_>>()).await });
        let granted = outcomes.iter().filter(|it| matches!(it, Ok(Attempt::Granted(_)))).count();
        assert!(granted <= 1, "{outcomes:?}");
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(granted, 1, "the home node settles a split vote: {outcomes:?}");
    }
}

#[test]
fn a_hung_node_costs_nothing_unless_its_vote_decides() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let (one, other) = (backend(&servers), backend(&servers));
    granted(acquire(&other, &request("other", 5_000)));
    let first = request("warm", 5_000);
    granted(acquire(&one, &first));
    servers[1].pause();
    let start = Instant::now();
    let held = request("r", 5_000);
    granted(acquire(&one, &held));
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    let start = Instant::now();
    busy(acquire(&other, &request("r", 5_000)));
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    assert_eq!(release(&one, &held), Ok(true));
    servers[1].resume();
    eventually("the late grant is undone", || {
        locked(&servers, "r") == 0 && one.pending_cleanups() == 0 && other.pending_cleanups() == 0
    });
}

#[test]
fn without_a_majority_it_fails_in_time_and_names_the_nodes() {
    if !available() {
        return;
    }
    let mut servers = servers(5);
    let backend = backend(&servers);
    granted(acquire(&backend, &request("warm", 5_000)));
    servers[..3].iter_mut().for_each(Server::kill);
    sleep(MOMENT);
    let start = Instant::now();
    let error = acquire(&backend, &request("r", 5_000)).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(error.code(), "BACKEND_UNAVAILABLE", "{error}");
    for server in &servers[..3] {
        assert!(error.to_string().contains(&format!("127.0.0.1:{}", server.port)), "{error}");
    }
    assert!(error.is_failover(), "waiters wait for the nodes");
}

#[test]
fn an_extension_heals_and_a_lease_that_a_majority_lost_is_lost() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let backend = backend(&servers);
    let held = request("r", 5_000);
    granted(acquire(&backend, &held));
    eventually("all nodes have it", || locked(&servers, "r") == 3);
    servers[2].run::<u32>(&["DEL", &lock_key("r")]);
    assert!(extend(&backend, &held).is_ok());
    eventually("the third node has it again", || locked(&servers, "r") == 3);
    servers[..2].iter().for_each(|server| {
        server.run::<u32>(&["DEL", &lock_key("r")]);
    });
    assert!(matches!(extend(&backend, &held), Err(Error::LockLost(_))));
    eventually("it is released everywhere", || locked(&servers, "r") == 0);
}

#[test]
fn an_extension_and_a_release_reconnect() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let backend = backend(&servers);
    let held = request("r", 5_000);
    granted(acquire(&backend, &held));
    let disconnect = || {
        for server in &servers {
            server.run::<u32>(&["CLIENT", "KILL", "TYPE", "normal"]);
        }
        // Until the client has seen it.
        sleep(Duration::from_millis(100));
    };
    disconnect();
    extend(&backend, &held).unwrap();
    disconnect();
    assert_eq!(release(&backend, &held), Ok(true));
    eventually("all nodes are free", || locked(&servers, "r") == 0);
}

#[test]
fn several_resources_are_granted_together_or_not_at_all() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let backend = backend(&servers);
    let several = |names: &[&str]| Request {
        resources: Resources::many(names.iter().map(ToString::to_string).collect()).unwrap(),
        ..request("a", 5_000)
    };
    let held = request("b", 5_000);
    let token = granted(acquire(&backend, &held)).token;
    let refused = busy(acquire(&backend, &several(&["a", "b", "c"])));
    assert_eq!(refused.resource, 1);
    assert_eq!(locked(&servers, "a") + locked(&servers, "c"), 0);
    assert_eq!(release(&backend, &held), Ok(true));
    let all = several(&["a", "b", "c"]);
    assert!(granted(acquire(&backend, &all)).token > token);
    assert_eq!(release(&backend, &all), Ok(true));
}

#[test]
fn tokens_are_above_what_the_caller_demands_and_what_nodes_have() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let backend = backend(&servers);
    let now = Clock::System.wall_micros();
    let ahead = Request { min_token: now + 3_600_000_000, ..request("r", 5_000) };
    let token = granted(acquire(&backend, &ahead)).token;
    assert_eq!(token, now + 3_600_000_001);
    assert_eq!(release(&backend, &ahead), Ok(true));
    let next = granted(acquire(&backend, &request("r", 5_000))).token;
    assert_eq!(next, token + 1, "the stored token is ahead of the clocks");
}

#[test]
fn a_node_that_is_away_is_no_work_for_the_background() {
    if !available() {
        return;
    }
    let mut servers = servers(3);
    let backend = backend(&servers);
    granted(acquire(&backend, &request("warm", 5_000)));
    servers[1].kill();
    sleep(MOMENT);
    for _ in 0..10 {
        let held = request("r", 5_000);
        granted(acquire(&backend, &held));
        assert_eq!(release(&backend, &held), Ok(true));
    }
    eventually("the other nodes are free", || {
        !servers[0].exists(&lock_key("r")) && !servers[2].exists(&lock_key("r"))
    });
    eventually("nothing is to be undone", || backend.pending_cleanups() == 0);
}

#[test]
fn nodes_that_refuse_leave_no_doubt() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let backend = backend(&servers);
    let warm = request("warm", 5_000);
    granted(acquire(&backend, &warm));
    for server in &servers[..2] {
        server.run::<String>(&["CONFIG", "SET", "maxmemory", "1"]);
    }
    let error = acquire(&backend, &request("r", 5_000)).unwrap_err();
    assert_eq!(error.code(), "BACKEND_UNAVAILABLE", "{error}");
    let refused = |operation: &str| format!("out of memory; {operation}; raise its maxmemory");
    assert!(error.to_string().contains(&refused("nothing was granted")), "{error}");
    let error = extend(&backend, &warm).unwrap_err();
    assert!(error.to_string().contains(&refused("the lease keeps its old deadline")), "{error}");
    eventually("nothing is left", || locked(&servers, "r") == 0 && backend.pending_cleanups() == 0);
}
