//! The holders of leases, and whether they are alive.

pub(crate) mod holder;
pub(crate) mod liveness;
pub(crate) mod mark;
