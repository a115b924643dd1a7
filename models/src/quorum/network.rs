//! What happens to messages and to nodes: requests arrive, nodes crash, leases end.

use fencelock_core::backend::quorum::round::majority;

use super::config::{Memory, Quorum, Without};
use super::node::{Extended, Extension, Proposal, Reply};
use super::state::{Action, Answer, ExtensionAnswer, FIRST_EXTENSION, Phase, RELEASE, REQUESTS, State};

impl<const CLIENTS: usize, const NODES: usize> Quorum<CLIENTS, NODES> {
    /// What may arrive of one client's messages.
    pub(super) fn message_actions(
        &self,
        state: &State<CLIENTS, NODES>,
        client: usize,
        actions: &mut Vec<Action>,
    ) {
        let takes_answers = state.clients[client].phase != Phase::Keeping;
        for node in distinct(state) {
            let link = &state.nodes[node].links[client];
            let mut requests = link.requests;
            while requests != 0 {
                let request = requests.trailing_zeros() as u8;
                requests = if self.0.fifo { 0 } else { requests & (requests - 1) };
                actions.push(Action::Deliver { client, node, request });
            }
            for round in 0..2 {
                if takes_answers && link.answers[round as usize] != Answer::None {
                    actions.push(Action::Answer { client, node, round });
                }
            }
            if link.extension != ExtensionAnswer::None {
                actions.push(Action::ExtensionAnswer { client, node });
            }
        }
    }

    /// What may happen to nodes.
    pub(super) fn node_actions(&self, state: &State<CLIENTS, NODES>, actions: &mut Vec<Action>) {
        for index in distinct(state) {
            let node = &state.nodes[index];
            if state.crashes < self.0.crashes {
                let oldest = if self.0.memory == Memory::Older { node.fence } else { 0 };
                actions.extend((0..=oldest).map(|fence| Action::Crash { node: index, fence }));
            }
            if self.0.early > 0 && node.lock != 0 && state.now + self.0.early >= node.until {
                actions.push(Action::EndEarly(index));
            }
        }
    }

    pub(super) fn tick(&self, state: &mut State<CLIENTS, NODES>) {
        state.now += 1;
        for node in &mut state.nodes {
            if node.lock != 0 && state.now >= node.until {
                node.free();
            }
        }
        let waits_for_extension = self.0.lacks(Without::ExtensionInTime);
        for index in 0..CLIENTS {
            let client = &state.clients[index];
            let over = client.phase == Phase::Holding && state.now >= client.deadline;
            if over && !(waits_for_extension && client.extending) {
                Self::end(state, index, true);
            }
        }
    }

    pub(super) fn crash(&self, state: &mut State<CLIENTS, NODES>, index: usize, fence: u8) {
        state.crashes += 1;
        let node = &mut state.nodes[index];
        node.free();
        (node.fence, node.restarted) = (fence, state.now + 1);
        node.skew = self.0.crash_skew.unwrap_or(node.skew);
        if !self.0.lacks(Without::RestartGuard) {
            for link in &mut node.links {
                link.requests = 0;
            }
        }
    }

    /// A request arrives.
    pub(super) fn deliver(&self, state: &mut State<CLIENTS, NODES>, client: usize, node: usize, request: u8) {
        let (attempt, what) = (request / REQUESTS, request % REQUESTS);
        state.nodes[node].links[client].requests &= !(1 << request);
        if what < FIRST_EXTENSION {
            self.deliver_proposal(state, client, node, attempt, what);
        } else if what < RELEASE {
            self.deliver_extension(state, client, node, attempt, what - FIRST_EXTENSION);
        } else {
            let now = state.nodes[node].clock(state.now);
            let (stored, _) =
                state.nodes[node].stored().release(now, self.owner(client, attempt).into(), &self.0.rules);
            state.nodes[node].store(stored);
        }
    }

    fn deliver_proposal(
        &self,
        state: &mut State<CLIENTS, NODES>,
        index: usize,
        node: usize,
        attempt: u8,
        round: u8,
    ) {
        let client = &state.clients[index];
        let proposal = Proposal {
            owner: self.owner(index, attempt).into(),
            ttl: self.0.ttl.into(),
            token: client.tokens[attempt as usize][round as usize].into(),
            known: client.knowns[attempt as usize][round as usize].into(),
        };
        let now = state.nodes[node].clock(state.now);
        let before = state.nodes[node].stored();
        let (stored, reply) = before.propose(now, &proposal, &self.0.rules);
        state.nodes[node].store(stored);
        let answer = match reply {
            Reply::Granted => Answer::Granted,
            Reply::Held { token, .. } => Answer::Held(token as u8),
            // Every reply tells the node's clock, too, so that the client's next token is above the floor.
            Reply::Low(_) => Answer::Low(before.last(now, &self.0.rules) as u8),
            Reply::High(_) => Answer::High,
        };
        if !client.is_proposing() || client.attempt() != attempt {
            return;
        }
        if self.0.is_exact() {
            state.nodes[node].links[index].answers[round as usize] = answer;
        } else if client.round == round {
            // An answer that decides nothing is received at once: when it is makes no difference.
            let decides = state.granted(index) + 1 >= majority(NODES);
            let link = &mut state.nodes[node].links[index];
            match answer {
                Answer::Granted if !decides => link.told = answer,
                Answer::Held(_) | Answer::High => link.told = Answer::Refused,
                _ => link.answers[round as usize] = answer,
            }
        }
    }

    fn deliver_extension(
        &self,
        state: &mut State<CLIENTS, NODES>,
        index: usize,
        node: usize,
        attempt: u8,
        number: u8,
    ) {
        let client = &state.clients[index];
        let tokens = client.tokens[attempt as usize];
        let extension = Extension {
            owner: self.owner(index, attempt).into(),
            ttl: self.0.ttl.into(),
            token: tokens[0].max(tokens[1]).into(),
            heal: true,
        };
        let now = state.nodes[node].clock(state.now);
        let (stored, reply) = state.nodes[node].stored().extend(now, &extension, &self.0.rules);
        state.nodes[node].store(stored);
        if client.extending && client.attempt() == attempt && client.extensions - 1 == number {
            // A healed node is counted here, which is more than the product does.
            state.nodes[node].links[index].extension = match reply {
                Extended::Extended | Extended::Free => ExtensionAnswer::Extended,
                Extended::Held => ExtensionAnswer::Refused,
            };
        }
    }

    /// The owner of an attempt, counted from 1.
    pub(super) const fn owner(&self, client: usize, attempt: u8) -> u8 {
        client as u8 * self.0.attempts + attempt + 1
    }
}

/// Nodes that are equal have equal futures, so one of them is enough. Nodes are sorted.
fn distinct<const CLIENTS: usize, const NODES: usize>(
    state: &State<CLIENTS, NODES>,
) -> impl Iterator<Item = usize> {
    (0..NODES).filter(|&index| index == 0 || state.nodes[index] != state.nodes[index - 1])
}
