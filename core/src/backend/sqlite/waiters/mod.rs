//! Who waits for a lease in a lock file.

pub(crate) mod fair_queue;
pub(crate) mod poller;
