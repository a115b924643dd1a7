//! What do the answers to a proposal decide? Decisions only: no I/O, no clock, no randomness, so that the
//! models run this very type.
//!
//! A *proposal* is an owner and a token. A *round* is one proposal, sent to all nodes that vote. A lease is
//! granted when a majority of all nodes has accepted the same proposal before its deadline; grants of
//! different rounds are never counted together.

#![warn(missing_docs)]

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::runtime::clock::BootInstant;

/// How often a proposal is repeated at once, because its token was too low or too high.
const MAX_CORRECTIONS: u8 = 3;
/// How often a proposal is repeated by the owner that has the home node.
const MAX_KEEPS: u8 = 8;

/// What a node said to the proposal of this round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It is not asked: it cannot be reached, or may not vote yet.
    NotSent,
    /// It has not answered yet.
    Asked,
    /// It accepted the proposal.
    Granted,
    /// Another owner has it, or waiters are before this one.
    Held {
        /// For how much longer, if that is known.
        left: Option<Duration>,
        /// The last token that the node accepted.
        token: u64,
    },
    /// The token must be above this one.
    Low(u64),
    /// The token is too far above this one, the highest that may be.
    High(u64),
    /// There will be no answer.
    Gone,
}

/// One attempt to get a lease: the current round, and how many there were.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Round {
    need: usize,
    token: u64,
    known: u64,
    sent: BootInstant,
    answers: Vec<Answer>,
    home: Option<usize>,
    corrections: u8,
    keeps: u8,
}

/// Until when things are possible.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// When the lease of this round is over for its holder.
    pub deadline: BootInstant,
    /// Until when a split vote is settled by repeating the proposal.
    pub keep_until: BootInstant,
    /// Whether to decide without the answers that are missing.
    pub out_of_patience: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// More answers may come, and matter.
    Wait,
    /// The lease is granted.
    Granted,
    /// Propose again, at once, with a token above [`Round::known`], by the clocks as the nodes have just told
    /// them.
    Correct,
    /// Propose again in a moment: others are about to release the nodes that they have.
    Keep,
    /// Release it on all nodes that were asked, and report this.
    GiveUp(Failure),
}

/// Why an attempt was not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A majority granted it, after its deadline.
    Late,
    /// Another owner has it, or will get it; for how much longer, if that is known.
    Busy(Option<Duration>),
    /// Too few nodes granted it, and what the others did, if they did not answer, does not matter.
    TooFew,
    /// Too few nodes granted it as far as is known, but with those that did not answer they may be a
    /// majority.
    Undecided,
}

impl Round {
    /// The first round. `votes`: for each node whether it may be asked. `home`: the node at which contenders
    /// meet. `None`: too few nodes may be asked, so nothing must be sent.
    pub fn start(
        votes: impl IntoIterator<Item = bool>,
        home: Option<usize>,
        known: u64,
        token: u64,
        sent: BootInstant,
    ) -> Option<Self> {
        let ask = |votes| if votes { Answer::Asked } else { Answer::NotSent };
        let answers: Vec<_> = votes.into_iter().map(ask).collect();
        let need = majority(answers.len());
        let asked = answers.iter().filter(|&&answer| answer == Answer::Asked).count();
        let round = Self { need, token, known, sent, answers, home, corrections: 0, keeps: 0 };
        (asked >= need).then_some(round)
    }

    /// The next round of the same owner, after [`Decision::Correct`] or [`Decision::Keep`]. Grants of the
    /// round before are worth nothing.
    pub fn again(&mut self, after: Decision, token: u64, sent: BootInstant) {
        match after {
            Decision::Correct => self.corrections += 1,
            _ => self.keeps += 1,
        }
        (self.token, self.sent) = (token, sent);
        for answer in self.answers.iter_mut().filter(|answer| **answer != Answer::NotSent) {
            *answer = Answer::Asked;
        }
    }

    /// A node answered the proposal with this token. Answers to an earlier one only tell a token.
    pub fn answer(&mut self, node: usize, token: u64, answer: Answer) {
        if let Answer::Held { token, .. } | Answer::Low(token) = answer {
            self.known = self.known.max(token);
        }
        if token == self.token && self.answers[node] == Answer::Asked {
            self.answers[node] = answer;
        }
    }

