//! What is checked of the quorum strategy.

use super::config::{Checks, Clients, Config, Memory, Quorum, Without};
use super::node::{Floor, Rules};
use crate::invariant::Invariant::{Exclusion, Order, Released, Rising, Sorted, Unique};
use crate::row::Expected::{Breaks, Holds};
use crate::ticks::{combinations, sorted_combinations};

const fn two_of_three(config: Config) -> Quorum<2, 3> {
    Quorum(config)
}

const fn two_of_five(config: Config) -> Quorum<2, 5> {
    Quorum(config)
}

const fn three_of_three(config: Config) -> Quorum<3, 3> {
    Quorum(config)
}

/// Two clients, one attempt of one proposal each.
fn drifting() -> Config {
    Config { attempts: 1, rounds: 1, ..Config::default() }
}

/// The same with leases of 2 ticks, which end in time.
fn once() -> Config {
    Config { ttl: 2, drift: 0, early: 0, horizon: 5, ..drifting() }
}

/// Three attempts.
fn thrice() -> Config {
    Config { attempts: 2, total: 3, ..once() }
}

/// Tokens may be behind by a tick, and ahead by a tick.
fn near() -> Rules {
    Rules { slack: 1, ahead: Some(1), ..Config::default().rules }
}

/// A node crashes, and is away for 2 ticks.
fn crash() -> Config {
    Config { crashes: 1, away: 2, rules: near(), ..once() }
}

/// Tokens only: a node crashes, and is away for so long. Exclusion is given up.
fn away(ticks: u8) -> Config {
    Config {
        rounds: 2,
        away: ticks,
        horizon: ticks,
        fifo: true,
        checks: Checks::Tokens,
        client_skews: combinations(2, &[0, 2]),
        node_skews: vec![vec![1; 3]],
        ..crash()
    }
}

/// Tokens only: a client's clock is 4 ticks behind, a node crashes and is away for 3.
fn behind() -> Config {
    Config {
        away: 3,
        horizon: 4,
        fifo: true,
        first_fence: 1,
        checks: Checks::Tokens,
        client_skews: vec![vec![4, 0], vec![0, 4]],
        node_skews: vec![vec![4; 3]],
        ..crash()
    }
}

/// Leases are extended and healed, a node crashes and is away for 3 ticks.
fn extended() -> Config {
    Config { extensions: 1, away: 3, fifo: true, ..crash() }
}

/// Clients do what the product's `Round` decides.
fn exact() -> Config {
    Config { clients: Clients::Exact, rounds: 2, ..once() }
}

