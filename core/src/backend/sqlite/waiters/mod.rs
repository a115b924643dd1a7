//! Waiting for a lease in a lock file.

pub(crate) mod local_waiters;
pub(crate) mod poller;