    /// What the answers so far decide.
    pub fn decide(&self, now: BootInstant, limits: Limits) -> Decision {
        let granted = self.count(|answer| answer == Answer::Granted);
        let asked = self.count(|answer| answer == Answer::Asked);
        if granted >= self.need {
            let in_time = now < limits.deadline;
            return if in_time { Decision::Granted } else { Decision::GiveUp(Failure::Late) };
        }
        if granted + asked >= self.need && !limits.out_of_patience {
            return Decision::Wait;
        }
        let refused = self.count(|answer| matches!(answer, Answer::Low(_) | Answer::High(_)));
        if refused > 0 && self.corrections < MAX_CORRECTIONS {
            if granted + refused >= self.need {
                return Decision::Correct;
            }
            // Whether another token is worth proposing, and which, the others say.
            if granted + refused + asked >= self.need && !limits.out_of_patience {
                return Decision::Wait;
            }
        }
        let at_home = self.home.map_or(Answer::NotSent, |home| self.answers[home]);
        let may_keep = self.keeps < MAX_KEEPS && now < limits.keep_until;
        if may_keep && self.is_contended() && self.leased_token().is_none() {
            match at_home {
                Answer::Granted => return Decision::Keep,
                // If this owner has it, and gave way, all contenders might.
                Answer::Asked if !limits.out_of_patience => return Decision::Wait,
                _ => {}
            }
        }
        let mut left: Vec<_> = self.held().map(|(left, _)| left.unwrap_or(Duration::MAX)).collect();
        // So many must become free before a majority is.
        let spare = self.answers.len() - self.need;
        Decision::GiveUp(if left.len() > spare {
            left.sort_unstable();
            let enough = left[left.len() - spare - 1];
            Failure::Busy(Some(enough).filter(|&left| left < Duration::MAX))
        } else if let Answer::Held { left, .. } = at_home {
            Failure::Busy(left)
        } else if !left.is_empty() && granted + left.len() + asked >= self.need {
            // Those that did not answer were given little time, because others want the same.
            Failure::Busy(left.into_iter().min().filter(|&left| left < Duration::MAX))
        } else if granted + self.count(|answer| matches!(answer, Answer::Asked | Answer::Gone)) >= self.need {
            Failure::Undecided
        } else {
            Failure::TooFew
        })
    }

    /// How many nodes must grant it: more than half of all.
    pub const fn need(&self) -> usize {
        self.need
    }

    /// The token of the current proposal.
    pub const fn token(&self) -> u64 {
        self.token
    }

    /// The highest token that a node has told, or that the caller demands to be above.
    pub const fn known(&self) -> u64 {
        self.known
    }

    /// The moment before the first byte of this round was sent.
    pub const fn sent(&self) -> BootInstant {
        self.sent
    }

    /// What each node said.
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// Whether contenders have nodes, so that waiting for others keeps them waiting, too.
    pub fn is_contended(&self) -> bool {
        self.held().next().is_some()
    }

    /// The token of the lease that a majority holds, so that it is not a contender's that failed.
    pub fn leased_token(&self) -> Option<u64> {
        self.held().map(|(_, token)| token).find(|&token| self.with(token) >= self.need)
    }

    /// The tokens that may be that of the lease: of each owner that has a majority together with the nodes
    /// that said nothing.
    pub fn possible_tokens(&self) -> Vec<u64> {
        let silent = |answer| matches!(answer, Answer::NotSent | Answer::Asked | Answer::Gone);
        let unknown = self.count(silent);
        let mut tokens: Vec<_> = self.held().map(|(_, token)| token).collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens.retain(|&token| self.with(token) + unknown >= self.need);
        tokens
    }

    /// Whether several owners have nodes, and one of them may have a majority with those that have not
    /// answered.
    pub fn may_be_leased(&self) -> bool {
        let asked = self.count(|answer| answer == Answer::Asked);
        let held = self.held().count();
        let may_be = |token| self.with(token) < held && self.with(token) + asked >= self.need;
        self.leased_token().is_none() && self.held().any(|(_, token)| may_be(token))
    }

    /// How many nodes this token has.
    fn with(&self, token: u64) -> usize {
        self.held().filter(|&(_, other)| other == token).count()
    }

    fn held(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        self.answers.iter().filter_map(|answer| match *answer {
            Answer::Held { left, token } => Some((left, token)),
            _ => None,
        })
    }

    fn count(&self, is: impl Fn(Answer) -> bool) -> usize {
        self.answers.iter().filter(|&&answer| is(answer)).count()
    }
}

/// More than half of this many nodes.
pub const fn majority(nodes: usize) -> usize {
    nodes / 2 + 1
}
