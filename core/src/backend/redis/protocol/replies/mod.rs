//! What a reply means: written, not written, perhaps written, or unknown. Every error reply is classified,
//! because "nothing was written" and "unknown" call for different reactions.

pub(crate) mod acknowledgement;
pub(crate) mod expected;
pub(crate) mod proof;
pub(crate) mod redirect;
pub(crate) mod refusals;

use std::fmt;

use redis::{ServerError, Value};

use self::proof::Proof;
use self::redirect::{Elsewhere, Redirect};
use self::refusals::{RefusalKind, is_missing_command, is_not_loaded, is_wrong_server, refusal};
use super::operation::Operation;
use super::permissions::{self, Login};
use super::values::error_text;
use crate::error::{Error, Report};
use crate::lease::{Resources, token};

/// The operation a reply belongs to, and its server; for classification and messages.
#[derive(Clone, Copy)]
pub(crate) struct ReplyContext<'a> {
    pub address: &'a (dyn fmt::Display + Sync),
    pub operation: Operation,
    /// What it requires.
    pub proof: Proof,
    /// How many replicas its primary is declared to have.
    pub declared: u32,
    /// Whether it is a node of a cluster, and not all of it.
    pub of_cluster: bool,
    /// That of the keys and channels.
    pub prefix: &'a str,
}

/// What the reply of a script means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ScriptResult {
    /// The script did its work: the token, or the number of deleted locks, or 1.
    Done(i64),
    /// The script wrote nothing, because another owner has a resource.
    Declined(i64),
    /// The server does not know the script; nothing was written, and a WAIT after it counted something else.
    /// The error applies when loading it does not help.
    NotLoaded(Error),
    /// The server is not the primary, or not any more; nothing was written.
    WrongServer(Error),
    /// Another node of the cluster may serve it; nothing was written.
    Elsewhere(Box<Elsewhere>),
    /// The server refused before anything was written.
    Refused(Error),
    /// The script failed; something may have been written.
    Failed(Error),
}

