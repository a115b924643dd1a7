//! Runs the product's `Round` on the answers that a client has.

use std::time::Duration;

use fencelock_core::backend::quorum::round::{self, Decision, Limits, Round};
use fencelock_core::runtime::clock::BootInstant;

use super::config::{Quorum, Without};
use super::state::{Answer, Client, State};
use crate::ticks::{deadline, instant};

impl<const CLIENTS: usize, const NODES: usize> Quorum<CLIENTS, NODES> {
    /// The product's round, after the answers that the client has. The order of the answers to one proposal
    /// makes no difference.
    pub(super) fn round(state: &State<CLIENTS, NODES>, index: usize) -> Round {
        let client = &state.clients[index];
        let votes = state.links(index).map(|link| link.told != Answer::NotSent);
        let home = state.nodes.iter().position(|node| node.home);
        let (token, sent) = (client.proposed().into(), instant(client.sent));
        let mut round = Round::start(votes, home, client.known.into(), token, sent)
            .expect("nothing is sent to less than a majority");
        if client.round > 0 {
            round.again(if client.corrected { Decision::Correct } else { Decision::Keep }, token, sent);
        }
        for (node, link) in state.links(index).enumerate() {
            if let Some(answer) = product(link.told) {
                round.answer(node, token, answer);
            }
        }
        round
    }

    /// Whether the product sends a proposal at all, if these nodes vote.
    pub(super) fn is_sent(state: &State<CLIENTS, NODES>, votes: [bool; NODES]) -> bool {
        Round::start(votes, None, 0, 0, instant(state.now)).is_some()
    }

    /// What the product's round decides now.
    pub(super) fn decide(
        &self,
        state: &State<CLIENTS, NODES>,
        index: usize,
        out_of_patience: bool,
    ) -> Decision {
        let client = &state.clients[index];
        let keep_until = instant(client.sent) + instant_duration(self.0.ttl) / 4;
        let deadline = instant(self.lease_deadline(state.now, client));
        let limits = Limits { deadline, keep_until, out_of_patience };
        Self::round(state, index).decide(instant(state.now), limits)
    }

    /// An answer arrives, perhaps to an earlier proposal: the product's round says what it is worth.
    pub(super) fn take_answer(
        state: &mut State<CLIENTS, NODES>,
        index: usize,
        node: usize,
        token: u8,
        answer: Answer,
    ) {
        let mut round = Self::round(state, index);
        let answer = product(answer).expect("an answer that arrives is one");
        round.answer(node, token.into(), answer);
        state.clients[index].known = round.known() as u8;
        state.nodes[node].links[index].told = modelled(round.answers()[node]);
    }

    /// The client is about to propose again: the product's round says what the answers that it has are worth.
    pub(super) fn forget_answers(state: &mut State<CLIENTS, NODES>, index: usize) {
        let mut round = Self::round(state, index);
        let (token, sent) = (round.token(), round.sent());
        round.again(Decision::Correct, token, sent);
        for (link, &answer) in state.links_mut(index).zip(round.answers()) {
            link.told = modelled(answer);
        }
    }

    /// From which tick on the lease of the current proposal is not valid.
    pub(super) fn lease_deadline(&self, now: u8, client: &Client) -> u8 {
        let from_reply = self.0.lacks(Without::DeadlineFromSending);
        deadline(if from_reply { now } else { client.sent }, self.0.ttl) - self.0.drift
    }
}

fn instant_duration(ticks: u8) -> Duration {
    BootInstant::from_micros(0).until(instant(ticks))
}

fn product(answer: Answer) -> Option<round::Answer> {
    Some(match answer {
        Answer::None | Answer::NotSent => return None,
        Answer::Granted => round::Answer::Granted,
        Answer::Held(token) => round::Answer::Held { left: None, token: token.into() },
        Answer::Low(last) => round::Answer::Low(last.into()),
        Answer::High => round::Answer::High(0),
        Answer::Refused => round::Answer::Gone,
    })
}

fn modelled(answer: round::Answer) -> Answer {
    match answer {
        round::Answer::NotSent => Answer::NotSent,
        round::Answer::Asked => Answer::None,
        round::Answer::Granted => Answer::Granted,
        round::Answer::Held { token, .. } => Answer::Held(token as u8),
        round::Answer::Low(last) => Answer::Low(last as u8),
        round::Answer::High(_) => Answer::High,
        round::Answer::Gone => Answer::Refused,
    }
}
