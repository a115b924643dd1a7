//! What clients do: they propose, extend, release and give up.

use fencelock_core::backend::quorum::round::{Decision, Failure, majority};

use super::config::{Quorum, Without};
use super::state::{
    Action, Answer, Client, ExtensionAnswer, FIRST_EXTENSION, Link, Phase, RELEASE, REQUESTS, State,
};
use crate::invariant::Invariant;
use crate::ticks::{EPOCH, deadline, next_token};

impl<const CLIENTS: usize, const NODES: usize> Quorum<CLIENTS, NODES> {
    pub(super) fn client_actions(
        &self,
        state: &State<CLIENTS, NODES>,
        index: usize,
        actions: &mut Vec<Action>,
    ) {
        let client = &state.clients[index];
        match client.phase {
            Phase::Idle => {
                if self.may_start(state, index) {
                    actions.push(Action::Start(index));
                }
            }
            Phase::Proposing if self.0.is_exact() => {
                actions.extend([Action::LosePatience(index), Action::Fail(index)]);
            }
            Phase::Proposing => {
                let refused = state.links(index).any(|link| link.told == Answer::Refused);
                if refused && client.round + 1 < self.0.rounds {
                    actions.push(Action::ProposeAgain(index));
                }
                if refused || state.now > client.sent {
                    actions.push(Action::Fail(index));
                }
            }
            Phase::Keeping => actions.extend([Action::ProposeAgain(index), Action::Fail(index)]),
            Phase::Holding => {
                actions.push(Action::Release(index));
                let more = client.extensions < self.0.extensions;
                if more && !client.extending && state.now < client.deadline {
                    actions.push(Action::Extend(index));
                }
            }
        }
    }

    fn may_start(&self, state: &State<CLIENTS, NODES>, index: usize) -> bool {
        state.clients[index].started < self.0.attempts
            && state.started() < self.0.total
            // Clients are alike, so they begin in their order.
            && (index == 0 || state.clients[index - 1].started > 0)
    }

    pub(super) fn start(&self, state: &mut State<CLIENTS, NODES>, index: usize) {
        let client = &mut state.clients[index];
        client.started += 1;
        (client.phase, client.round) = (Phase::Proposing, 0);
        if self.0.is_exact() {
            let votes: [bool; NODES] = std::array::from_fn(|node| self.votes(state, node));
            if !Self::is_sent(state, votes) {
                return Self::end(state, index, false);
            }
            for (link, votes) in state.links_mut(index).zip(votes) {
                link.told = if votes { Answer::None } else { Answer::NotSent };
            }
        }
        self.propose(state, index);
    }

    pub(super) fn propose_again(&self, state: &mut State<CLIENTS, NODES>, index: usize) {
        if !self.0.lacks(Without::OneProposal) {
            Self::forget_answers(state, index);
        }
        let client = &mut state.clients[index];
        (client.phase, client.round) = (Phase::Proposing, client.round + 1);
        self.propose(state, index);
    }

    fn propose(&self, state: &mut State<CLIENTS, NODES>, index: usize) {
        let now = state.now;
        let floor = if self.0.checks_exclusion() { 0 } else { state.highest };
        let client = &mut state.clients[index];
        let (attempt, round) = (client.attempt(), client.round);
        let token = next_token(client.known, now + EPOCH + client.skew);
        assert!(token < 64, "granted tokens are bits of a word");
        client.tokens[attempt as usize][round as usize] = token;
        client.knowns[attempt as usize][round as usize] = client.known;
        (client.sent, client.floor) = (now, floor);
        for node in 0..NODES {
            let votes = self.votes(state, node);
            let link = &mut state.nodes[node].links[index];
            let asks = if self.0.is_exact() {
                // A proposal is for the run of the server that voted when the attempt began.
                link.told != Answer::NotSent && votes
            } else {
                // An answer to an earlier proposal has nothing to tell.
                link.answers = [Answer::None; 2];
                votes
            };
            // What is not forgotten, but for grants, has nothing to tell either.
            if ![Answer::NotSent, Answer::Granted].contains(&link.told) {
                link.told = Answer::None;
            }
            if asks {
                link.requests |= 1 << (attempt * REQUESTS + round);
            }
        }
    }

    /// Whether a node is not away after a restart.
    fn votes(&self, state: &State<CLIENTS, NODES>, node: usize) -> bool {
        let restarted = state.nodes[node].restarted;
        restarted == 0 || state.now - (restarted - 1) >= self.0.away
    }

    /// Ends an attempt; all nodes are told to release if `release`.
    pub(super) fn end(state: &mut State<CLIENTS, NODES>, index: usize, release: bool) {
        let client = &mut state.clients[index];
        let bit = 1 << (client.attempt() * REQUESTS + RELEASE);
        let Client { started, tokens, knowns, known, skew, .. } = *client;
        *client = Client { started, tokens, knowns, known, skew, ..Client::default() };
        for link in state.links_mut(index) {
            *link = Link { requests: link.requests, ..Link::default() };
            if release {
                link.requests |= bit;
            }
        }
    }

