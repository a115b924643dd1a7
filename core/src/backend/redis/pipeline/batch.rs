//! Requests that travel together, and the outcome of each.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::backend::redis::protocol::lease_args::LeaseArgs;
use crate::backend::redis::protocol::replies::proof::Received;
use crate::backend::redis::protocol::replies::redirect::Elsewhere;
use crate::error::Error;
use crate::lease::AckPolicy;
use crate::runtime::clock::BootInstant;

/// Requests, in the order of their arrival.
pub(crate) type RequestBatch = Vec<BatchEntry>;

/// One request of a batch.
pub(crate) struct BatchEntry {
    pub lease: LeaseArgs,
    /// What must acknowledge it, and by when.
    pub acks: AckPolicy,
    pub done: oneshot::Sender<LeaseOutcome>,
}

/// The outcome of one request.
#[derive(Debug, Clone)]
pub(crate) enum LeaseOutcome {
    /// Written, and acknowledged by these, perhaps fewer than required.
    Written { reply: i64, sent: BootInstant, received: Received },
    /// Nothing was written, because another owner has a resource.
    Declined(i64),
    /// Nothing was written, or even sent.
    Refused(Error),
    /// Nothing was written, because another node of the cluster has the slot.
    Elsewhere(Box<Elsewhere>),
    /// Perhaps written, and it cannot be proved: undo it. The error is for the caller.
    Undo(Error, Late),
    /// Unknown, for this reason.
    Unknown(Arc<str>),
}

/// Whether a request may still be executed when its server has answered a later one: it may be on its way in
/// a connection that broke, or in a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    Possible,
    Impossible,
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
