//! The state of nodes and clients, with the messages between them; and the steps.

use std::fmt::Write;

use super::node::{Lease, Stored};
use crate::invariant::Invariant;
use crate::ticks::EPOCH;

/// The requests of an attempt, as bits: two proposals, two extensions, one release.
pub(super) const REQUESTS: u8 = 5;
pub(super) const FIRST_EXTENSION: u8 = 2;
pub(super) const RELEASE: u8 = 4;

/// A node's answer to a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Answer {
    /// There is none yet.
    #[default]
    None,
    /// Accepted.
    Granted,
    /// Another owner has it; the last token that the node accepted.
    Held(u8),
    /// The token is too far ahead.
    High,
    /// The token must be above this one.
    Low(u8),
    /// Refused, for any reason.
    Refused,
    /// The node was not asked.
    NotSent,
}

/// A node's answer to an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum ExtensionAnswer {
    /// There is none yet.
    #[default]
    None,
    /// Extended, or healed.
    Extended,
    /// Another owner has it.
    Refused,
}

/// What is between one node and one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Link {
    /// The requests under way.
    pub(super) requests: u16,
    /// The answers under way, to each proposal of the attempt.
    pub(super) answers: [Answer; 2],
    /// The answer to the current proposal that the client has.
    pub(super) told: Answer,
    /// The answer to the extension that is under way.
    pub(super) extension: ExtensionAnswer,
    /// The answer to the extension that the client has.
    pub(super) extension_told: ExtensionAnswer,
}

/// A node. The fields' order is the one in which nodes are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node<const CLIENTS: usize> {
    /// The owner; 0: it is free.
    pub(super) lock: u8,
    pub(super) until: u8,
    /// The last token; 0: none.
    pub(super) fence: u8,
    /// The tick after its restart; 0: there was none.
    pub(super) restarted: u8,
    /// By how much its clock is ahead.
    pub(super) skew: u8,
    pub(super) home: bool,
    pub(super) links: [Link; CLIENTS],
}

impl<const CLIENTS: usize> Node<CLIENTS> {
    /// What it has stored, by its own clock.
    pub(super) fn stored(&self) -> Stored {
        let until = u64::from(self.until + EPOCH + self.skew);
        let lease = (self.lock != 0).then_some(Lease { owner: self.lock.into(), until });
        Stored { lease, fence: self.fence.into() }
    }

    pub(super) fn store(&mut self, stored: Stored) {
        let offset = u64::from(EPOCH + self.skew);
        (self.lock, self.until) =
            stored.lease.map_or((0, 0), |lease| (lease.owner as u8, (lease.until - offset) as u8));
        self.fence = stored.fence as u8;
    }

    /// Now, by its clock.
    pub(super) fn clock(&self, now: u8) -> u64 {
        u64::from(now + EPOCH + self.skew)
    }

    pub(super) const fn free(&mut self) {
        (self.lock, self.until) = (0, 0);
    }
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Phase {
    /// There is none.
    #[default]
    Idle,
    /// A proposal was sent.
    Proposing,
    /// The next proposal will be sent in a moment, because it has the home node.
    Keeping,
    /// It has the lease.
    Holding,
}

/// A client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Client {
    pub(super) phase: Phase,
    /// How many attempts it has begun.
    pub(super) started: u8,
    /// Which proposal of the attempt is the current one.
    pub(super) round: u8,
    /// Whether the second proposal was made because the first one's token was low.
    pub(super) corrected: bool,
    /// The tokens of the proposals of each attempt.
    pub(super) tokens: [[u8; 2]; 2],
    /// What was known when they were sent.
    pub(super) knowns: [[u8; 2]; 2],
    pub(super) sent: u8,
    pub(super) deadline: u8,
    /// The highest token that a node told.
    pub(super) known: u8,
    /// The highest token that had been granted when the proposal was sent.
    pub(super) floor: u8,
    /// Of the lease.
    pub(super) token: u8,
    /// How many extensions of the lease were sent.
    pub(super) extensions: u8,
    pub(super) extending: bool,
    pub(super) extension_sent: u8,
    /// By how much its clock is ahead.
    pub(super) skew: u8,
}