crate::row::table! {
    // What holds.
    long q01 "2x3, 1 attempt, 1 round, ttl 3 drift 1" Holds(2_102_668) => two_of_three(drifting());
    short q01b "2x3, 1 attempt, 1 round" Holds(660_674) => two_of_three(once());
    long q02 "2x3, 1 attempt, 2 rounds" Holds(9_181_621) => two_of_three(Config { rounds: 2, ..once() });
    long q03 "2x3, 3 attempts, 1 round, fifo" Holds(4_546_641)
        => two_of_three(Config { fifo: true, ..thrice() });
    short q03s "the same, T 3" Holds(496_066) => two_of_three(Config { fifo: true, horizon: 3, ..thrice() });
    long q04 "2x3, 3 attempts, 1 round" Holds(18_521_224) => two_of_three(thrice());
    long q07 "2x3, 1 attempt, 1 extension that heals" Holds(2_879_017)
        => two_of_three(Config { extensions: 1, ..once() });
    long q08 "2x3, crash without memory, 2 rounds, away 2, fifo, T 4" Holds(27_151_851)
        => two_of_three(Config { rounds: 2, horizon: 4, fifo: true, ..crash() });
    long q09 "2x3, 3 attempts, crash, away 2, fifo, T 3" Holds(4_006_003)
        => two_of_three(Config { attempts: 2, total: 3, horizon: 3, fifo: true, ..crash() });
    long q11 "2x3, two crashes, away 2, T 4, fifo" Holds(8_469_962)
        => two_of_three(Config { crashes: 2, horizon: 4, fifo: true, ..crash() });
    long q12 "2x3, crash with older memory, away 2, T 4" Holds(2_419_587)
        => two_of_three(Config { memory: Memory::Older, horizon: 4, ..crash() });
    long q05 "3x3, 1 attempt, 1 round, fifo, T 3" Holds(9_035_146)
        => three_of_three(Config { horizon: 3, fifo: true, ..once() });
    long q10 "2x3, skews 0..1 everywhere, 1 attempt, 2 rounds" Holds(44_286_441) => two_of_three(Config {
        rounds: 2,
        client_skews: combinations(2, &[0, 1]),
        node_skews: sorted_combinations(3, &[0, 1]),
        horizon: 3,
        ..once()
    });
    short n5a "2x5, 1 attempt, 1 round, fifo, T 2" Holds(221_530)
        => two_of_five(Config { horizon: 2, fifo: true, ..once() });
    long n5b "2x5, 1 attempt, 1 round, fifo, T 4" Holds(7_929_212)
        => two_of_five(Config { horizon: 4, fifo: true, ..once() });
    short c3a "3x3, 1 attempt, 1 round, fifo, T 2" Holds(1_302_544)
        => three_of_three(Config { horizon: 2, fifo: true, ..once() });
    // Clients that do what the product decides.
    short k01 "2x3, clients decide as the product, 1 attempt, 2 rounds, fifo, T 0" Holds(18_313)
        => two_of_three(Config { horizon: 0, fifo: true, ..exact() });
    short k02 "the same, clocks differ by 1, not fifo" Holds(192_998)
        => two_of_three(Config { horizon: 0, client_skews: combinations(2, &[0, 1]), ..exact() });
    short k03 "the same, fifo, two crashes, away 2" Holds(134_829)
        => two_of_three(Config { crashes: 2, away: 2, horizon: 0, fifo: true, ..exact() });
    long k04 "the same, one crash, T 2" Holds(12_285_762)
        => two_of_three(Config { crashes: 1, away: 2, horizon: 2, fifo: true, ..exact() });
    // What fails without its rule, or without its assumption.
    short m01 "equal token accepted" Breaks(Unique) => two_of_three(Config {
        rules: Rules { strictly_above: false, ..once().rules }, checks: Checks::Tokens, ..thrice()
    });
    short m02 "a node without memory accepts anything" Breaks(Unique) => two_of_three(Config {
        rules: Rules { floor: Floor::Never, ..once().rules },
        crashes: 1,
        checks: Checks::Tokens,
        client_skews: combinations(2, &[0, 1]),
        ..thrice()
    });
    short m03 "no delayed restart" Breaks(Exclusion)
        => two_of_three(Config { crashes: 1, checks: Checks::Exclusion, ..once() });
    short m04 "delayed restart shorter than the TTL" Breaks(Exclusion)
        => two_of_three(Config { crashes: 1, away: 1, ..once() });
    short m05 "plain DEL on rollback" Breaks(Exclusion)
        => two_of_three(Config { rules: Rules { compares_owner: false, ..once().rules }, ..thrice() });
    short m06 "minority grants are not released" Breaks(Released) => two_of_three(Config {
        fifo: true, checks_release: true, without: &[Without::ReleaseOnFailure], ..once()
    });
    short m06_released "the same with release on all" Holds(501_318)
        => two_of_three(Config { fifo: true, checks_release: true, ..once() });
    short m07 "extension revives a lease past its deadline" Breaks(Order) => two_of_three(Config {
        extensions: 1, horizon: 3, without: &[Without::ExtensionInTime], ..once()
    });
    long m08 "extension sets the fence to its token" Breaks(Unique) => two_of_three(Config {
        rounds: 2,
        extensions: 1,
        rules: Rules { raises_fence: false, ..once().rules },
        horizon: 0,
        checks: Checks::Tokens,
        client_skews: vec![vec![0, 1]],
        ..thrice()
    });
    short m09 "deadline counted from the reply" Breaks(Exclusion)
        => two_of_three(Config { without: &[Without::DeadlineFromSending], ..once() });
    short m10 "grants of different proposals counted together" Breaks(Unique) => two_of_three(Config {
        rounds: 2, checks: Checks::Tokens, without: &[Without::OneProposal], ..thrice()
    });
    long m11 "no cap, a client's clock 4 ahead, a crash" Breaks(Unique) => two_of_three(Config {
        rules: Rules { ahead: None, ..near() },
        crashes: 1,
        away: 4,
        horizon: 6,
        checks: Checks::Tokens,
        client_skews: vec![vec![4, 0]],
        ..thrice()
    });
    short m13 "a node's clock steps forward" Breaks(Exclusion) => two_of_three(Config { early: 2, ..once() });
    short m13b "the same, ttl 3, drift 1, node 2 early" Breaks(Exclusion)
        => two_of_three(Config { early: 2, ..drifting() });
    short m14 "a proxy delivers requests of before to a restarted node" Breaks(Sorted)
        => two_of_three(Config { horizon: 3, without: &[Without::RestartGuard], ..crash() });
    // Tokens after a crash: how long ago must the last one be?
    short t00 "tokens: crash, slack 1, ahead 1, away for 0" Breaks(Unique) => two_of_three(away(0));
    short t01 "tokens: crash, slack 1, ahead 1, away for 1" Breaks(Unique) => two_of_three(away(1));
    long t02 "tokens: crash, slack 1, ahead 1, away for 2" Holds(2_531_516) => two_of_three(away(2));
    long t03 "tokens: crash, slack 1, ahead 1, away for 3" Holds(14_770_144) => two_of_three(away(3));
    long t10 "a client's clock 4 behind, crash, away for 3" Holds(5_639_670) => two_of_three(behind());
    short t11 "the same without floor" Breaks(Rising)
        => two_of_three(Config { rules: Rules { floor: Floor::Never, ..near() }, ..behind() });
    short t12 "the same, floor if missing, older memory" Breaks(Rising) => two_of_three(Config {
        rules: Rules { floor: Floor::IfMissing, ..near() }, memory: Memory::Older, ..behind()
    });
    long t13 "the same, floor always, older memory" Holds(5_687_553)
        => two_of_three(Config { memory: Memory::Older, ..behind() });
    long t13s "the same, T 3" Holds(1_246_298)
        => two_of_three(Config { memory: Memory::Older, horizon: 3, ..behind() });
    long t14 "a node's clock goes back in the crash, others right" Holds(5_610_251)
        => two_of_three(Config { crash_skew: Some(0), ..behind() });
    short t15 "the same, and another node's clock is behind" Breaks(Rising) => two_of_three(Config {
        crash_skew: Some(0), node_skews: vec![vec![0, 4, 4]], ..behind()
    });
    // Extensions, and nodes that do not vote.
    long e01 "extension, heal, crash, quarantine 3" Holds(11_433_317) => two_of_three(extended());
    long e02 "the same, extended in quarantine, too" Holds(13_618_818)
        => two_of_three(Config { extends_away: true, ..extended() });
    long e03 "the same, two crashes" Holds(54_554_000)
        => two_of_three(Config { extends_away: true, crashes: 2, ..extended() });
}
