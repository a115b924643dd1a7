//! What a reply means: written, not written, perhaps written, or nobody knows. Every error reply is classified, because
//! "nothing was written" and "unknown" call for different answers.

use std::fmt;

use redis::{ServerError, Value};

use super::values::error_text;
use crate::backend::redis::config::Address;
use crate::error::{Error, Report, Shortfall};

/// What a Redis user needs.
const PERMISSIONS: &str = "allow the Redis user +@scripting +wait +ping +info +get +mget +set +del +exists +pttl +pexpire +time \
                           +zadd +zrem +zscore +zrangebyscore +zrevrangebyscore on the prefix's keys, and +publish +subscribe on its channels \
                           (&<prefix>:wake:*)";

/// What was being done, and where; for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub address: &'a Address,
    pub subject: Subject,
    /// How many acknowledgements are asked for.
    pub required: u32,
}

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Grant,
    Extension,
    Release,
    /// The end of somebody's lease.
    Force,
    /// Anything that changes nothing.
    Query,
}

impl Subject {
    /// What it means that it was refused.
    const fn consequence(self) -> &'static str {
        match self {
            Self::Grant => "nothing was granted",
            Self::Extension => "the lease keeps its old deadline",
            Self::Release => "the lease was not released yet; that goes on in the background until it ends",
            Self::Force | Self::Query => "nothing was changed",
        }
    }
}

/// What the reply of a script means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It did its work: the token, or how many, or 1.
    Done(i64),
    /// It found that it must not, and wrote nothing: somebody else has it.
    Declined(i64),
    /// The server does not know the script; nothing was written, and a WAIT after it counted something else. The
    /// error is for when loading it does not help.
    NotLoaded(Error),
    /// The server refused before anything was written.
    Refused(Error),
    /// It failed on the way; something may have been written.
    Failed(Error),
}

/// What the reply of a WAIT means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Proof {
    /// So many replicas have everything this connection wrote before.
    Acks(u32),
    /// There is no WAIT here; what was written stands without proof.
    Impossible(Error),
    /// Nobody knows, for this reason.
    Unknown(String),
}

