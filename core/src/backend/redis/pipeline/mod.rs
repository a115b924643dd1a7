//! Batches of requests that share a `WAIT`.

pub(crate) mod batch;
pub(crate) mod round_trip;
pub(crate) mod scheduler;
pub(crate) mod wait_kick;
pub(crate) mod workers;
