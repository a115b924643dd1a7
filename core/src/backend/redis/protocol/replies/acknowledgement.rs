//! What the replies of WAIT and WAITAOF mean.

use redis::{ServerError, Value};

use super::ReplyContext;
use super::proof::{Proof, Received};
use super::refusals::is_missing_command;
use crate::backend::redis::config::DEFAULT_REPLICAS;
use crate::backend::redis::protocol::operation::Operation;
use crate::backend::redis::protocol::values::error_text;
use crate::error::{Error, Shortfall};

/// The time within which a server flushes its append-only file if `appendfsync` is `everysec`.
const EVERYSEC_MS: u32 = 1_000;

/// What the reply of a WAIT or WAITAOF means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Acknowledgement {
    /// Those that have everything this connection wrote before.
    Received(Received),
    /// It is not possible here; what was written is there without proof.
    Impossible(Error),
    /// The outcome is unknown, for this reason.
    Unknown(String),
}

impl ReplyContext<'_> {
    /// Of an operation that requires this.
    pub const fn requiring(self, proof: Proof) -> Self {
        Self { proof, ..self }
    }

    /// Classifies the reply of WAIT or WAITAOF.
    pub fn acknowledgement(&self, reply: &Value) -> Acknowledgement {
        let count = |acks: i64| u32::try_from(acks).unwrap_or(0);
        match reply {
            Value::Int(acks) if !self.proof.fsync => {
                Acknowledgement::Received(Received { replicas: count(*acks), on_disk: false })
            }
            Value::Array(counts) if self.proof.fsync => match counts[..] {
                [Value::Int(primary), Value::Int(acks)] => {
                    Acknowledgement::Received(Received { replicas: count(acks), on_disk: primary > 0 })
                }
                _ => Acknowledgement::Unknown("WAITAOF returned an unexpected reply".to_owned()),
            },
            Value::ServerError(error) => self.no_acknowledgement(error),
            _ => Acknowledgement::Unknown(format!("{} returned an unexpected reply", self.proof.command())),
        }
    }

    fn no_acknowledgement(&self, error: &ServerError) -> Acknowledgement {
        let said = error_text(error);
        match self.cannot_prove(error) {
            Some(error) => Acknowledgement::Impossible(error),
            // UNBLOCKED: the server was demoted meanwhile. Other errors: it had executed the writes.
            None => Acknowledgement::Unknown(format!("{} failed: {said}", self.proof.command())),
        }
    }

    /// The error if this reply says that the server, or this user, cannot prove anything.
    fn cannot_prove(&self, error: &ServerError) -> Option<Error> {
        let said = error_text(error);
        let command = self.proof.command();
        let (missing, remedy, otherwise) = if self.proof.fsync {
            (
                "this server has no WAITAOF, which fsync needs",
                "use Redis 7.2 or newer, or Valkey, or leave out fsync",
                "leave out fsync",
            )
        } else {
            (
                "this server has no WAIT, which proves that replicas have a lease",
                "use a plain Redis or Valkey primary, require no acknowledgements (acks: 0), or use local locks if \
                 all processes are on one host",
                "require no acknowledgements (acks: 0)",
            )
        };
        // Before those about missing commands: "… appendonly is disabled".
        if self.proof.fsync && said.contains("appendonly") {
            return Some(self.report(
                Error::Unsupported,
                "the primary writes no append-only file, which fsync needs (its appendonly is off)",
                "turn appendonly on, on the primary and on the replicas, or leave out fsync",
                &said,
            ));
        }
        if is_missing_command(error) {
            return Some(self.report(Error::Unsupported, missing, remedy, &said));
        }
        match error.code() {
            "NOPERM" => {
                let lower = command.to_ascii_lowercase();
                Some(self.report(
                    Error::BackendUnavailable,
                    &format!("the Redis user may not use {command}"),
                    &format!("allow it in the server's ACL (+{lower}), or {otherwise}"),
                    &said,
                ))
            }
            "ERR" if said.contains("replica") => Some(self.report(
                Error::BackendUnavailable,
                "this server is a replica, which cannot prove a grant",
                "use the URL of the primary",
                &said,
            )),
            _ => None,
        }
    }

    /// The error when too little acknowledged what was written, within the time of this policy.
    pub fn shortfall(
        &self,
        received: Received,
        timeout_ms: u32,
        connected: Option<u32>,
        rolled_back: bool,
    ) -> Error {
        if self.proof.fsync {
            return self.not_on_disk(received, timeout_ms, connected, rolled_back);
        }
        let now = match connected {
            None => String::new(),
            Some(connected) => format!(" ({connected} connected to {})", self.address),
        };
        self.insufficient(received.replicas, connected, rolled_back, &format!(" in time{now}"))
    }

    /// The error when this many replicas acknowledged, for this reason.
    pub(super) fn insufficient(
        &self,
        received: u32,
        connected: Option<u32>,
        rolled_back: bool,
        why: &str,
    ) -> Error {
        let required = self.proof.replicas;
        let (subject, meaning) = self.meaning(rolled_back);
        let (declared, remedy) = (self.declaration(), self.missing_replicas(connected));
        Error::InsufficientReplicas(Shortfall {
            required,
            received,
            connected,
            rolled_back,
            message: format!(
                "{received} of the required {required} replicas acknowledged the {subject}{why}; {declared}; \
                 {meaning}; {remedy}"
            ),
        })
    }

    /// How many replicas are declared: callers who declared none have the default.
    fn declaration(&self) -> String {
        match self.declared {
            DEFAULT_REPLICAS => format!("`replicas` declares {DEFAULT_REPLICAS}, which is its default"),
            declared => format!("`replicas` declares {declared}"),
        }
    }

    /// What to do about acknowledgements that are missing.
    fn missing_replicas(&self, connected: Option<u32>) -> String {
        const OTHERWISE: &str = "check the replicas and their lag, raise ackTimeoutMs, or require fewer acks";
        match connected {
            Some(connected) if connected < self.declared => format!(
                "if the server has no more than {connected}, declare that: redis: {{ url, replicas: {connected} }}; \
                 otherwise {OTHERWISE}"
            ),
            Some(_) => OTHERWISE.to_owned(),
            None => format!(
                "declare as many as the server has, such as redis: {{ url, replicas: 0 }} for none; {OTHERWISE}"
            ),
        }
    }

    /// The error that says which side does not have it on disk, and why that may be.
    fn not_on_disk(
        &self,
        Received { replicas: received, on_disk }: Received,
        timeout_ms: u32,
        connected: Option<u32>,
        rolled_back: bool,
    ) -> Error {
        let required = self.proof.replicas;
        let (subject, meaning) = self.meaning(rolled_back);
        let replicas = match required {
            0 => String::new(),
            _ => format!(", {received} of the required {required} replicas do"),
        };
        let (primary, lagging) = match (on_disk, received < required) {
            (true, _) => ("has it there", "the replicas"),
            (false, true) => ("does not have it there", "the primary and the replicas"),
            (false, false) => ("does not have it there", "the primary"),
        };
        let slow = if timeout_ms < EVERYSEC_MS {
            format!(
                "; with appendfsync everysec it takes up to a second, so raise ackTimeoutMs ({timeout_ms}) to \
                 2000, or set appendfsync to always"
            )
        } else {
            String::new()
        };
        Error::InsufficientReplicas(Shortfall {
            required,
            received,
            connected,
            rolled_back,
            message: format!(
                "redis at {}: the {subject} was not on disk within {timeout_ms} ms: the primary {primary}{replicas}; \
                 {meaning}; check {lagging}: a server with appendonly no or appendfsync no never \
                 acknowledges{slow}",
                self.address
            ),
        })
    }

    /// What was not proved, and what that means.
    const fn meaning(&self, rolled_back: bool) -> (&'static str, &'static str) {
        match (self.operation, rolled_back) {
            (Operation::Extend, _) => ("extension", "the lease keeps its old deadline"),
            (Operation::Adopt, true) => {
                ("adoption", "it was undone, and the ticket can be used again while its lease lasts")
            }
            (Operation::Adopt, false) => (
                "adoption",
                "its rollback is not confirmed and is retried in the background, which ends the lease",
            ),
            (_, true) => ("grant", "it was rolled back and blocks no other owner"),
            (_, false) => ("grant", "its rollback is not confirmed and is retried in the background"),
        }
    }
}