impl About<'_> {
    /// Reads the reply to a call of a script, if it is an error, or to one request.
    pub fn verdict(&self, reply: &Value) -> Verdict {
        match reply {
            Value::Int(number) if *number > 0 => Verdict::Done(*number),
            Value::Int(number) => Verdict::Declined(*number),
            Value::ServerError(error) => match self.refusal(error) {
                Some(refused) if error.code() == "NOSCRIPT" => Verdict::NotLoaded(refused),
                Some(refused) => Verdict::Refused(refused),
                None => Verdict::Failed(self.error(reply)),
            },
            _ => Verdict::Failed(self.error(reply)),
        }
    }

    /// Reads the reply to one request out of a script's list: an error there has granted nothing.
    pub fn verdict_in_list(&self, reply: &Value) -> Verdict {
        match reply {
            Value::ServerError(_) => Verdict::Refused(self.error(reply)),
            _ => self.verdict(reply),
        }
    }

    /// Reads the reply of WAIT.
    pub fn proof(&self, reply: &Value) -> Proof {
        match reply {
            Value::Int(acks) => Proof::Acks(u32::try_from(*acks).unwrap_or(0)),
            Value::ServerError(error) => {
                let said = error_text(error);
                if is_missing(error) {
                    return Proof::Impossible(self.unsupported("WAIT", &said));
                }
                match error.code() {
                    "NOPERM" => Proof::Impossible(self.report(
                        Error::BackendUnavailable,
                        "the Redis user may not use WAIT",
                        "allow it in the server's ACL (+wait), or ask for no acknowledgements (acks: 0)",
                        &said,
                    )),
                    "ERR" if said.contains("replica") => Proof::Impossible(self.report(
                        Error::BackendUnavailable,
                        "this server is a replica, which cannot prove a grant",
                        "use the URL of the primary",
                        &said,
                    )),
                    // UNBLOCKED: it was demoted while we waited. The rest: it executed what was written before.
                    _ => Proof::Unknown(format!("WAIT failed: {said}")),
                }
            }
            other => Proof::Unknown(format!("WAIT gave an unexpected reply, {other:?}")),
        }
    }

    /// The error for a reply that proves that nothing was written; `None` if it proves no such thing.
    fn refusal(&self, error: &ServerError) -> Option<Error> {
        let said = error_text(error);
        if is_missing(error) {
            return Some(self.unsupported("EVALSHA", &said));
        }
        let (what, todo) = match code(error) {
            "READONLY" => ("this server is a replica, which takes no writes", "use the URL of the primary"),
            "NOREPLICAS" => return Some(self.no_replicas(&said)),
            "LOADING" => ("the server is still loading its data", "try again when it is done"),
            "MASTERDOWN" => ("this server is a replica that lost its primary", "use the URL of the primary"),
            "CLUSTERDOWN" => ("the Redis cluster is down", "look at CLUSTER INFO"),
            "MOVED" | "ASK" | "TRYAGAIN" => {
                return Some(self.report(
                    Error::Unsupported,
                    "this server is part of a Redis Cluster",
                    "use a primary without cluster mode",
                    &said,
                ));
            }
            "CROSSSLOT" => {
                return Some(self.report(
                    Error::Unsupported,
                    "the resources of one lock are in different slots of a Redis Cluster",
                    "give them a common beginning in braces, as in {order:5}:stock and {order:5}:bill",
                    &said,
                ));
            }
            "OOM" => ("the server is out of memory", "raise its maxmemory, and use noeviction"),
            "MISCONF" => ("the server refuses writes, because it cannot persist them", "look at its log"),
            // Inside a script it may come after a write, if the keys' permissions differ.
            "NOPERM" if !said.contains("script:") && !said.contains("executing the script") => {
                ("the Redis user lacks a permission", PERMISSIONS)
            }
            "NOAUTH" => ("the server asks for a password", "give username and password"),
            "BUSY" => ("the server is busy with a long script", "let it end, or use SCRIPT KILL"),
            "WRONGTYPE" => (
                "a key of this lock holds a value of another type",
                "something else writes keys with this prefix: use another prefix",
            ),
            "NOSCRIPT" => (
                "the server forgets scripts as soon as they are loaded",
                "find out who keeps running SCRIPT FLUSH",
            ),
            "ERR" if said.contains("max number of clients") => {
                ("the server has too many clients", "raise its maxclients, or use fewer")
            }
            _ => return None,
        };
        Some(self.report(Error::BackendUnavailable, what, todo, &said))
    }

    /// The error when nothing could be sent.
    pub fn unsent(&self, why: &dyn fmt::Display) -> Error {
        self.report(
            Error::BackendUnavailable,
            "the connection broke before anything was sent",
            "try again",
            why,
        )
    }

    /// The error when a question got no answer.
    pub fn unanswered(&self, why: &dyn fmt::Display) -> Error {
        self.report(Error::BackendUnavailable, "no answer", "try again", why)
    }

    /// The error when nobody knows what became of it.
    pub fn unknown(&self, resource: &str, why: &dyn fmt::Display) -> Error {
        let (meaning, todo) = match self.subject {
            Subject::Grant => (
                "it may have been granted until its TTL, and is being undone in the background",
                "treat it as not yours, and try again with a new attempt",
            ),
            Subject::Extension => (
                "the lease may have been extended; count on its old deadline only",
                "extend again before that, or release",
            ),
            Subject::Release => (
                "the lease may have ended; its release goes on in the background until it ends",
                "nothing needs to be done",
            ),
            Subject::Force => {
                ("the lease may have ended", "inspect the resource, and do it again if need be")
            }
            Subject::Query => ("nothing was changed", "ask again"),
        };
        Error::OutcomeUnknown(Report::caused(
            format!("redis at {}: no proof about {resource:?}: {why}; {meaning}; {todo}", self.address),
            why,
        ))
    }

    /// The error for a reply that is not what was asked for.
    pub fn error(&self, reply: &Value) -> Error {
        let (what, said) = match reply {
            Value::ServerError(error) => match self.refusal(error) {
                Some(refused) => return refused,
                None => ("the server answered with an error", error_text(error)),
            },
            other => ("the server gave an unexpected reply", format!("{other:?}")),
        };
        // What Redis says of a command that the user may not run inside a script differs with its version.
        let may_not = said.contains("ACL failure") || said.contains("can't run this command");
        let todo = if may_not { PERMISSIONS } else { "look at its log" };
        self.report(Error::BackendUnavailable, &format!("{what}: {said}"), todo, &said)
    }

    /// The error when too few replicas acknowledged what was written.
    pub fn shortfall(&self, received: u32, connected: Option<u32>, rolled_back: bool) -> Error {
        let now = match connected {
            None => String::new(),
            Some(connected) => format!(" ({connected} connected to {})", self.address),
        };
        let (subject, meaning) = match (self.subject, rolled_back) {
            (Subject::Extension, _) => ("extension", "the lease keeps its old deadline"),
            (_, true) => ("grant", "it was rolled back, so nobody has the lock because of it"),
            (_, false) => ("grant", "its roll-back is not confirmed and goes on in the background"),
        };
        Error::InsufficientReplicas(Shortfall {
            required: self.required,
            received,
            connected,
            rolled_back,
            subject,
            detail: format!(
                " in time{now}; {meaning}; check the replicas and their lag, raise ackTimeoutMs, or ask for fewer \
                 acks; for a development server without replicas use redis: {{ url, replicas: 0 }}"
            ),
        })
    }

    fn no_replicas(&self, said: &str) -> Error {
        if self.subject == Subject::Grant && self.required > 0 {
            let mut error = self.shortfall(0, None, true);
            if let Error::InsufficientReplicas(shortfall) = &mut error {
                shortfall.detail = format!(
                    ": the primary has fewer good replicas than its min-replicas-to-write, so it wrote nothing{}",
                    shortfall.detail.trim_start_matches(" in time")
                );
            }
            return error;
        }
        self.report(
            Error::BackendUnavailable,
            "the primary has fewer good replicas than its min-replicas-to-write",
            "check the replicas",
            &said,
        )
    }

    /// Why we cannot hear of releases, and so cannot wait.
    pub fn cannot_listen(&self, reply: &Value, channels: &str) -> Error {
        match reply {
            Value::ServerError(error) if is_missing(error) => {
                self.unsupported("SUBSCRIBE", &error_text(error))
            }
            Value::ServerError(error) if error.code() == "NOPERM" => self.report(
                Error::BackendUnavailable,
                "the Redis user may not listen for released locks",
                &format!("allow it +subscribe and the channels &{channels}*, or do not wait (waitMs: 0)"),
                &error_text(error),
            ),
            _ => self.error(reply),
        }
    }

    fn unsupported(&self, command: &str, said: &str) -> Error {
        self.report(
            Error::Unsupported,
            &format!("this server has no {command}"),
            "strong locks need Lua scripts and WAIT, which some proxies and serverless offers lack: \
             use a plain Redis or Valkey primary",
            &said,
        )
    }

    fn report(
        &self,
        class: fn(Report) -> Error,
        what: &str,
        todo: &str,
        cause: &(impl fmt::Display + ?Sized),
    ) -> Error {
        let Self { address, subject, .. } = self;
        let meaning = subject.consequence();
        class(Report::caused(format!("redis at {address}: {what}; {meaning}; {todo}"), cause))
    }
}

