//! Waits for the proof of what was written, and settles the requests.

use std::iter::repeat;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::batch::{BatchEntry, Late, LeaseOutcome, settle};
use super::wait_kick::Kicking;
use crate::backend::redis::connection::{Break, Connection, Exchange, Response};
use crate::backend::redis::protocol::packer::Packer;
use crate::backend::redis::protocol::replies::ReplyContext;
use crate::backend::redis::protocol::replies::acknowledgement::Acknowledgement;
use crate::backend::redis::protocol::replies::proof::{Proof, Received};
use crate::runtime::clock::BootInstant;

/// Requests that were written, each with its script's reply.
pub(super) type Written = Vec<(BatchEntry, i64)>;

/// A replica tells what it has on disk when it is asked, and once a second: if the question comes with the
/// write, it has nothing yet. So it is asked again after these times, in milliseconds, and always after the
/// last of them.
const ASK_AGAIN_MS: [u32; 4] = [10, 20, 40, 100];

/// A WAIT in flight; without one, its exchange has ended.
pub(super) struct SentWait {
    pub exchange: Exchange,
    /// How long after the requests it ends, in milliseconds, if too few replicas acknowledge them.
    pub ends_ms: u32,
    /// When that is.
    pub due: Instant,
}

/// Where requests were written.
pub(super) struct Proving<'a> {
    pub connection: &'a Connection,
    pub context: ReplyContext<'a>,
    /// How long a reply may take beyond the time of its WAIT.
    pub command_timeout: Duration,
}

impl Proving<'_> {
    /// Waits for the acknowledgements of what was written, and settles the requests: all of them once their
    /// proof is there, otherwise each when its own time is over. `wait`: what was sent with the requests.
    pub async fn prove(
        &self,
        kicking: Kicking<'_>,
        (mut written, sent): (Written, BootInstant),
        mut wait: SentWait,
    ) {
        let Self { connection, context, .. } = self;
        let proof = context.proof;
        let mut pauses = ASK_AGAIN_MS.into_iter().chain(repeat(ASK_AGAIN_MS[ASK_AGAIN_MS.len() - 1]));
        let begin = wait.due - millis(wait.ends_ms);
        // Nothing was sent for those that must be on disk, so all of them are left.
        let mut asked = !proof.fsync;
        loop {
            if asked {
                let response = connection.receive(wait.exchange).await;
                let acknowledgement = self.acknowledgement(response);
                let lacking =
                    matches!(acknowledgement, Acknowledgement::Received(it) if !proof.is_met_by(it));
                let (rest, over): (Vec<_>, Vec<_>) = written
                    .into_iter()
                    .partition(|(entry, _)| lacking && entry.acks.timeout_ms > wait.ends_ms);
                settle_written(over, sent, &acknowledgement);
                written = rest;
            }
            let Some(mut ends_ms) = shortest(written.iter().map(|(entry, _)| entry)) else { return };
            let elapsed_ms = u32::try_from(begin.elapsed().as_millis()).unwrap_or(u32::MAX);
            if proof.fsync {
                ends_ms = ends_ms.min(elapsed_ms.saturating_add(pauses.next().unwrap_or_default()));
            }
            wait = match self.ask(begin, elapsed_ms, ends_ms) {
                Ok(wait) => wait,
                Err(broken) => {
                    return settle_written(written, sent, &Acknowledgement::Unknown(broken.to_string()));
                }
            };
            asked = true;
            kicking.watch(wait.due);
        }
    }

    /// Sends a WAIT. It covers all that the connection has written.
    fn ask(&self, begin: Instant, elapsed_ms: u32, ends_ms: u32) -> Result<SentWait, Break> {
        let Self { connection, context, command_timeout } = self;
        // 0 would never end.
        let timeout_ms = ends_ms.saturating_sub(elapsed_ms).max(1);
        let limit = millis(timeout_ms) + *command_timeout;
        let [exchange] =
            connection.send([2], limit, |packer, out| pack_wait(packer, out, context.proof, timeout_ms))?;
        Ok(SentWait { exchange, ends_ms, due: begin + millis(elapsed_ms.saturating_add(timeout_ms)) })
    }

    fn acknowledgement(&self, Response { replies, broken }: Response) -> Acknowledgement {
        self.now(match (&replies[..], broken) {
            // The echo came, so the reply before it is the answer to this WAIT.
            ([reply, Value::BulkString(_)] | [reply @ Value::ServerError(_), _], None) => {
                self.context.acknowledgement(reply)
            }
            (_, broken) => Acknowledgement::Unknown(reason(broken).to_string()),
        })
    }

    /// Settles requests that need no proof.
    pub fn settle_unproved(&self, (written, sent): (Written, BootInstant)) {
        settle_written(written, sent, &self.now(Acknowledgement::Received(Received::default())));
    }

    /// A server that was replaced meanwhile proves nothing: its successor may not know what it has granted.
    fn now(&self, acknowledgement: Acknowledgement) -> Acknowledgement {
        match self.connection.retired() {
            Some(why) => Acknowledgement::Unknown(why.to_string()),
            None => acknowledgement,
        }
    }
}

/// Settles the requests that were written, now that the WAIT has ended.
fn settle_written(written: Written, sent: BootInstant, acknowledgement: &Acknowledgement) {
    for (entry, reply) in written {
        let outcome = match acknowledgement {
            Acknowledgement::Received(received) => LeaseOutcome::Written { reply, sent, received: *received },
            Acknowledgement::Impossible(error) => LeaseOutcome::Undo(error.clone(), Late::Impossible),
            Acknowledgement::Unknown(why) => LeaseOutcome::Unknown(why.as_str().into()),
        };
        settle(entry, outcome);
    }
}

/// Why there is no reply.
pub(super) fn reason(broken: Option<Break>) -> Arc<str> {
    broken.map_or_else(|| "no reply".into(), |broken| broken.why)
}

/// The shortest time that one of these requests allows for its acknowledgements, in milliseconds.
pub(super) fn shortest<'a>(entries: impl IntoIterator<Item = &'a BatchEntry>) -> Option<u32> {
    entries.into_iter().map(|entry| entry.acks.timeout_ms).min()
}

/// Appends a WAIT to `out`, and an echo that proves its reply.
pub(super) fn pack_wait(packer: &mut Packer, out: &mut Vec<u8>, proof: Proof, timeout_ms: u32) {
    proof.pack(timeout_ms, packer, out);
    packer.echo(out);
}

pub(super) fn millis(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}
