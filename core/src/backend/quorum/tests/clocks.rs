//! Nodes whose clocks are wrong.

use std::thread::sleep;
use std::time::Duration;

use super::*;
use crate::backend::redis::tests::servers::proxy::Proxy;
use crate::backend::redis::tests::servers::server::available;
use crate::backend::redis::voter::{Proposal, ProposalReply};
use crate::runtime::clock::fake::FakeClock;

/// What a node says to a proposal with this token.
fn said(backend: &Arc<QuorumBackend>, node: usize, token: u64) -> ProposalReply {
    let (backend, Request { resources, owner, ttl, .. }) = (Arc::clone(backend), request("r", 5_000));
    on_io(async move {
        let voter = &backend.members.all()[node].voter;
        let connection = voter.admit().await.unwrap().serial;
        let asked = resources.clone();
        let reply = voter
            .propose(Proposal { connection, resources, owner, ttl, token, known: 0, waiter: None })
            .await;
        voter.proposal_reply(&asked, reply.unwrap()).vote.unwrap()
    })
}

#[test]
fn a_node_tells_the_last_token_and_not_what_its_clock_demands() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let backend = backend(&servers);
    // To a node whose clock is fast, all tokens are as old as this one; others must not adopt its time.
    let old = Clock::System.wall_micros() - 3_600_000_000;
    assert!(matches!(said(&backend, 0, old), ProposalReply::Low(0)), "it has accepted none");
    let token = granted(acquire(&backend, &request("other", 5_000))).token;
    servers[0].run::<String>(&["SET", "fencelock:{r}:fence", &token.to_string()]);
    assert!(matches!(said(&backend, 0, old), ProposalReply::Low(last) if last == token));
}

#[test]
fn a_last_token_above_the_clocks_is_no_obstacle_while_a_node_is_away() {
    if !available() {
        return;
    }
    let mut servers = servers(3);
    let proxy = Proxy::start(servers[1].port);
    let backend = backend_with(options(vec![servers[0].url(), proxy.url(), servers[2].url()]));
    granted(acquire(&backend, &request("warm", 5_000)));
    servers[2].kill();
    sleep(MOMENT);
    // As if it came from a clock that was measured less well; one node says so long before the other.
    proxy.delay(Duration::from_millis(30));
    for _ in 0..5 {
        let last = Clock::System.wall_micros() + 500_000;
        servers[0].run::<String>(&["SET", "fencelock:{r}:fence", &last.to_string()]);
        let held = request("r", 5_000);
        assert_eq!(granted(acquire(&backend, &held)).token, last + 1);
        assert_eq!(release(&backend, &held), Ok(true));
    }
}

/// A backend whose host's clock stands still, so that the clocks of all nodes step.
fn beside_a_fake_clock(servers: &[Server]) -> (Arc<QuorumBackend>, Arc<FakeClock>) {
    let fake = FakeClock::new();
    let config = Config::new(options(servers.iter().map(Server::url).collect()), &fake.clock()).unwrap();
    (Arc::new(QuorumBackend::new(config, fake.clock())), fake)
}

#[test]
fn clocks_that_step_are_measured_anew() {
    if !available() {
        return;
    }
    let servers = servers(3);
    let (backend, host) = beside_a_fake_clock(&servers);
    granted(acquire(&backend, &request("a", 5_000)));
    // A second and a half ahead: tokens are too low, which the refusals correct.
    sleep(Duration::from_millis(1_500));
    granted(acquire(&backend, &request("b", 5_000)));
    // As much behind: tokens are too high.
    host.advance(Duration::from_secs(3));
    granted(acquire(&backend, &request("c", 5_000)));
}
