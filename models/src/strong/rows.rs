//! What is checked of the strong strategy. Two clients.

use super::config::{Acks, Checks, Config, Strong, Without};
use crate::invariant::Invariant::{Exclusion, Fenced, Rising, Unique};
use crate::row::Expected::{Breaks, Holds};

const fn two(config: Config) -> Strong<2> {
    Strong(config)
}

/// Three attempts.
fn full() -> Config {
    Config::default()
}

/// One attempt of each client, up to tick 3.
fn quick() -> Config {
    Config { total: 2, attempts: 1, horizon: 3, ..full() }
}

/// Only what a guard sees: with one acknowledgement, and an old primary that dies.
fn stale() -> Config {
    Config { acks: Acks::Declared(1), split: false, checks: Checks::Fenced, ..quick() }
}

crate::row::table! {
    // What holds.
    short s00 "acks all, one failover, split, 1 attempt each" Holds(174_700) => two(quick());
    long s01 "acks all, one failover, split, 3 attempts, T 3" Holds(8_707_292)
        => two(Config { horizon: 3, ..full() });
    long s01b "acks all, one failover, split, 3 attempts, T 4" Holds(18_891_874)
        => two(Config { horizon: 4, ..full() });
    short s05 "acks all, extension proved, T 4" Holds(494_593)
        => two(Config { extensions: 1, horizon: 4, ..quick() });
    short s06 "acks all, clocks differ by 1, ttl 3 drift 1" Holds(1_617_065) => two(Config {
        ttl: 3, drift: 1, skews: &[[0, 1, 0], [1, 0, 0], [0, 1, 1], [1, 0, 1]], horizon: 4, ..quick()
    });
    long s07 "acks 1, old primary dies, failover takes 3 ticks: tokens" Holds(6_019_584) => two(Config {
        failover_ticks: 3, acks: Acks::Declared(1), split: false, checks: Checks::Tokens, ..full()
    });
    long s08 "acks 0, old primary dies, failover takes 3 ticks: tokens" Holds(8_638_732) => two(Config {
        failover_ticks: 3, acks: Acks::Declared(0), split: false, checks: Checks::Tokens, ..full()
    });
    short s09 "acks all, the clocks of replicas 1 behind: tokens" Holds(228_519)
        => two(Config { skews: &[[1, 0, 0]], checks: Checks::Tokens, ..quick() });
    long s10 "acks all, primary restarts empty in 3 ticks: tokens" Holds(3_646_882) => two(Config {
        restart_ticks: 3, restarts: 1, failovers: 0, first_fence: 3, checks: Checks::Tokens, ..full()
    });
    short s11 "handed over, adopted, one failover, split, 1 attempt each" Holds(179_410)
        => two(Config { hands_over: true, ..quick() });
    short s12 "handed over, adopted twice, no failover, 3 attempts, T 3" Holds(869_712)
        => two(Config { hands_over: true, failovers: 0, horizon: 3, ..full() });
    long s13 "handed over, adopted twice, one failover, split, 3 attempts, T 3" Holds(9_550_362)
        => two(Config { hands_over: true, horizon: 3, ..full() });
    // What needs its assumption.
    short x01 "acks 1, a replica without the lease is promoted" Breaks(Exclusion) => two(Config {
        acks: Acks::Declared(1), split: false, checks: Checks::Exclusion, ..quick()
    });
    short x02 "acks 1, the same in less than a tick: tokens" Breaks(Unique) => two(Config {
        acks: Acks::Declared(1), failover_ticks: 0, split: false, checks: Checks::Tokens, ..quick()
    });
    short x03 "acks 1, clocks of replicas 2 behind: tokens" Breaks(Rising) => two(Config {
        acks: Acks::Declared(1), skews: &[[2, 0, 0]], split: false, checks: Checks::Tokens, ..quick()
    });
    short x04 "acks 1, both halves of a split grant: equal tokens" Breaks(Unique)
        => two(Config { acks: Acks::Declared(1), checks: Checks::Tokens, ..quick() });
    short x05 "acks all, primary restarts empty" Breaks(Exclusion)
        => two(Config { restarts: 1, failovers: 0, checks: Checks::Exclusion, ..quick() });
    short x06 "clock of a replica 1 ahead, no drift" Breaks(Exclusion)
        => two(Config { skews: &[[0, 1, 0]], ..quick() });
    // What fails without its rule.
    short m01 "SET, then the token, as two commands" Breaks(Exclusion)
        => two(Config { without: &[Without::OneCommand], ..quick() });
    short m01a "acks 1: a stale holder never has the higher token" Holds(42_564) => two(stale());
    short m01b "the same with two commands" Breaks(Fenced)
        => two(Config { without: &[Without::OneCommand], ..stale() });
    long m01c "two commands, no failover" Holds(24_731_846)
        => two(Config { without: &[Without::OneCommand], failovers: 0, ..full() });
    short m01d "two commands, no failover, late grants used" Breaks(Exclusion) => two(Config {
        without: &[Without::OneCommand, Without::DiscardedLateGrants, Without::DeadlineFromSending],
        failovers: 0,
        ..quick()
    });
    long m02 "plain DEL on rollback, no failover" Breaks(Exclusion)
        => two(Config { without: &[Without::ComparedDelete], failovers: 0, ..full() });
    short m03 "observed instead of declared replicas" Breaks(Exclusion)
        => two(Config { acks: Acks::Observed, ..quick() });
    short m03b "the same: tokens" Breaks(Unique)
        => two(Config { acks: Acks::Observed, checks: Checks::Tokens, ..quick() });
    short m04 "WAIT on another connection" Breaks(Exclusion) => two(Config {
        without: &[Without::SameConnection], checks: Checks::Exclusion, ..quick()
    });
    short m05 "deadline counted from the reply, no failover" Breaks(Exclusion)
        => two(Config { without: &[Without::DeadlineFromSending], failovers: 0, ..quick() });
    short m06 "extension counted without proof" Breaks(Exclusion) => two(Config {
        without: &[Without::ProvedExtension], extensions: 1, horizon: 4, ..quick()
    });
    short m07 "token = last + 1, primary restarts empty" Breaks(Unique) => two(Config {
        without: &[Without::Clock], restarts: 1, failovers: 0, checks: Checks::Tokens, ..full()
    });
    short m08 "adopted without a look at the owner, no failover" Breaks(Exclusion) => two(Config {
        without: &[Without::ComparedOwner], hands_over: true, failovers: 0, horizon: 3, ..full()
    });
    short m09 "the handle goes on after the hand-over, no failover" Breaks(Exclusion) => two(Config {
        without: &[Without::EndedHandle], hands_over: true, failovers: 0, ..quick()
    });
    long m10 "an adoption undone without a look at the owner, no failover" Breaks(Exclusion) => two(Config {
        without: &[Without::ComparedGiveBack],
        hands_over: true,
        failovers: 0,
        total: 4,
        horizon: 4,
        ..full()
    });
    short m07b "token = last + 1, acks 1, failover" Breaks(Unique) => two(Config {
        without: &[Without::Clock],
        acks: Acks::Declared(1),
        split: false,
        checks: Checks::Tokens,
        ..full()
    });
}
