//! What became of the requests of a batch that went to the server and came back.

use redis::Value;

use super::batch::{Batch, Entry, Outcome, settle};
use crate::backend::redis::protocol::replies::{About, Verdict};
use crate::error::Error;
use crate::runtime::undo::IfMissing;

/// One way of a batch to the server and back.
pub(crate) struct Trip {
    pub batch: Batch,
    /// 1 for the first.
    pub number: u32,
    /// Whether the script is loaded first.
    pub load: bool,
    /// Whether each request travels in a call of its own.
    pub alone: bool,
}

impl Trip {
    pub const fn first(batch: Batch) -> Self {
        Self { batch, number: 1, load: false, alone: false }
    }
}

/// What came back.
pub(crate) enum Return {
    /// Every request is settled.
    Settled,
    /// These are to be sent again.
    Again(Trip),
    /// Likewise, and nothing was written that a WAIT could prove: it was not awaited.
    Unwritten(Trip),
}

/// Settles what needs no proof, and keeps what was written, each with its script's reply, and what is to be sent again.
pub(crate) struct Sorter<'a> {
    about: About<'a>,
    /// Nothing is sent again after this.
    last: bool,
    /// Why the script could not be loaded.
    not_loadable: Option<Error>,
    pub written: Vec<(Entry, i64)>,
    pub again: Batch,
    /// The server did not know the script.
    pub missing: bool,
    /// The server does not take keys of different slots in one call.
    pub crossed: bool,
}

impl<'a> Sorter<'a> {
    pub fn new(about: About<'a>, last: bool, loaded: Option<Value>) -> Self {
        let not_loadable =
            loaded.filter(|reply| matches!(reply, Value::ServerError(_))).map(|reply| about.error(&reply));
        let (written, again) = (Vec::new(), Batch::new());
        Self { about, last, not_loadable, written, again, missing: false, crossed: false }
    }

    /// The requests of one call, and its reply: a list with one for each, or an error for all.
    pub fn call(&mut self, mut entries: Batch, reply: Value) {
        match reply {
            Value::Array(replies) if replies.len() == entries.len() => {
                for (entry, reply) in entries.into_iter().zip(replies) {
                    let verdict = self.about.verdict_in_list(&reply);
                    self.entry(entry, verdict);
                }
            }
            Value::Array(_) => {
                let verdict = Verdict::Failed(self.about.error(&reply));
                for entry in entries {
                    self.entry(entry, verdict.clone());
                }
            }
            reply => {
                // Refused for one of its keys, perhaps: nothing was written, and each can be asked for by itself.
                let code = if let Value::ServerError(error) = &reply { error.code() } else { "" };
                if entries.len() > 1 && !self.last && matches!(code, "NOPERM" | "CROSSSLOT") {
                    self.crossed |= code == "CROSSSLOT";
                    self.again.append(&mut entries);
                    return;
                }
                let verdict = self.about.verdict(&reply);
                for entry in entries {
                    self.entry(entry, verdict.clone());
                }
            }
        }
    }

    fn entry(&mut self, entry: Entry, verdict: Verdict) {
        let outcome = match verdict {
            Verdict::Done(reply) => return self.written.push((entry, reply)),
            Verdict::NotLoaded(_) if self.not_loadable.is_none() && !self.last => {
                self.missing = true;
                return self.again.push(entry);
            }
            // Why it cannot be loaded tells more than that it is not.
            Verdict::NotLoaded(error) => Outcome::Refused(self.not_loadable.clone().unwrap_or(error)),
            Verdict::Declined(reply) => Outcome::Declined(reply),
            Verdict::Refused(error) => Outcome::Refused(error),
            // Whoever gave this answer may not be the server that carries the script out.
            Verdict::Failed(error) => Outcome::Undo(error, IfMissing::KeepTrying),
        };
        settle(entry, outcome);
    }
}