    pub(super) fn fail(&self, state: &mut State<CLIENTS, NODES>, index: usize) {
        Self::end(state, index, !self.0.lacks(Without::ReleaseOnFailure));
    }

    /// An answer to a proposal arrives.
    pub(super) fn receive(&self, state: &mut State<CLIENTS, NODES>, index: usize, node: usize, round: u8) {
        let client = &mut state.clients[index];
        let link = &mut state.nodes[node].links[index];
        let answer = std::mem::take(&mut link.answers[round as usize]);
        if self.0.is_exact() {
            let token = client.tokens[client.attempt() as usize][round as usize];
            Self::take_answer(state, index, node, token, answer);
            return self.act(state, index, false);
        }
        if let Answer::Low(last) = answer {
            client.known = client.known.max(last);
        }
        link.told = if answer == Answer::Granted { Answer::Granted } else { Answer::Refused };
        match self.decide(state, index, false) {
            Decision::Granted => self.grant(state, index),
            Decision::GiveUp(Failure::Late) => self.fail(state, index),
            // Whatever it is, clients do it at any time.
            Decision::Wait | Decision::Correct | Decision::Keep | Decision::GiveUp(_) => {}
        }
    }

    /// Does what the product's round decides.
    pub(super) fn act(&self, state: &mut State<CLIENTS, NODES>, index: usize, out_of_patience: bool) {
        let may_propose = state.clients[index].round + 1 < self.0.rounds;
        match self.decide(state, index, out_of_patience) {
            Decision::Wait => {
                if state.links(index).all(|link| link.told != Answer::None) {
                    state.broken = Some(Invariant::Progress);
                }
            }
            Decision::Granted => self.grant(state, index),
            Decision::Correct if may_propose => {
                state.clients[index].corrected = true;
                self.propose_again(state, index);
            }
            Decision::Keep if may_propose => state.clients[index].phase = Phase::Keeping,
            Decision::Correct | Decision::Keep | Decision::GiveUp(_) => self.fail(state, index),
        }
    }

    fn grant(&self, state: &mut State<CLIENTS, NODES>, index: usize) {
        let client = &state.clients[index];
        let deadline = self.lease_deadline(state.now, client);
        let (token, floor) = (client.proposed(), client.floor);
        state.broken = if !self.0.checks_tokens() {
            None
        } else if state.tokens >> token & 1 == 1 {
            Some(Invariant::Unique)
        } else if token <= floor {
            Some(Invariant::Rising)
        } else if self.0.checks_exclusion() && token <= state.highest {
            Some(Invariant::Sorted)
        } else {
            None
        };
        state.tokens |= 1 << token;
        state.highest = state.highest.max(token);
        for link in state.links_mut(index) {
            (link.answers, link.told) = ([Answer::None; 2], Answer::None);
        }
        let client = &mut state.clients[index];
        (client.phase, client.deadline, client.token) = (Phase::Holding, deadline, token);
    }

    pub(super) fn extend(&self, state: &mut State<CLIENTS, NODES>, index: usize) {
        let client = &mut state.clients[index];
        let bit = 1 << (client.attempt() * REQUESTS + FIRST_EXTENSION + client.extensions);
        client.extensions += 1;
        (client.extending, client.extension_sent) = (true, state.now);
        for node in 0..NODES {
            let asks = self.0.extends_away || self.votes(state, node);
            let link = &mut state.nodes[node].links[index];
            if asks {
                link.requests |= bit;
            }
            (link.extension, link.extension_told) = (ExtensionAnswer::None, ExtensionAnswer::None);
        }
    }

    /// An answer to an extension arrives.
    pub(super) fn receive_extension(&self, state: &mut State<CLIENTS, NODES>, index: usize, node: usize) {
        let link = &mut state.nodes[node].links[index];
        link.extension_told = std::mem::take(&mut link.extension);
        let extended =
            state.links(index).filter(|link| link.extension_told == ExtensionAnswer::Extended).count();
        if extended < majority(NODES) {
            return;
        }
        let client = &mut state.clients[index];
        if state.now < client.deadline || self.0.lacks(Without::ExtensionInTime) {
            let extended = deadline(client.extension_sent, self.0.ttl) - self.0.drift;
            client.deadline = client.deadline.max(extended);
        }
        (client.extending, client.extension_sent) = (false, 0);
        for link in state.links_mut(index) {
            (link.extension, link.extension_told) = (ExtensionAnswer::None, ExtensionAnswer::None);
        }
    }
}
