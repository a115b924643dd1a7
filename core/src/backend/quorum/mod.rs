//! Quorum locks: leases on a majority of independent Redis nodes, with one token for each.

pub mod round;
