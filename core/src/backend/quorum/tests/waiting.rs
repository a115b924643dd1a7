//! Where waiters are queued, and what wakes them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::*;
use crate::backend::contract::Busy;
use crate::backend::redis::tests::servers::proxy::Proxy;
use crate::backend::redis::tests::servers::server::available;
use crate::backend::waiter::Waiter;

/// A resource whose home is this node, among all of them.
fn homed_at(backend: &QuorumBackend, node: usize) -> String {
    let members = &backend.members;
    let order = |name: &str| members.order(name);
    (0..1_000).map(|number| format!("r{number}")).find(|name| order(name)[0] == node).unwrap()
}

/// An attempt of a waiter that is not granted.
fn refused(backend: &Arc<QuorumBackend>, name: &str) -> Busy {
    let waiter = Waiter::new(false);
    let request = Request { waiter: Some(waiter.clone()), ..request(name, 10_000) };
    let backend = Arc::clone(backend);
    let outcome = on_io(async move {
        backend.join_queue(&request.resources, &waiter).await.unwrap();
        let outcome = backend.acquire(&request).await;
        backend.leave_queue(&request.resources, &waiter).await;
        outcome
    });
    match outcome {
        Ok(Attempt::Busy(busy)) => busy,
        other => panic!("not busy: {other:?}"),
    }
}

#[test]
fn a_waiter_does_not_poll_because_its_home_is_the_last_to_answer() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let proxy = Proxy::start(servers[2].port);
    let urls = vec![servers[0].url(), servers[1].url(), proxy.url()];
    let backend = backend_with(options(urls));
    granted(acquire(&backend, &request("warm", 5_000)));
    let name = homed_at(&backend, 2);
    granted(acquire(&backend, &request(&name, 10_000)));
    sleep(MOMENT);
    // Longer than the others take, and less than they are waited for.
    proxy.delay(Duration::from_millis(3));
    let tries = 20;
    let polls = (0..tries).filter(|_| refused(&backend, &name).remaining.unwrap() < Duration::from_secs(1));
    let polls = polls.count();
    assert!(polls <= tries / 2, "{polls} of {tries} waiters do not rely on their home");
}

#[test]
fn a_node_that_does_not_vote_is_the_home_of_nothing() {
    if !available() {
        return;
    }
    let mut servers = servers(3);
    sleep(Duration::from_millis(3_100));
    servers[2].restart();
    let urls = servers.iter().map(Server::url).collect();
    let options = Options { max_ttl_ms: 10_000, restart_delay_ms: Some(2_000), ..options(urls) };
    let backend = backend_with(options);
    let name = homed_at(&backend, 2);
    granted(acquire(&backend, &request(&name, 10_000)));
    assert_eq!(locked(&servers, &name), 2, "the third node does not vote yet");
    let remaining = refused(&backend, &name).remaining.unwrap();
    assert!(remaining > Duration::from_secs(1), "it polls after {remaining:?}");
    assert_eq!(locked(&servers, &name), 2, "the third node does not vote yet");
}

#[test]
fn a_waiter_whose_home_is_free_relies_on_another_node() {
    // As if a contender had it when the majority was granted.
    relies_on_another_node(|home, name| {
        home.run::<i64>(&["DEL", &lock_key(name)]);
    });
}

#[test]
fn a_waiter_whose_home_a_dead_contender_has_relies_on_another_node() {
    relies_on_another_node(give_to_dead_contender);
}

#[test]
fn a_waiter_whose_home_a_dead_contender_has_relies_on_another_node_although_the_third_does_not_answer() {
    let silent = Duration::from_secs(3);
    relies_on_another_node_if(give_to_dead_contender, |third| third.delay(silent));
}

/// As if a contender that died had it when the majority was granted.
fn give_to_dead_contender(home: &Server, name: &str) {
    let token: u64 = home.run(&["GET", &fence_key(name)]);
    let owner = Owner::random().to_string();
    home.run::<()>(&["SET", &lock_key(name), &owner, "PX", "10000"]);
    home.run::<()>(&["SET", &fence_key(name), &(token - 1).to_string(), "PX", "60000"]);
}

fn relies_on_another_node(lose: impl Fn(&Server, &str)) {
    relies_on_another_node_if(lose, |_| ());
}

/// A majority has the lease; the home is as `lose` leaves it, and one node of the lease as `silence` does.
fn relies_on_another_node_if(lose: impl Fn(&Server, &str), silence: impl Fn(&Proxy)) {
    if !available() {
        return;
    }
    let servers = servers(3);
    let third = Proxy::start(servers[1].port);
    let backend = backend_with(options(vec![servers[0].url(), third.url(), servers[2].url()]));
    let name = homed_at(&backend, 2);
    let lease = request(&name, 10_000);
    granted(acquire(&backend, &lease));
    sleep(MOMENT);
    lose(&servers[2], &name);
    silence(&third);
    let waiter = Waiter::new(false);
    let wanted = Request { waiter: Some(waiter.clone()), ..request(&name, 10_000) };
    let (to_wait, outcomes) = (Arc::clone(&backend), Arc::clone(&backend));
    let (resources, woken) = (wanted.resources.clone(), waiter.clone());
    on_io(async move { to_wait.join_queue(&resources, &woken).await }).unwrap();
    let remaining = |owner| {
        let attempt = Request { owner, ..wanted.clone() };
        match acquire(&outcomes, &attempt) {
            Ok(Attempt::Busy(busy)) => busy.remaining.unwrap(),
            other => panic!("not busy: {other:?}"),
        }
    };
    let first = remaining(Owner::random());
    assert!(first < Duration::from_secs(1), "no node of the lease knows of it: {first:?}");
    let second = remaining(Owner::random());
    assert!(second > Duration::from_secs(1), "it polls after {second:?}");
    let releasing = std::thread::spawn(move || release(&backend, &lease));
    on_io(async move { timeout(MOMENT, waiter.woken()).await }).expect("the release wakes it");
    let _ = releasing.join().unwrap();
}

#[test]
fn who_gave_way_does_not_come_back_before_the_vote_is_settled() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let proxies: Vec<_> = servers.iter().map(|server| Proxy::start(server.port)).collect();
    for proxy in &proxies {
        proxy.delay(Duration::from_millis(10));
    }
    let backend = backend_with(options(proxies.iter().map(Proxy::url).collect()));
    granted(acquire(&backend, &request("r", 10_000)));
    let join = || {
        let (backend, begun) = (Arc::clone(&backend), Instant::now());
        let (resources, waiter) = (Resources::one("r").unwrap(), Waiter::new(false));
        on_io(async move { backend.join_queue(&resources, &waiter).await }).unwrap();
        begun.elapsed()
    };
    // It subscribes, which takes a round trip, too.
    join();
    let pause = join();
    assert!(pause >= Duration::from_millis(10), "the owner at home asks again only after {pause:?}");
}