impl Client {
    /// The attempt that is under way, or that has the lease.
    pub(super) const fn attempt(&self) -> u8 {
        self.started - 1
    }

    /// The token of the current proposal.
    pub(super) const fn proposed(&self) -> u8 {
        self.tokens[self.attempt() as usize][self.round as usize]
    }

    pub(super) fn is_proposing(&self) -> bool {
        matches!(self.phase, Phase::Proposing | Phase::Keeping)
    }

    pub(super) fn has_valid_lease(&self, now: u8) -> bool {
        self.phase == Phase::Holding && now < self.deadline
    }
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State<const CLIENTS: usize, const NODES: usize> {
    pub(super) now: u8,
    pub(super) nodes: [Node<CLIENTS>; NODES],
    pub(super) clients: [Client; CLIENTS],
    /// The tokens that were granted, as bits.
    pub(super) tokens: u64,
    /// The highest of them.
    pub(super) highest: u8,
    pub(super) crashes: u8,
    /// What the last step did wrong.
    pub(super) broken: Option<Invariant>,
}

impl<const CLIENTS: usize, const NODES: usize> State<CLIENTS, NODES> {
    /// How many attempts all clients have begun.
    pub(super) fn started(&self) -> u8 {
        self.clients.iter().map(|client| client.started).sum()
    }

    /// What is between a client and all nodes.
    pub(super) fn links(&self, client: usize) -> impl Iterator<Item = &Link> {
        self.nodes.iter().map(move |node| &node.links[client])
    }

    pub(super) fn links_mut(&mut self, client: usize) -> impl Iterator<Item = &mut Link> {
        self.nodes.iter_mut().map(move |node| &mut node.links[client])
    }

    /// How many nodes have granted a client's proposal, as far as it knows.
    pub(super) fn granted(&self, client: usize) -> usize {
        self.links(client).filter(|link| link.told == Answer::Granted).count()
    }

    /// One line.
    pub(super) fn line(&self) -> String {
        let mut line = format!("t={}", self.now);
        for (index, client) in self.clients.iter().enumerate() {
            let _ = write!(line, " | client {index} {:?}", client.phase);
            let _ = match client.phase {
                Phase::Idle => Ok(()),
                Phase::Holding => write!(line, " token {} until {}", client.token, client.deadline),
                _ => write!(line, " token {} since {}", client.proposed(), client.sent),
            };
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let _ = match node.lock {
                0 => write!(line, " | node {index} free"),
                owner => write!(line, " | node {index} owner {owner} until {}", node.until),
            };
            let _ = write!(line, ", fence {}", node.fence);
            if node.restarted > 0 {
                let _ = write!(line, ", restarted at {}", node.restarted - 1);
            }
        }
        line
    }
}

/// A step.
#[derive(Debug, Clone, Copy)]
pub enum Action {
    /// Time passes.
    Tick,
    /// A client begins an attempt, and proposes.
    Start(usize),
    /// A client proposes again.
    ProposeAgain(usize),
    /// A client decides without the answers that are missing.
    LosePatience(usize),
    /// A client gives up.
    Fail(usize),
    /// A holder releases.
    Release(usize),
    /// A holder extends.
    Extend(usize),
    /// A request arrives at a node.
    Deliver {
        /// Whose.
        client: usize,
        /// Where.
        node: usize,
        /// Which one.
        request: u8,
    },
    /// An answer arrives at a client.
    Answer {
        /// Where.
        client: usize,
        /// From which node.
        node: usize,
        /// To which proposal.
        round: u8,
    },
    /// The answer to an extension arrives at a client.
    ExtensionAnswer {
        /// Where.
        client: usize,
        /// From which node.
        node: usize,
    },
    /// A node restarts, and remembers no lease and only this token.
    Crash {
        /// Which.
        node: usize,
        /// 0: none.
        fence: u8,
    },
    /// A lease ends early at a node.
    EndEarly(usize),
}
