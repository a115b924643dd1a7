//! Operations on the leases, and the transactions they share.

pub(crate) mod committer;
pub(crate) mod group_commit;
pub(crate) mod operations;
pub(crate) mod queries;
