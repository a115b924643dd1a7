//! What is asked of a node, as random values. Tokens are chosen when an operation is sent: relative to the
//! clock, or to what the node has stored.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// How many names there are.
pub const NAMES: usize = 3;
/// How many owners there are.
pub const OWNERS: u64 = 3;

#[derive(Debug, Clone)]
pub enum Operation {
    /// Proposals that share a call.
    Propose(Vec<Ask>),
    /// Extensions that share a call.
    Renew(Vec<Prolong>),
    /// Leases that are released in one call: their owners and names.
    Release(Vec<(u64, Vec<usize>)>),
    ForceRelease(usize),
    /// One of two clients tells what it has, for so long (ms).
    Agree {
        client: u8,
        ttl_ms: u64,
    },
    /// Time passes (ms).
    Pass(u64),
    /// It restarts, with tokens that are behind those that it had by so much, or with nothing.
    Restart {
        older_us: Option<u64>,
    },
}

#[derive(Debug, Clone)]
pub struct Ask {
    pub owner: u64,
    pub names: Vec<usize>,
    pub ttl_ms: u64,
    pub token: Token,
    /// How far the highest known token is from the clock (µs); `None`: none is known.
    pub known: Option<i64>,
    pub waits: Waits,
}

#[derive(Debug, Clone)]
pub struct Prolong {
    pub owner: u64,
    pub names: Vec<usize>,
    pub ttl_ms: u64,
    pub token: Token,
    pub heal: bool,
}

/// Whether the owner of a proposal waits in the queues.
#[derive(Debug, Clone, Copy)]
pub enum Waits {
    Not,
    /// At a place this far from the clock (µs).
    Fair(i64),
    Unfair,
}

#[derive(Debug, Clone, Copy)]
pub enum Token {
    /// From the clock (µs).
    Clock(i64),
    /// From the last token of these names.
    Last(i64),
    /// From the highest token that is accepted if the clock is behind what is known or stored.
    Most(i64),
}

/// A sequence of operations.
pub fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        12 => vec(ask(), 1..4).prop_map(Operation::Propose),
        6 => vec(prolong(), 1..4).prop_map(Operation::Renew),
        4 => vec((owner(), names()), 1..3).prop_map(Operation::Release),
        1 => (0..NAMES).prop_map(Operation::ForceRelease),
        2 => (0..2_u8, select(vec![3_u64, 5_000]))
            .prop_map(|(client, ttl_ms)| Operation::Agree { client, ttl_ms }),
        1 => (1..5_u64).prop_map(Operation::Pass),
        1 => weighted(0.5, select(vec![0_u64, 1, 500_000, 2_000_000]))
            .prop_map(|older_us| Operation::Restart { older_us }),
    ];
    vec(operation, 1..16)
}

fn owner() -> impl Strategy<Value = u64> {
    1..=OWNERS
}

/// One or two names.
fn names() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        3 => (0..NAMES).prop_map(|name| vec![name]),
        1 => subsequence((0..NAMES).collect::<Vec<_>>(), 2).prop_shuffle(),
    ]
}

fn ttl_ms() -> impl Strategy<Value = u64> {
    select(vec![1_u64, 3, 5_000, 5_000, 7_000])
}

fn token() -> impl Strategy<Value = Token> {
    prop_oneof![
        4 => (-500_000..500_000_i64).prop_map(Token::Clock),
        1 => (-1_000_500..-999_500_i64).prop_map(Token::Clock),
        1 => (999_000..1_001_000_i64).prop_map(Token::Clock),
        1 => (-3_000_000..9_000_000_i64).prop_map(Token::Clock),
        3 => (-1..3_i64).prop_map(Token::Last),
        1 => (-1..2_i64).prop_map(Token::Most),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let known = weighted(0.4, -2_000_000..8_000_000_i64);
    let waits = prop_oneof![
        7 => Just(Waits::Not),
        2 => (-300_i64..300).prop_map(Waits::Fair),
        1 => Just(Waits::Unfair),
    ];
    (owner(), names(), ttl_ms(), token(), known, waits).prop_map(
        |(owner, names, ttl_ms, token, known, waits)| Ask { owner, names, ttl_ms, token, known, waits },
    )
}

fn prolong() -> impl Strategy<Value = Prolong> {
    (owner(), names(), ttl_ms(), token(), any::<bool>())
        .prop_map(|(owner, names, ttl_ms, token, heal)| Prolong { owner, names, ttl_ms, token, heal })
}
