//! The error replies that prove that the server executed nothing: the meaning of each, and what to do about
//! it.

use std::sync::Arc;

use redis::{ServerError, Value};

use crate::backend::redis::protocol::values::error_text;

/// The meaning of an error reply, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub kind: RefusalKind,
    pub meaning: &'static str,
    pub remedy: &'static str,
}

/// How callers treat a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    /// The server, or this user, cannot do it now.
    Unavailable,
    /// This kind of server can never do it.
    Unsupported,
    /// The primary has fewer good replicas than it is configured to require.
    TooFewReplicas,
    /// The server refuses the connection itself. No answer to a script.
    Connection,
}

/// The meaning of a code, and what to do.
type Row = (&'static str, RefusalKind, &'static str, &'static str);

/// The codes of refusals.
const REFUSALS: &[Row] = {
    use RefusalKind::{Connection, TooFewReplicas, Unavailable, Unsupported};
    const OF_CLUSTER: &str = "this server is part of a Redis Cluster";
    &[
        (
            "READONLY",
            Unavailable,
            "this server is a replica, which takes no writes",
            "use the URL of the primary",
        ),
        (
            "MASTERDOWN",
            Unavailable,
            "this server is a replica that lost its primary",
            "use the URL of the primary",
        ),
        (
            "NOREPLICAS",
            TooFewReplicas,
            "the primary has fewer good replicas than its min-replicas-to-write",
            "check the replicas",
        ),
        ("LOADING", Unavailable, "the server is still loading its data", "try again when it has finished"),
        (
            "BUSY",
            Unavailable,
            "the server is busy with a long script",
            "wait for its end, or use SCRIPT KILL",
        ),
        ("OOM", Unavailable, "the server is out of memory", "raise its maxmemory, and use noeviction"),
        ("MISCONF", Unavailable, "the server refuses writes because it cannot persist them", "check its log"),
        (
            "WRONGTYPE",
            Unavailable,
            "a key of this lock holds a value of another type",
            "another program writes keys with this prefix: use another prefix",
        ),
        (
            "NOTTL",
            Unavailable,
            "the key of a lock has no TTL, so it was not written by fencelock and never ends by itself",
            "another program writes keys with this prefix: use another prefix, or delete the key",
        ),
        (
            "NOSCRIPT",
            Unavailable,
            "the server forgets scripts as soon as they are loaded",
            "find the client that keeps running SCRIPT FLUSH",
        ),
        ("CLUSTERDOWN", Unavailable, "the Redis cluster is down", "check CLUSTER INFO"),
        ("MOVED", Unsupported, OF_CLUSTER, "use redis: { cluster }"),
        ("ASK", Unsupported, OF_CLUSTER, "use redis: { cluster }"),
        ("TRYAGAIN", Unsupported, OF_CLUSTER, "use redis: { cluster }"),
        (
            "CROSSSLOT",
            Unsupported,
            "the resources of one lock are in different slots of a Redis Cluster",
            "start their names with the same tag in braces, as in {order:5}:stock and {order:5}:bill",
        ),
        (
            "NOAUTH",
            Unavailable,
            "the server asks for a password",
            "pass it as `password` (with a `username` if it has one), or in the URL",
        ),
        (
            "WRONGPASS",
            Connection,
            "wrong username or password",
            "check them; in a URL the password must be percent-encoded",
        ),
        ("NOPERM", Unavailable, "the Redis user lacks a permission", "see its ACL"),
        (
            "DENIED",
            Connection,
            "the server is in protected mode",
            "set a password on it, or bind it to this network",
        ),
    ]
};

/// An error without a code of its own.
const TOO_MANY_CLIENTS: Refusal = Refusal {
    kind: RefusalKind::Unavailable,
    meaning: "the server has too many clients",
    remedy: "raise its maxclients, or use fewer clients",
};

/// The refusal behind an error reply; `None` if the reply does not prove that nothing was executed.
pub(crate) fn refusal(error: &ServerError) -> Option<Refusal> {
    let code = code(error);
    // Inside a script it may follow a write, if the permissions of the keys differ.
    if code == "NOPERM" && comes_from_a_script(error) {
        return None;
    }
    if code == "ERR" {
        let too_many = error.details().is_some_and(|details| details.contains("max number of clients"));
        return too_many.then_some(TOO_MANY_CLIENTS);
    }
    let &(_, kind, meaning, remedy) = REFUSALS.iter().find(|row| row.0 == code)?;
    Some(Refusal { kind, meaning, remedy })
}

/// Whether an error reply proves that nothing was executed.
pub(crate) fn is_refusal(error: &ServerError) -> bool {
    refusal(error).is_some_and(|refusal| refusal.kind != RefusalKind::Connection)
}

/// Whether an error speaks of the server rather than of the request: it is a replica, or becomes one. After a
/// failover the same name leads to another server, but this connection never will.
pub(crate) fn is_wrong_server(error: &ServerError) -> bool {
    match code(error) {
        // LOADING: it discards its data for those of a new primary, unless it has just started.
        "READONLY" | "MASTERDOWN" | "UNBLOCKED" | "LOADING" => true,
        "ERR" => error.details().is_some_and(|details| details.contains("cannot be used with replica")),
        _ => false,
    }
}

/// Whether the server does not accept, or no longer, who this client says it is.
pub(crate) fn is_login_refusal(error: &ServerError) -> bool {
    match error.code() {
        "NOAUTH" | "WRONGPASS" => true,
        "ERR" => error.details().is_some_and(|details| details.contains("invalid password")),
        _ => false,
    }
}

/// Whether the server does not know the script that was called.
pub(crate) fn is_not_loaded(error: &ServerError) -> bool {
    error.code() == "NOSCRIPT"
}

/// Whether a call is refused because of the names of its keys, so that some of them may be accepted alone.
pub(crate) fn concerns_names(error: &ServerError) -> bool {
    match code(error) {
        "CROSSSLOT" => true,
        // "… to access a key", or "… to access one of the keys used as arguments"; not "… to run a command".
        "NOPERM" => error.details().is_some_and(|details| details.contains("access")),
        _ => false,
    }
}

fn comes_from_a_script(error: &ServerError) -> bool {
    let text = error_text(error);
    text.contains("script:") || text.contains("executing the script")
}

/// The code of an error reply. Redis 6 puts the error of a command inside a script after its position, and
/// into an `ERR` of its own if it ended the script:
/// `ERR Error running script (call to f_…): @user_script:20: @user_script: 20: -READONLY You can't write …`,
/// or `… @user_script:7: WRONGTYPE Operation …`.
fn code(error: &ServerError) -> &str {
    fn after_position(text: &str) -> Option<&str> {
        let text = text.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ':' | ' ' | '-'));
        let code = text.split(' ').next()?;
        (!code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase())).then_some(code)
    }
    let details = error.details().unwrap_or_default();
    match error.code() {
        "ERR" => {
            details.rsplit_once("@user_script").and_then(|(_, text)| after_position(text)).unwrap_or("ERR")
        }
        "@user_script:" => after_position(details).unwrap_or("ERR"),
        code => code,
    }
}

