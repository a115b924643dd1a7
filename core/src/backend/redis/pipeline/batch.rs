//! Requests that travel together, and the outcome of each.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::backend::redis::protocol::lease_args::LeaseArgs;
use crate::error::Error;
use crate::runtime::clock::BootInstant;
use crate::runtime::undo::IfMissing;

/// Requests, in the order of their arrival.
pub(crate) type RequestBatch = Vec<BatchEntry>;

/// One request of a batch.
pub(crate) struct BatchEntry {
    pub lease: LeaseArgs,
    pub done: oneshot::Sender<LeaseOutcome>,
}

/// The outcome of one request.
#[derive(Debug, Clone)]
pub(crate) enum LeaseOutcome {
    /// Written, and acknowledged by this number of replicas, perhaps fewer than required.
    Written { reply: i64, sent: BootInstant, acks: u32 },
    /// Nothing was written, because another owner has a resource.
    Declined(i64),
    /// Nothing was written, or even sent.
    Refused(Error),
    /// Perhaps written, and it cannot be proved: undo it. The error is for the caller.
    Undo(Error, IfMissing),
    /// Unknown, for this reason.
    Unknown(Arc<str>),
}

pub(crate) fn settle(entry: BatchEntry, outcome: LeaseOutcome) {
    // By contract callers wait for the outcome. If one does not, its lease expires.
    let _ = entry.done.send(outcome);
}

pub(crate) fn settle_all(entries: RequestBatch, outcome: &LeaseOutcome) {
    for entry in entries {
        settle(entry, outcome.clone());
    }
}
