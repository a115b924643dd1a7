//! What a server's reply means for a lease. The one question: can anything of the request have been written?

use redis::{ServerError, Value};

use super::connection::{Broken, described};
use crate::error::{Error, Report, Shortfall};

/// How a script was refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The server does not know the script: load it and send it again.
    NoScript,
    /// Nothing was written.
    Nothing(Error),
    /// The script may have written before it failed: to be undone before this is told.
    Perhaps(Error),
}

/// Reads an error reply to a script.
pub(super) fn refusal(error: &ServerError, server: &str, required: u32) -> Refusal {
    let cause = described(error);
    let unavailable = |what: &str| {
        Refusal::Nothing(Error::BackendUnavailable(Report::caused(
            format!("Redis at {server} {what}; nothing was written"),
            &cause,
        )))
    };
    let unsupported = |what: &str| {
        Refusal::Nothing(Error::Unsupported(Report::caused(
            format!("Redis at {server} {what}; nothing was written"),
            &cause,
        )))
    };
    match error.code() {
        "NOSCRIPT" => Refusal::NoScript,
        "READONLY" => {
            unavailable("is a replica, and leases are written on the primary; give the primary's address")
        }
        "NOREPLICAS" => Refusal::Nothing(Error::InsufficientReplicas(Shortfall {
            required,
            received: 0,
            connected: None,
            rolled_back: true,
            subject: "grant",
            detail: format!(": {cause} (min-replicas-to-write); nothing was written"),
        })),
        "LOADING" => unavailable("is still loading its data; try again in a moment"),
        "MASTERDOWN" => unavailable("is a replica that lost its primary; give the primary's address"),
        "CLUSTERDOWN" => unavailable("belongs to a cluster that is down"),
        "BUSY" => unavailable("is busy with somebody's script; see SCRIPT KILL"),
        "OOM" => unavailable("is out of memory; a lock store needs room, and must not evict"),
        "MISCONF" => unavailable("refuses writes because it cannot persist; look at its disk"),
        "NOAUTH" | "WRONGPASS" => unavailable("needs a password, or another one (redis.password)"),
        "NOPERM" => unavailable(
            "does not give this user the permission; locks need EVALSHA, SCRIPT LOAD, WAIT and their keys (ACL)",
        ),
        "TRYAGAIN" | "ASK" => unavailable("is moving the keys to another node; try again in a moment"),
        "MOVED" => unsupported(
            "is a node of a cluster, and the keys belong to another one; clusters are not supported",
        ),
        "CROSSSLOT" => {
            unsupported("is a cluster, and the resources belong to several slots; give them one hash tag")
        }
        "ERR" if unknown_command(error) => {
            unsupported("does not know EVALSHA; strong locks need scripts, which this server or proxy lacks")
        }
        _ => Refusal::Perhaps(Error::BackendUnavailable(Report::caused(
            format!("Redis at {server} failed to run a script; nothing of it is left"),
            &cause,
        ))),
    }
}

/// What `WAIT` answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Acknowledged {
    /// That many replicas.
    By(u32),
    /// The server has no `WAIT`: the write stands, and nothing proves it.
    Never(Error),
    /// Nobody knows, and the write may stand.
    Unknown(String),
}

/// Reads the reply to `WAIT`.
pub(super) fn acknowledged(reply: &Value, server: &str) -> Acknowledged {
    match reply {
        Value::Int(count) => Acknowledged::By(u32::try_from(*count).unwrap_or(0)),
        Value::ServerError(error) if unknown_command(error) || error.code() == "NOPERM" => {
            Acknowledged::Never(Error::Unsupported(Report::caused(
                format!(
                    "Redis at {server} has no WAIT for this user, so no replica can prove a grant, and it was rolled \
                     back; use a server with WAIT, or redis: {{ url, replicas: 0 }} for one without replicas"
                ),
                described(error),
            )))
        }
        // UNBLOCKED: the primary was demoted while it waited.
        Value::ServerError(error) => Acknowledged::Unknown(described(error)),
        other => Acknowledged::Unknown(format!("an unexpected reply to WAIT: {other:?}")),
    }
}

fn unknown_command(error: &ServerError) -> bool {
    error.code() == "ERR"
        && error.details().is_some_and(|details| details.to_ascii_lowercase().starts_with("unknown command"))
}

