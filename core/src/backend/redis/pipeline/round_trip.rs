//! One round trip of a batch, and what its replies mean for each request.

use redis::Value;

use super::batch::{BatchEntry, Late, LeaseOutcome, RequestBatch, settle};
use crate::backend::redis::protocol::lease_args::Grouping;
use crate::backend::redis::protocol::replies::{ReplyContext, ScriptResult};

/// A batch on its way to the server and back.
pub(crate) struct RoundTrip {
    pub batch: RequestBatch,
    /// 1 for the first.
    pub attempt: u32,
    /// Whether the script is loaded first, and the first call is by its text.
    pub load_script: bool,
    /// Which requests share a call.
    pub grouping: Grouping,
}

impl RoundTrip {
    pub fn first(mut batch: RequestBatch, grouping: Grouping) -> Self {
        if grouping == Grouping::BySlot && batch.len() > 1 {
            batch.sort_by_cached_key(|entry| entry.lease.slot());
        }
        Self { batch, attempt: 1, load_script: false, grouping }
    }
}

/// The result of a round trip.
pub(crate) enum Completed {
    /// Every request is settled.
    Settled,
    /// These requests must be sent again.
    Resend(RoundTrip),
    /// Likewise, and nothing was written that a WAIT could prove: its reply was not awaited.
    NothingWritten(RoundTrip),
}

/// Settles the requests that need no proof. Keeps those that were written, each with its script's reply, and
/// those that must be sent again.
pub(crate) struct ReplySorter<'a> {
    context: ReplyContext<'a>,
    /// Nothing is sent again after this round trip.
    last: bool,
    pub written: Vec<(BatchEntry, i64)>,
    pub resend: RequestBatch,
    /// The server did not know the script, or its successor will not.
    pub not_loaded: bool,
    /// The server does not accept keys of different slots in one call.
    pub crosses_slots: bool,
}

impl<'a> ReplySorter<'a> {
    pub fn new(context: ReplyContext<'a>, last: bool) -> Self {
        let (written, resend) = (Vec::new(), RequestBatch::new());
        Self { context, last, written, resend, not_loaded: false, crosses_slots: false }
    }

    /// Takes the requests of one call and its reply: a list with one reply a request, or an error for all.
    pub fn add_call(&mut self, mut entries: RequestBatch, reply: Value) {
        match reply {
            Value::Array(replies) if replies.len() == entries.len() => {
                for (entry, reply) in entries.into_iter().zip(replies) {
                    let result = match self.context.no_token(entry.lease.resources(), &reply) {
                        Some(error) => ScriptResult::Refused(error),
                        None => self.context.script_result_in_list(&reply),
                    };
                    self.add(entry, result);
                }
            }
            Value::Array(_) => {
                let result = ScriptResult::Failed(self.context.error(&reply));
                for entry in entries {
                    self.add(entry, result.clone());
                }
            }
            reply => {
                // Perhaps refused because of a single key: nothing was written, and each request can be sent
                // separately.
                let code = if let Value::ServerError(error) = &reply { error.code() } else { "" };
                let of_a_key = matches!(code, "NOPERM" | "CROSSSLOT" | "ASK" | "TRYAGAIN");
                if entries.len() > 1 && !self.last && of_a_key {
                    self.crosses_slots |= code == "CROSSSLOT";
                    self.resend.append(&mut entries);
                    return;
                }
                let result = self.context.script_result(&reply);
                for entry in entries {
                    self.add(entry, result.clone());
                }
            }
        }
    }

    fn add(&mut self, entry: BatchEntry, result: ScriptResult) {
        let outcome = match result {
            ScriptResult::Done(reply) => return self.written.push((entry, reply)),
            // The next connection leads to the right server, if there is one.
            ScriptResult::NotLoaded(_) | ScriptResult::WrongServer(_) if !self.last => {
                self.not_loaded = true;
                return self.resend.push(entry);
            }
            ScriptResult::Declined(reply) => LeaseOutcome::Declined(reply),
            ScriptResult::Elsewhere(elsewhere) => LeaseOutcome::Elsewhere(elsewhere),
            ScriptResult::NotLoaded(error)
            | ScriptResult::WrongServer(error)
            | ScriptResult::Refused(error) => LeaseOutcome::Refused(error),
            // A proxy may have sent this reply while the server still executes the script.
            ScriptResult::Failed(error) => LeaseOutcome::Undo(error, Late::Possible),
        };
        settle(entry, outcome);
    }
}
