//! What error replies mean.

use redis::Value;

use super::operation::Operation;
use super::replies::acknowledgement::Acknowledgement;
use super::replies::proof::{Proof, Received};
use super::replies::{ReplyContext, ScriptResult};
use super::values::reply_code;
use crate::backend::redis::config::address::Address;
use crate::error::{Call, Error, Report};

/// An error line, parsed.
fn error(line: &str) -> Value {
    redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap()
}

#[test]
fn after_a_request_that_could_not_be_sent_another_may_soon_succeed() {
    let error = context(Operation::Acquire, 1).not_sent(&"the server closed the connection");
    assert_eq!((error.code(), error.is_failover()), ("BACKEND_UNAVAILABLE", true));
}

fn context(operation: Operation, required: u32) -> ReplyContext<'static> {
    static ADDRESS: std::sync::OnceLock<Address> = std::sync::OnceLock::new();
    let address: &Address = ADDRESS.get_or_init(|| Address::Tcp { host: "redis.test".into(), port: 6379 });
    let proof = Proof { replicas: required, fsync: false };
    ReplyContext { address, operation, proof, declared: 2, of_cluster: false, prefix: "p" }
}

/// The error of a refusal, which proves that nothing was written.
fn refused(line: &str) -> Error {
    match context(Operation::Acquire, 2).script_result(&error(line)) {
        ScriptResult::Refused(error) | ScriptResult::WrongServer(error) => error,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn a_number_is_a_token_or_a_remaining_time() {
    let context = context(Operation::Acquire, 2);
    assert_eq!(context.script_result(&Value::Int(17)), ScriptResult::Done(17));
    assert_eq!(context.script_result(&Value::Int(0)), ScriptResult::Declined(0));
    assert_eq!(context.script_result(&Value::Int(-8)), ScriptResult::Declined(-8));
}

#[test]
fn each_refusal_says_what_to_do() {
    for (line, code, words) in [
        ("READONLY You can't write against a read only replica.", "BACKEND_UNAVAILABLE", "primary"),
        ("READONLY You can't write … script: 2f, on @user_script:22.", "BACKEND_UNAVAILABLE", "primary"),
        ("LOADING Redis is loading the dataset in memory", "BACKEND_UNAVAILABLE", "try again"),
        ("MASTERDOWN Link with MASTER is down", "BACKEND_UNAVAILABLE", "primary"),
        ("CLUSTERDOWN Hash slot not served", "BACKEND_UNAVAILABLE", "CLUSTER INFO"),
        ("MOVED 3999 127.0.0.1:6381", "UNSUPPORTED", "redis: { cluster }"),
        ("ASK 3999 127.0.0.1:6381", "UNSUPPORTED", "redis: { cluster }"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "UNSUPPORTED", "redis: { cluster }"),
        ("CROSSSLOT Keys in request don't hash to the same slot", "UNSUPPORTED", "{order:5}"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "BACKEND_UNAVAILABLE", "maxmemory"),
        ("MISCONF Redis is configured to save RDB snapshots", "BACKEND_UNAVAILABLE", "log"),
        (
            "NOPERM this user has no permissions to run the 'evalsha' command",
            "BACKEND_UNAVAILABLE",
            "allow the user +evalsha; all that it needs: ~p:* &p:wake:* +ping",
        ),
        ("NOAUTH Authentication required.", "BACKEND_UNAVAILABLE", "password"),
        ("BUSY Redis is busy running a script.", "BACKEND_UNAVAILABLE", "SCRIPT KILL"),
        ("WRONGTYPE Operation against a key", "BACKEND_UNAVAILABLE", "prefix"),
        ("ERR max number of clients reached", "BACKEND_UNAVAILABLE", "maxclients"),
        ("ERR unknown command 'EVALSHA', with args beginning with:", "UNSUPPORTED", "Lua scripts"),
        ("ERR unknown command `evalsha`", "UNSUPPORTED", "Lua scripts"),
        ("ERR Command is not available: 'EVALSHA'.", "UNSUPPORTED", "Lua scripts"),
        (
            "ERR Error running script (call to f_1): @user_script:20: @user_script: 20: -READONLY You can't write",
            "BACKEND_UNAVAILABLE",
            "primary",
        ),
        (
            "ERR Error running script (call to f_1): @user_script:7: WRONGTYPE Operation against a key",
            "BACKEND_UNAVAILABLE",
            "prefix",
        ),
    ] {
        let error = refused(line);
        assert_eq!(error.code(), code, "{line}");
        let message = error.to_string();
        assert!(message.contains(words), "{line}: {message}");
        assert!(
            message.contains("redis at redis.test:6379") && message.contains("nothing was granted"),
            "{message}"
        );
        assert_eq!(error.cause(), Some(line), "the server's words are kept");
    }
}

#[test]
fn too_few_good_replicas_is_a_shortfall_that_wrote_nothing() {
    let Error::InsufficientReplicas(shortfall) = refused("NOREPLICAS Not enough good replicas to write.")
    else {
        panic!("another class");
    };
    assert!(shortfall.rolled_back);
    assert_eq!((shortfall.required, shortfall.received), (2, 0));
    assert!(shortfall.to_string().contains("min-replicas-to-write"), "{shortfall}");
    let without = context(Operation::Acquire, 0).script_result(&error("NOREPLICAS Not enough"));
    assert!(matches!(without, ScriptResult::Refused(Error::BackendUnavailable(_))), "none were required");
}

#[test]
fn a_forgotten_script_is_loaded_again_and_every_other_error_may_have_written() {
    let context = context(Operation::Acquire, 2);
    let forgotten = context.script_result(&error("NOSCRIPT No matching script."));
    assert!(
        matches!(forgotten, ScriptResult::NotLoaded(error) if error.to_string().contains("SCRIPT FLUSH"))
    );
    for line in [
        "ERR Error running script (call to f_1): @user_script:9: attempt to compare nil with number",
        "ERR value is not an integer or out of range script: 2f, on @user_script:30.",
        "NOPERM The user executing the script can't run this command or subcommand script: 2f",
        "ERR This Redis command is not allowed from script script: 2f, on @user_script:2.",
        "NEWKIND of error",
    ] {
        assert!(matches!(context.script_result(&error(line)), ScriptResult::Failed(_)), "{line}");
    }
    assert!(matches!(context.script_result(&Value::Nil), ScriptResult::Failed(_)));
}

#[test]
fn a_failed_wait_is_not_a_proof() {
    let context = context(Operation::Acquire, 2);
    let received = Received { replicas: 2, on_disk: false };
    assert_eq!(context.acknowledgement(&Value::Int(2)), Acknowledgement::Received(received));
    for (line, code) in [
        ("ERR unknown command 'WAIT', with args beginning with: '2' '50'", "UNSUPPORTED"),
        ("ERR Command is not available: 'WAIT'", "UNSUPPORTED"),
        ("NOPERM this user has no permissions to run the 'wait' command", "BACKEND_UNAVAILABLE"),
        ("ERR WAIT cannot be used with replica instances.", "BACKEND_UNAVAILABLE"),
    ] {
        let Acknowledgement::Impossible(error) = context.acknowledgement(&error(line)) else {
            panic!("{line}")
        };
        assert_eq!(error.code(), code, "{line}");
    }
    for line in ["UNBLOCKED force unblock from blocking operation", "BUSY Redis is busy", "ERR other"] {
        assert!(matches!(context.acknowledgement(&error(line)), Acknowledgement::Unknown(_)), "{line}");
    }
}

#[test]
fn a_proof_on_disk_counts_the_primary_too() {
    let proof = Proof { replicas: 1, fsync: true };
    let context = context(Operation::Acquire, 1).requiring(proof);
    let pair = |primary, replicas| Value::Array(vec![Value::Int(primary), Value::Int(replicas)]);
    for (primary, replicas, met) in [(1, 1, true), (1, 2, true), (0, 1, false), (1, 0, false), (0, 2, false)]
    {
        let Acknowledgement::Received(received) = context.acknowledgement(&pair(primary, replicas)) else {
            panic!("{primary} {replicas}")
        };
        assert_eq!(proof.is_met_by(received), met, "{primary} {replicas}");
    }
    // A number is the reply of WAIT, which says nothing about disks, and a pair none of its replies.
    assert!(matches!(context.acknowledgement(&Value::Int(2)), Acknowledgement::Unknown(_)));
    let of_wait = self::context(Operation::Acquire, 1).acknowledgement(&pair(1, 1));
    assert!(matches!(of_wait, Acknowledgement::Unknown(_)));
    for (line, code, words) in [
        ("ERR unknown command 'WAITAOF', with args beginning with: '1'", "UNSUPPORTED", "Redis 7.2"),
        (
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
            "UNSUPPORTED",
            "the primary writes no append-only file",
        ),
        (
            "NOPERM this user has no permissions to run the 'waitaof' command",
            "BACKEND_UNAVAILABLE",
            "+waitaof",
        ),
        ("ERR WAITAOF cannot be used with replica instances.", "BACKEND_UNAVAILABLE", "is a replica"),
    ] {
        let Acknowledgement::Impossible(error) = context.acknowledgement(&error(line)) else {
            panic!("{line}")
        };
        assert_eq!(error.code(), code, "{line}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_shortfall_on_disk_names_the_side_that_lags() {
    let of = |required: u32, on_disk, replicas, timeout_ms| {
        let context =
            context(Operation::Acquire, required).requiring(Proof { replicas: required, fsync: true });
        context.shortfall(Received { replicas, on_disk }, timeout_ms, None, true).to_string()
    };
    for (message, words) in [
        (of(2, true, 1, 50), "the primary has it there, 1 of the required 2 replicas do; "),
        (of(2, true, 1, 50), "check the replicas: "),
        (of(2, false, 1, 50), "check the primary and the replicas: "),
        (of(2, false, 2, 50), "check the primary: "),
        (of(0, false, 0, 50), "the primary does not have it there; it was rolled back"),
        (
            of(1, true, 0, 999),
            "with appendfsync everysec it takes up to a second, so raise ackTimeoutMs (999)",
        ),
    ] {
        assert!(message.contains(words), "{words}: {message}");
        assert!(message.contains("appendfsync no never acknowledges"), "{message}");
    }
    assert!(!of(1, true, 0, 1_000).contains("everysec"));
}

const fn replicas(replicas: u32) -> Received {
    Received { replicas, on_disk: false }
}

#[test]
fn a_shortfall_says_what_to_do_for_a_development_server() {
    let grant = context(Operation::Acquire, 2).shortfall(replicas(1), 50, Some(1), true).to_string();
    assert!(
        grant.starts_with("1 of the required 2 replicas acknowledged the grant in time (1 connected"),
        "{grant}"
    );
    for words in [
        "; `replicas` declares 2, which is its default; ",
        "; if the server has no more than 1, declare that: redis: { url, replicas: 1 }; otherwise check ",
    ] {
        assert!(grant.contains(words), "{grant}");
    }
    let none = context(Operation::Acquire, 2).shortfall(replicas(0), 50, Some(0), true).to_string();
    assert!(none.contains("redis: { url, replicas: 0 }"), "{none}");
    let three = ReplyContext { declared: 3, ..context(Operation::Acquire, 2) };
    let lagging = three.shortfall(replicas(1), 50, Some(3), true).to_string();
    assert!(lagging.contains("; `replicas` declares 3; ") && !lagging.contains("url"), "{lagging}");
    let open = context(Operation::Acquire, 2).shortfall(replicas(0), 50, None, false).to_string();
    assert!(open.contains("background"), "{open}");
    let extension = context(Operation::Extend, 2).shortfall(replicas(0), 50, None, false).to_string();
    assert!(extension.contains("old deadline"), "{extension}");
}

#[test]
fn the_code_of_an_error_reply_is_told_if_it_is_a_known_one() {
    for (cause, code) in [
        ("WRONGPASS invalid username-password pair or user is disabled.", Some("WRONGPASS")),
        ("NOAUTH Authentication required.", Some("NOAUTH")),
        ("ERR", Some("ERR")),
        ("@user_script: 1: -OOM", None),
        ("WAIT failed: ERR no", None),
        ("no reply within 5 ms", None),
    ] {
        let error = Error::BackendUnavailable(Report::caused("it failed", cause));
        assert_eq!(reply_code(&error), code, "{cause}");
    }
    assert_eq!(reply_code(&Error::Closed), None);
}

#[test]
fn a_query_that_fails_leaves_it_to_its_caller_what_that_means() {
    let failed = context(Operation::Query, 2).no_reply(&"the server closed the connection");
    assert!(failed.to_string().ends_with("; try again. Nothing was granted or changed"), "{failed}");
    let of_wait = failed.of(Call::Acquire).to_string();
    assert!(of_wait.ends_with("; try again. Nothing was granted"), "{of_wait}");
    let release = context(Operation::Release, 2).not_sent(&"it broke");
    assert_eq!(release.clone().of(Call::Release), release);
}

#[test]
fn an_unknown_outcome_says_what_it_means_for_the_lease() {
    for (operation, words) in [
        (Operation::Acquire, "is being rolled back"),
        (Operation::Extend, "old deadline"),
        (Operation::Release, "until it ends"),
    ] {
        let error = context(operation, 2).unknown("res", &"the server closed the connection");
        assert_eq!(error.code(), "OUTCOME_UNKNOWN");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.cause(), Some("the server closed the connection"));
    }
}
