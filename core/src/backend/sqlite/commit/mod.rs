//! Operations that share a transaction.

pub(crate) mod group_commit;
pub(crate) mod operations;