/// The code of an error reply. Redis 6 puts what failed inside a script behind its place, and in an `ERR` of its own if
/// that ended the script: `ERR Error running script (call to f_…): @user_script:20: @user_script: 20: -READONLY You
/// can't write …`, or `… @user_script:7: WRONGTYPE Operation …`.
fn code(error: &ServerError) -> &str {
    fn after_place(text: &str) -> Option<&str> {
        let text = text.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ':' | ' ' | '-'));
        let code = text.split(' ').next()?;
        (!code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase())).then_some(code)
    }
    let details = error.details().unwrap_or_default();
    match error.code() {
        "ERR" => details.rsplit_once("@user_script").and_then(|(_, text)| after_place(text)).unwrap_or("ERR"),
        "@user_script:" => after_place(details).unwrap_or("ERR"),
        code => code,
    }
}

/// Whether the server (or a proxy in front of it) does not have the command that was sent.
fn is_missing(error: &ServerError) -> bool {
    if error.code() != "ERR" {
        return false;
    }
    let details = error.details().unwrap_or_default().to_ascii_lowercase();
    // What a script ran into is another matter.
    !details.contains("script:")
        && !details.contains("running script")
        && (details.starts_with("unknown command")
            || ["not supported", "unsupported", "not available", "not allowed", "is disabled"]
                .iter()
                .any(|words| details.contains(words)))
}

#[cfg(test)]
#[path = "replies_tests.rs"]
mod tests;