impl ReplyContext<'_> {
    /// Classifies the reply to a call of a script if it is an error, or the reply to one lease.
    pub fn script_result(&self, reply: &Value) -> ScriptResult {
        match reply {
            Value::Int(number) if *number > 0 => ScriptResult::Done(*number),
            Value::Int(number) => ScriptResult::Declined(*number),
            Value::ServerError(error) => match (self.elsewhere(error), self.refused(error)) {
                (Some(elsewhere), _) => ScriptResult::Elsewhere(elsewhere),
                (_, Some(refused)) if is_not_loaded(error) => ScriptResult::NotLoaded(refused),
                (_, Some(refused)) if is_wrong_server(error) => ScriptResult::WrongServer(refused),
                (_, Some(refused)) => ScriptResult::Refused(refused),
                (_, None) => ScriptResult::Failed(self.error(reply)),
            },
            _ => ScriptResult::Failed(self.error(reply)),
        }
    }

    /// Whether another node of the cluster may serve what this one did not.
    pub fn elsewhere(&self, error: &ServerError) -> Option<Box<Elsewhere>> {
        let redirect = Redirect::parse(error).filter(|_| self.of_cluster)?;
        Some(Box::new(Elsewhere {
            redirect,
            address: self.address.to_string(),
            operation: self.operation,
            said: error_text(error),
        }))
    }

    /// Classifies the reply to one lease in the list of a script: an error there has granted nothing.
    pub fn script_result_in_list(&self, reply: &Value) -> ScriptResult {
        match reply {
            Value::ServerError(error) if is_wrong_server(error) => {
                ScriptResult::WrongServer(self.error(reply))
            }
            Value::ServerError(_) => ScriptResult::Refused(self.error(reply)),
            _ => self.script_result(reply),
        }
    }

    /// The error for a request that an acquire refused because there is no next token; `None` for other
    /// replies.
    pub fn no_token(&self, resources: &Resources, reply: &Value) -> Option<Error> {
        let Value::ServerError(error) = reply else { return None };
        let (place, value) = error.details().filter(|_| error.code() == "NOTOKEN")?.split_once(' ')?;
        let place = place.parse::<usize>().ok()?;
        let message = match place.checked_sub(1).and_then(|index| resources.as_slice().get(index)) {
            Some(resource) => token::cannot_rise(
                format_args!("redis at {}: the stored token of {resource:?} is {value:?}", self.address),
                "Find what wrote it, for example another program with this prefix, or a clock that was far \
                 ahead; then delete the fence key of this resource: its tokens go on from the clock. Guards \
                 that have seen a higher token refuse them until their fence is reset, too",
            ),
            None => token::cannot_rise(
                format_args!("redis at {}: its clock is at {value} µs since 1970", self.address),
                "Set the clock of the server, and try again",
            ),
        };
        Some(Error::BackendUnavailable(Report::caused(message, error_text(error))))
    }

    /// The error for a reply that proves that nothing was written; `None` for other replies.
    fn refused(&self, error: &ServerError) -> Option<Error> {
        let said = error_text(error);
        if is_missing_command(error) {
            let of_text = ["'eval'", "`eval`"].iter().any(|word| said.to_ascii_lowercase().contains(word));
            return Some(self.unsupported(if of_text { "EVAL" } else { "EVALSHA" }, &said));
        }
        let refusal = refusal(error)?;
        let class = match refusal.kind {
            RefusalKind::TooFewReplicas
                if matches!(self.operation, Operation::Acquire | Operation::Adopt)
                    && self.proof.replicas > 0 =>
            {
                return Some(self.too_few_replicas());
            }
            RefusalKind::Unsupported => Error::Unsupported,
            // A proxy that says so may have passed the script on before.
            RefusalKind::Connection => return None,
            RefusalKind::TooFewReplicas | RefusalKind::Unavailable => Error::BackendUnavailable,
        };
        let permission = permissions::is_about(&said).then(|| permissions::remedy(self.login(), &said));
        let remedy = permission.as_deref().unwrap_or(refusal.remedy);
        let refused = self.report(class, refusal.meaning, remedy, &said);
        Some(if is_wrong_server(error) { refused.of_failover() } else { refused })
    }

    /// The error when nothing could be sent: there was a server, which may soon be back, or have a successor.
    pub fn not_sent(&self, why: &dyn fmt::Display) -> Error {
        self.report(
            Error::BackendUnavailable,
            "the connection broke before anything was sent",
            "try again",
            why,
        )
        .of_failover()
    }

    /// The error when a query got no reply.
    pub fn no_reply(&self, why: &dyn fmt::Display) -> Error {
        let why = why.to_string();
        let what = if why.starts_with("no reply") { why.clone() } else { format!("no reply: {why}") };
        self.report(Error::BackendUnavailable, &what, "try again", &why)
    }

    /// The error of a server that did not answer a request that it may still execute. It does not say what
    /// that means for the lease: the caller has asked other servers, too.
    pub fn silent(&self, why: &dyn fmt::Display) -> Error {
        let message = format!("redis at {}: no reply: {why}", self.address);
        Error::BackendUnavailable(Report::caused(message, why))
    }

    /// The error when the outcome is unknown.
    pub fn unknown(&self, resource: &str, why: &dyn fmt::Display) -> Error {
        let (meaning, remedy) = match self.operation {
            Operation::Acquire => {
                ("the lock may have been granted and is being rolled back", "do not treat it as held; retry")
            }
            Operation::Adopt => (
                "the lease may have been taken over, and is being released in that case",
                "do not treat it as held; acquire the lock anew",
            ),
            Operation::Extend => (
                "the lease may have been extended; rely on its old deadline only",
                "extend again before that, or release",
            ),
            Operation::Release => (
                "the lease may have ended; its release is retried in the background until it ends",
                "nothing needs to be done",
            ),
            Operation::ForceRelease => {
                ("the lease may have ended", "inspect the resource, and repeat the call if it is still held")
            }
            Operation::Query => ("nothing was changed", "try again"),
        };
        Error::OutcomeUnknown(Report::caused(
            format!(
                "redis at {}: outcome for {resource:?} unknown: {why}; {meaning}; {remedy}",
                self.address
            ),
            why,
        ))
    }

    /// The error for an error reply, or for one of the wrong type.
    pub fn error(&self, reply: &Value) -> Error {
        let (what, said) = match reply {
            Value::ServerError(error) => match self.refused(error) {
                Some(refused) => return refused,
                None => ("the server returned an error", error_text(error)),
            },
            // Not quoted: it may be anything, and of any length.
            _ => ("the server sent an unexpected reply", "its reply has another type".to_owned()),
        };
        let permission = permissions::is_about(&said).then(|| permissions::remedy(self.login(), &said));
        let remedy = permission.as_deref().unwrap_or("check its log");
        self.report(Error::BackendUnavailable, &format!("{what}: {said}"), remedy, &said)
    }

    /// The error when this user may not run these commands in scripts.
    pub fn forbidden_in_scripts(&self, commands: &[String]) -> Error {
        let names = commands.join(", ");
        self.report(
            Error::BackendUnavailable,
            &format!("the Redis user may not run {names} in scripts"),
            &permissions::remedy_for(self.login(), commands),
            &format!("NOPERM in scripts: {names}"),
        )
    }

    /// What this user needs permissions for.
    const fn login(&self) -> Login<'_> {
        Login::Data { prefix: self.prefix, of_cluster: self.of_cluster }
    }

    fn too_few_replicas(&self) -> Error {
        let why = ": the primary has fewer good replicas than its min-replicas-to-write, so it wrote nothing";
        self.insufficient(0, None, true, why)
    }

    /// The error when this user or server cannot subscribe to wake-ups, so that waiting is not possible.
    pub fn cannot_subscribe(&self, reply: &Value, channel_prefix: &str) -> Error {
        match reply {
            Value::ServerError(error) if is_missing_command(error) => {
                self.unsupported("SUBSCRIBE", &error_text(error))
            }
            Value::ServerError(error) if error.code() == "NOPERM" => self.report(
                Error::BackendUnavailable,
                "the Redis user may not subscribe to the channel that announces released locks",
                &format!(
                    "allow it +subscribe and the channels &{channel_prefix}*, or do not wait (waitMs: 0)"
                ),
                &error_text(error),
            ),
            _ => self.error(reply),
        }
    }

    /// The error of a server that replicates with another one in both directions.
    pub fn two_primaries(&self) -> Error {
        self.report(
            Error::Unsupported,
            "this server is an active replica: another primary takes writes at the same time, so two owners \
             can get a lock",
            "use a primary without active-replica",
            "role:active-replica",
        )
    }

    pub fn unsupported(&self, what: &str, said: &str) -> Error {
        self.report(
            Error::Unsupported,
            &format!("this server has no {what}"),
            "strong locks need Lua scripts and WAIT, which some proxies and serverless offers lack: \
             use a plain Redis or Valkey primary",
            &said,
        )
    }

    pub(super) fn report(
        &self,
        class: fn(Report) -> Error,
        what: &str,
        remedy: &str,
        cause: &(impl fmt::Display + ?Sized),
    ) -> Error {
        let Self { address, operation, .. } = self;
        class(operation.refused(&format_args!("redis at {address}: {what}"), remedy, cause))
    }
}
