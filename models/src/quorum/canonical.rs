//! Forgets what can make no difference any more, so that states that behave alike are one.

use super::config::Quorum;
use super::node::Floor;
use super::state::{FIRST_EXTENSION, Phase, RELEASE, REQUESTS, State};

impl<const CLIENTS: usize, const NODES: usize> Quorum<CLIENTS, NODES> {
    pub(super) fn canonicalise(&self, state: &mut State<CLIENTS, NODES>) {
        for node in 0..NODES {
            self.forget_old_fence(state, node);
            for client in 0..CLIENTS {
                for attempt in 0..state.clients[client].started {
                    self.forget_idle_requests(state, node, client, attempt);
                }
            }
        }
        let used_up = state.started() == self.0.total;
        for client in 0..CLIENTS {
            for attempt in 0..state.clients[client].started {
                self.forget_tokens(state, client, attempt);
            }
            let client = &mut state.clients[client];
            let done = client.started == self.0.attempts || used_up || self.0.is_exact();
            if client.phase == Phase::Idle && done {
                client.known = 0;
            }
        }
        if self.0.checks_exclusion() {
            // That tokens differ follows from their order.
            state.tokens = 0;
        }
        state.nodes.sort_unstable();
    }

    /// A token that is not above the floor says nothing.
    fn forget_old_fence(&self, state: &mut State<CLIENTS, NODES>, node: usize) {
        let node = &mut state.nodes[node];
        if self.0.rules.floor == Floor::Always
            && u64::from(node.fence) <= node.clock(state.now) - self.0.rules.slack
        {
            node.fence = 0;
        }
    }

    /// Requests that can only be refused, and whose answers are not awaited.
    fn forget_idle_requests(
        &self,
        state: &mut State<CLIENTS, NODES>,
        node: usize,
        index: usize,
        attempt: u8,
    ) {
        let client = &state.clients[index];
        let current = client.phase != Phase::Idle && client.attempt() == attempt;
        let owner = self.owner(index, attempt);
        let node = &mut state.nodes[node];
        let (stored, now) = (node.stored(), node.clock(state.now));
        let mine = node.lock == owner;
        let requests = &mut node.links[index].requests;
        for round in 0..FIRST_EXTENSION {
            let token = client.tokens[attempt as usize][round as usize];
            // Whether another lease is in the way does not matter: it may end.
            let low = !stored.is_above(token.into(), now, &self.0.rules);
            let awaited = current && client.is_proposing() && (client.round == round || self.0.is_exact());
            if low && !awaited {
                *requests &= !bits(attempt, round, round + 1);
            }
        }
        // Extensions heal, so they may always do something.
        let extends = self.0.extensions > 0;
        if !mine && !current && !extends && *requests & bits(attempt, 0, FIRST_EXTENSION) == 0 {
            *requests &= !bits(attempt, FIRST_EXTENSION, RELEASE);
        }
        if !mine && *requests & bits(attempt, 0, RELEASE) == 0 && self.0.rules.compares_owner {
            *requests &= !bits(attempt, RELEASE, REQUESTS);
        }
    }

    /// The tokens of proposals that are over, and are not under way any more.
    fn forget_tokens(&self, state: &mut State<CLIENTS, NODES>, index: usize, attempt: u8) {
        let client = &state.clients[index];
        if client.phase != Phase::Idle && client.attempt() == attempt {
            return;
        }
        for round in 0..FIRST_EXTENSION {
            let mut carriers = bits(attempt, round, round + 1);
            if self.0.extensions > 0 {
                carriers |= bits(attempt, FIRST_EXTENSION, RELEASE);
            }
            if state.links(index).all(|link| link.requests & carriers == 0) {
                let client = &mut state.clients[index];
                client.tokens[attempt as usize][round as usize] = 0;
                client.knowns[attempt as usize][round as usize] = 0;
            }
        }
    }
}

/// The bits of an attempt's requests from one to before another.
const fn bits(attempt: u8, from: u8, to: u8) -> u16 {
    ((1 << to) - (1 << from)) << (attempt * REQUESTS)
}
