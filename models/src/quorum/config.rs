//! What is modelled: the deployment, what happens to it, the bounds, and the rules that are taken away.

use super::node::{Floor, Rules};

/// What clients do between two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// After a refusal, or when time has passed, anything: they propose again, give up, or go on waiting. The
    /// product's `Round` only says when a lease is granted.
    Free,
    /// What the product's `Round` decides; the first node is home. They give up at any time, too.
    Exact,
}

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    /// At most one valid lease, and tokens that rise with the grants.
    All,
    /// At most one valid lease.
    Exclusion,
    /// Tokens differ, and a lease that was asked for after another was granted has a higher one.
    Tokens,
}

/// What a node remembers after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Nothing.
    Lost,
    /// Nothing, or any older token.
    Older,
}

/// A rule of the clients, or of the deployment, that a configuration takes away, or does the opposite of.
/// Those of the nodes are in [`Rules`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// After a failure all nodes are told to release: here none is.
    ReleaseOnFailure,
    /// An extension counts if it is proved before the old deadline: here also later.
    ExtensionInTime,
    /// The deadline counts from before sending: here from the reply.
    DeadlineFromSending,
    /// Grants of different proposals are not counted together: here they are.
    OneProposal,
    /// A request that was sent before a restart is not carried out after it: here a proxy delivers it.
    RestartGuard,
}

/// What is modelled, and its bounds. Times are in ticks.
#[derive(Debug, Clone)]
pub struct Config {
    /// What clients do between two answers.
    pub clients: Clients,
    /// Of each client; at most 2.
    pub attempts: u8,
    /// Attempts of all clients together.
    pub total: u8,
    /// Proposals of each attempt; at most 2.
    pub rounds: u8,
    /// Extensions of each attempt; at most 2.
    pub extensions: u8,
    /// The last tick.
    pub horizon: u8,
    /// Of every lease.
    pub ttl: u8,
    /// Taken off the TTL by the holder, in addition to the product's own drift.
    pub drift: u8,
    /// How much earlier than its TTL a lease may end at a node, whose clock is fast.
    pub early: u8,
    /// What nodes do. Its times are in ticks, too.
    pub rules: Rules,
    /// How long a node that lost its memory does not vote.
    pub away: u8,
    /// By how much each client's clock is ahead: all cases.
    pub client_skews: Vec<Vec<u8>>,
    /// By how much each node's clock is ahead: all cases.
    pub node_skews: Vec<Vec<u8>>,
    /// How many crashes there may be.
    pub crashes: u8,
    /// What a node remembers after a crash.
    pub memory: Memory,
    /// By how much a node's clock is ahead after a crash.
    pub crash_skew: Option<u8>,
    /// A connection delivers in order.
    pub fifo: bool,
    /// The token that every node has at the start.
    pub first_fence: u8,
    /// Nodes that do not vote are asked to extend.
    pub extends_away: bool,
    /// What is checked.
    pub checks: Checks,
    /// Whether nodes stay locked when no client is active any more is checked, too.
    pub checks_release: bool,
    /// The rules that are taken away.
    pub without: &'static [Without],
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clients: Clients::Free,
            attempts: 2,
            total: 9,
            rounds: 2,
            extensions: 0,
            horizon: 6,
            ttl: 3,
            drift: 1,
            early: 1,
            rules: Rules { slack: 2, ahead: Some(2), floor: Floor::Always, ..Rules::PRODUCT },
            away: 0,
            client_skews: vec![vec![0; 8]],
            node_skews: vec![vec![0; 8]],
            crashes: 0,
            memory: Memory::Lost,
            crash_skew: None,
            fifo: false,
            first_fence: 0,
            extends_away: false,
            checks: Checks::All,
            checks_release: false,
            without: &[],
        }
    }
}

impl Config {
    pub(super) fn lacks(&self, rule: Without) -> bool {
        self.without.contains(&rule)
    }

    pub(super) fn checks_exclusion(&self) -> bool {
        self.checks != Checks::Tokens
    }

    pub(super) fn checks_tokens(&self) -> bool {
        self.checks != Checks::Exclusion
    }

    pub(super) fn is_exact(&self) -> bool {
        self.clients == Clients::Exact
    }
}

/// The model, for so many clients and nodes.
#[derive(Debug)]
pub struct Quorum<const CLIENTS: usize, const NODES: usize>(pub Config);
