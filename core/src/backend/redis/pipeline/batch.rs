//! Requests that travel together, and the outcome of each.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::backend::redis::protocol::scripts::Item;
use crate::error::Error;
use crate::runtime::clock::BootInstant;
use crate::runtime::undo::IfMissing;

/// Requests, in the order in which they came.
pub(crate) type Batch = Vec<Entry>;

/// One request of a batch.
pub(crate) struct Entry {
    pub item: Item,
    pub done: oneshot::Sender<Outcome>,
}

/// What became of one request.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// Written, and so many replicas have it: perhaps fewer than required.
    Written { reply: i64, sent: BootInstant, acks: u32 },
    /// Nothing was written, because somebody else has it.
    Declined(i64),
    /// Nothing was written, or even sent.
    Refused(Error),
    /// Written, perhaps, and it cannot be proved: undo it. The error is for the caller.
    Undo(Error, IfMissing),
    /// Nobody knows.
    Unknown(Arc<str>),
}

pub(crate) fn settle(entry: Entry, outcome: Outcome) {
    // Contract: callers do not go away before their outcome. If one does all the same, its lease runs out.
    let _ = entry.done.send(outcome);
}

pub(crate) fn settle_all(entries: Batch, outcome: &Outcome) {
    for entry in entries {
        settle(entry, outcome.clone());
    }
}
