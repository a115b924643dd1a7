//! Whose a lease is, and whether its holder is alive.

pub(crate) mod holder;
pub(crate) mod liveness;
pub(crate) mod reaper;