/// The error for a request whose reply is missing.
pub(super) fn missing(broken: &Broken, server: &str, what: &str) -> Error {
    if broken.sent {
        return Error::OutcomeUnknown(Report::caused(
            format!(
                "nobody knows whether Redis at {server} has {what}: the reply is missing; whatever is left of it is \
                 deleted in the background, or ends with its TTL"
            ),
            &broken.reason,
        ));
    }
    Error::BackendUnavailable(Report::caused(
        format!("lost the connection to Redis at {server} before anything was sent; nothing was written"),
        &broken.reason,
    ))
}

/// Too few acknowledgements for a grant.
pub(super) fn shortfall(required: u32, received: u32, connected: Option<u32>, rolled_back: bool) -> Error {
    let connected_now = connected.map_or(String::new(), |count| format!(" ({count} connected)"));
    let state = if rolled_back {
        "it was rolled back on this primary"
    } else {
        "its rollback is not confirmed and goes on in the background"
    };
    Error::InsufficientReplicas(Shortfall {
        required,
        received,
        connected,
        rolled_back,
        subject: "grant",
        detail: format!(
            " in time{connected_now}: it does not count, and {state}. Look after the replicas, ask for fewer acks, or, \
             for a development server without replicas, say redis: {{ url, replicas: 0 }}"
        ),
    })
}

/// Too few acknowledgements for an extension.
pub(super) fn extension_shortfall(required: u32, received: u32) -> Error {
    Error::InsufficientReplicas(Shortfall {
        required,
        received,
        connected: None,
        rolled_back: false,
        subject: "extension",
        detail: " in time: the lease ends when it would have ended without it".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error as the server sends it.
    fn sent(text: &str) -> ServerError {
        match redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap() {
            Value::ServerError(error) => error,
            other => panic!("no error: {other:?}"),
        }
    }

    #[test]
    fn what_was_refused_before_it_ran_has_written_nothing() {
        let refused = |text: &str| match refusal(&sent(text), "db:6379", 2) {
            Refusal::Nothing(error) => error.code(),
            other => panic!("{text}: {other:?}"),
        };
        for text in [
            "READONLY You can't write against a read only replica.",
            "LOADING Redis is loading the dataset in memory",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "CLUSTERDOWN The cluster is down",
            "BUSY Redis is busy running a script.",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "MISCONF Redis is configured to save RDB snapshots",
            "NOAUTH Authentication required.",
            "NOPERM this user has no permissions to run the 'evalsha' command",
            "TRYAGAIN Multiple keys request during rehashing of slot",
        ] {
            assert_eq!(refused(text), "BACKEND_UNAVAILABLE", "{text}");
        }
        assert_eq!(refused("NOREPLICAS Not enough good replicas to write."), "INSUFFICIENT_REPLICAS");
        assert_eq!(refused("MOVED 3999 127.0.0.1:6381"), "UNSUPPORTED");
        assert_eq!(refused("CROSSSLOT Keys in request don't hash to the same slot"), "UNSUPPORTED");
        assert_eq!(refused("ERR unknown command 'EVALSHA', with args beginning with: "), "UNSUPPORTED");
        assert_eq!(refusal(&sent("NOSCRIPT No matching script."), "db", 0), Refusal::NoScript);
    }

    #[test]
    fn what_failed_while_it_ran_may_have_written() {
        for text in ["WRONGTYPE Operation against a key", "ERR user_script:7: boom", "UNKILLABLE Sorry"] {
            assert!(matches!(refusal(&sent(text), "db", 0), Refusal::Perhaps(_)), "{text}");
        }
    }

    #[test]
    fn only_a_number_is_an_acknowledgement() {
        assert_eq!(acknowledged(&Value::Int(2), "db"), Acknowledged::By(2));
        let no_wait = Value::ServerError(sent("ERR unknown command 'WAIT'"));
        assert!(matches!(acknowledged(&no_wait, "db"), Acknowledged::Never(_)));
        let demoted =
            Value::ServerError(sent("UNBLOCKED force unblock from blocking operation (master -> replica?)"));
        assert!(matches!(acknowledged(&demoted, "db"), Acknowledged::Unknown(_)));
        let replica = Value::ServerError(sent("ERR WAIT cannot be used with replica instances."));
        assert!(matches!(acknowledged(&replica, "db"), Acknowledged::Unknown(_)));
        assert!(matches!(acknowledged(&Value::Nil, "db"), Acknowledged::Unknown(_)));
    }
}
