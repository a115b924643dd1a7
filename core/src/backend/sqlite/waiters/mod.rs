//! Waiting for a lease in a lock file.

pub(crate) mod fair_queue;
pub(crate) mod local_waiters;
pub(crate) mod poller;
