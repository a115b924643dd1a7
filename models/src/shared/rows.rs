//! What is checked of shared locks. Three holders at a time.

use super::config::{Config, Downgrade, Fence, Shared, Tokens};
use crate::invariant::Invariant::{Admitted, Snapshot};
use crate::row::Expected::{Breaks, Holds};

const fn three(config: Config) -> Shared<3> {
    Shared(config)
}

crate::row::table! {
    long r01 "one token a phase, today's guard" Holds(3_846_222) => three(Config::default());
    short r01s "the same with 4 leases" Holds(788_918) => three(Config { leases: 4, ..Config::default() });
    long r02 "own tokens, guard with two numbers" Holds(8_493_566)
        => three(Config { tokens: Tokens::Own, fence: Fence::Two, ..Config::default() });
    long r03 "one token a phase, guard with two numbers" Holds(7_057_072)
        => three(Config { fence: Fence::Two, ..Config::default() });
    short r04 "own tokens, today's guard" Breaks(Admitted)
        => three(Config { tokens: Tokens::Own, ..Config::default() });
    short r05 "readers do not advance the fence" Breaks(Snapshot)
        => three(Config { readers_advance: false, downgrade: Downgrade::Never, ..Config::default() });
    short r06 "a downgrade keeps the writer's token" Breaks(Snapshot)
        => three(Config { downgrade: Downgrade::KeepsToken, ..Config::default() });
    short r07 "readers after a writer share its token" Breaks(Snapshot)
        => three(Config { tokens: Tokens::Writers, downgrade: Downgrade::Never, ..Config::default() });
}
