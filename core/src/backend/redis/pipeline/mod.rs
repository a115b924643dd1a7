//! How do requests travel? In batches that share one WAIT.
//!
//! [`scheduler`] decides which requests form a batch and when a worker is needed. [`workers`] send batches,
//! in a few calls of a script followed by one WAIT, or WAITAOF for what must be on disk. [`round_trip`] sorts
//! the replies. [`proving`] waits for the proof, and settles what was written. [`wait_kick`] makes the server
//! notice when a WAIT has timed out. Requests that are alone are sent [`inline`],
//! over the connection that [`inline_connector`] makes.

pub(crate) mod batch;
#[cfg(unix)]
mod inline;
#[cfg(unix)]
pub(crate) mod inline_connector;
mod proving;
pub(crate) mod round_trip;
pub(crate) mod scheduler;
pub(crate) mod wait_kick;
pub(crate) mod workers;