/// Whether the server, or a proxy in front of it, lacks the command that was sent.
pub(crate) fn is_missing_command(error: &ServerError) -> bool {
    if error.code() != "ERR" {
        return false;
    }
    let details = error.details().unwrap_or_default().to_ascii_lowercase();
    // A command that a script calls is a different matter.
    !details.contains("script:")
        && !details.contains("running script")
        && (details.starts_with("unknown command")
            || ["not supported", "unsupported", "not available", "not allowed", "is disabled"]
                .iter()
                .any(|words| details.contains(words)))
}

/// Why a reply means that its server is not the right one.
pub(crate) fn wrong_server(reply: &Value) -> Option<Arc<str>> {
    let said = match reply {
        Value::ServerError(error) => Some(error).filter(|error| is_wrong_server(error)),
        Value::Array(items) => items.iter().find_map(|item| match item {
            Value::ServerError(error) if is_wrong_server(error) => Some(error),
            _ => None,
        }),
        _ => None,
    };
    said.map(|error| format!("this is not the right server any more: {}", error_text(error)).into())
}

#[cfg(test)]
mod tests {
    use redis::{FromRedisValue, Value};

    use super::*;

    #[test]
    fn only_errors_about_names_are_a_reason_to_ask_for_each_alone() {
        for (line, expected) in [
            ("CROSSSLOT Keys in request don't hash to the same slot", true),
            ("NOPERM No permissions to access a key", true),
            ("NOPERM this user has no permissions to access one of the keys used as arguments", true),
            ("NOPERM User u has no permissions to run the 'evalsha' command", false),
            ("READONLY You can't write against a read only replica.", false),
            ("LOADING Redis is loading the dataset in memory", false),
        ] {
            let reply = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
            let Value::ServerError(error) = reply else { panic!("no error") };
            assert_eq!(concerns_names(&error), expected, "{line}");
        }
    }

    /// Guards the assumption of `code`: the parser keeps the first word as code and the rest as details.
    #[test]
    fn the_parser_splits_error_lines_at_the_first_space() {
        let error = redis::parse_redis_value(b"-ERR a: -OOM b\r\n").unwrap();
        let Value::ServerError(parsed) = error else { panic!("no error") };
        assert_eq!((parsed.code(), parsed.details(), code(&parsed)), ("ERR", Some("a: -OOM b"), "ERR"));
        assert!(String::from_redis_value(Value::ServerError(parsed)).is_err());
    }
}
