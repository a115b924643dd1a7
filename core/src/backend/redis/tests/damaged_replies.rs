//! Whatever a server sends: no panic, no call that does not end, no grant that it did not give.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config as Cases, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::backend::redis::tests::servers::faulty_server::{Damage, FaultyServer};

/// Replies of every kind, whole and not.
const REPLIES: [&str; 24] = [
    "+OK\r\n",
    "+PONG\r\n",
    "+\r\n",
    "-ERR no\r\n",
    "-READONLY You can't write against a read only replica.\r\n",
    "-NOSCRIPT No matching script.\r\n",
    "-\r\n",
    ":0\r\n",
    ":1\r\n",
    ":2\r\n",
    ":-1\r\n",
    ":9223372036854775807\r\n",
    "$-1\r\n",
    "$0\r\n\r\n",
    "$2\r\n17\r\n",
    "$100000000000\r\n",
    "*-1\r\n",
    "*0\r\n",
    "*2\r\n:7\r\n:1\r\n",
    "*2\r\n*1\r\n:7\r\n:1\r\n",
    "*1000000000\r\n",
    "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
    "%1\r\n+a\r\n+b\r\n",
    "HTTP/1.1 400 Bad Request\r\n\r\n",
];

/// What each call may answer besides a success.
const CLASSES: [&str; 5] =
    ["BACKEND_UNAVAILABLE", "OUTCOME_UNKNOWN", "INSUFFICIENT_REPLICAS", "UNSUPPORTED", "LOCK_LOST"];

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => select(&REPLIES[..]).prop_map(|reply| reply.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..64),
        1 => vec(select(&b":+-$*0123456789\r\nabc"[..]), 0..64),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => bytes().prop_map(Damage::Before),
        4 => bytes().prop_map(Damage::After),
        4 => bytes().prop_map(Damage::Instead),
        2 => Just(Damage::Twice),
        2 => Just(Damage::PreviousAgain),
        2 => (0_usize..40).prop_map(Damage::Cut),
        1 => (0_usize..40).prop_map(Damage::Stall),
    ]
}

fn impatient(server: &FaultyServer) -> Arc<RedisBackend> {
    let limits = Options { connect_timeout_ms: 150, command_timeout_ms: 50, ..options(&server.url(), 1) };
    backend_with(limits)
}

/// Calls of every kind, several at a time, until the server has done what it was told. Fails on a grant that
/// the server did not give, on an error of no class, and on a call that takes too long.
fn use_it(backend: &Arc<RedisBackend>, server: &FaultyServer) {
    let calls = (0..6_u32).map(|number| {
        let (backend, server) = (Arc::clone(backend), server.clone());
        async move {
            let required = number % 2;
            let lease = request(one(&format!("r{number}")), 60_000, acks(required, 20));
            let outcome = backend.acquire(&lease).await;
            if let Ok(Attempt::Granted(grant)) = &outcome {
                let owner = lease.owner.to_string();
                assert!(server.has_granted(&owner, grant.token, required > 0), "a false grant: {grant:?}");
            }
            let extended = backend.extend(&lease.resources, lease.owner, lease.ttl, lease.acks).await;
            let released = backend.release(&lease.resources, lease.owner, lease.ttl, None).await;
            let inspected = backend.inspect(&lease.resources.as_slice()[0]).await;
            let errors = [outcome.err(), extended.err(), released.err(), inspected.err()];
            for error in errors.into_iter().flatten() {
                assert!(CLASSES.contains(&code(&error)), "{error:?}");
            }
        }
    });
    let all = join_all(calls.collect::<Vec<_>>());
    on_io(async move { tokio::time::timeout(LONG / 2, all).await }).expect("every call ends in time");
}

/// Callers who do nothing but acquire, so that replies of one form are in flight all the time.
fn acquire_only(backend: &Arc<RedisBackend>, server: &FaultyServer) {
    let callers = (0..2).map(|_| {
        let (backend, server) = (Arc::clone(backend), server.clone());
        async move {
            for _ in 0..30 {
                let lease = request(one("r"), 60_000, acks(0, 0));
                if let Ok(Attempt::Granted(grant)) = backend.acquire(&lease).await {
                    let owner = lease.owner.to_string();
                    assert!(server.has_granted(&owner, grant.token, false), "a false grant: {grant:?}");
                }
            }
        }
    });
    let all = join_all(callers.collect::<Vec<_>>());
    on_io(async move { tokio::time::timeout(LONG / 2, all).await }).expect("every call ends in time");
}

/// The server behaves now, so this works again.
fn recovers(backend: &Arc<RedisBackend>, server: &FaultyServer) {
    server.behave();
    eventually("it works again", || {
        let lease = request(one("again"), 60_000, acks(1, 20));
        matches!(acquire(backend, &lease), Ok(Attempt::Granted(grant))
            if server.has_granted(&lease.owner.to_string(), grant.token, true))
    });
}

/// Runs these cases, the same ones each time.
fn check<S: Strategy>(cases: u32, seed: u8, strategy: &S, test: impl Fn(S::Value)) {
    let cases = Cases { cases, failure_persistence: None, max_shrink_iters: 20, ..Cases::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    TestRunner::new_with_rng(cases, rng)
        .run(strategy, |value| {
            test(value);
            Ok(())
        })
        .unwrap();
}

#[test]
fn damaged_replies_never_become_grants() {
    std::thread::scope(|scope| {
        for seed in 0..6 {
            scope.spawn(move || {
                let plan = vec(proptest::option::weighted(0.3, damage()), 1..40);
                check(8, seed, &plan, |plan| {
                    let server = FaultyServer::start();
                    let backend = impatient(&server);
                    server.damage(plan);
                    use_it(&backend, &server);
                    recovers(&backend, &server);
                });
            });
        }
    });
}

/// On connections that are busy all the time, where a reply too many finds a command that waits for one.
#[test]
fn surplus_replies_never_become_grants() {
    std::thread::scope(|scope| {
        for seed in 0..8 {
            scope.spawn(move || {
                let surplus = prop_oneof![
                    select(&["+OK\r\n", ":1\r\n", ":2\r\n", "*2\r\n:7\r\n:1\r\n"][..])
                        .prop_map(|reply| Damage::Before(reply.into())),
                    Just(Damage::Twice),
                    Just(Damage::PreviousAgain),
                ];
                let plan = vec(proptest::option::weighted(0.15, surplus), 20..60);
                check(4, seed, &plan, |plan| {
                    let server = FaultyServer::start();
                    let backend = impatient(&server);
                    recovers(&backend, &server);
                    server.damage(plan);
                    acquire_only(&backend, &server);
                    use_it(&backend, &server);
                    recovers(&backend, &server);
                });
            });
        }
    });
}

/// Errors that prove that nothing was written, if they are the answer.
const REFUSALS: [&str; 8] = [
    "-READONLY You can't write against a read only replica.\r\n",
    "-LOADING Redis is loading the dataset in memory\r\n",
    "-NOSCRIPT No matching script.\r\n",
    "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "-BUSY Redis is busy running a script.\r\n",
    "-WRONGTYPE Operation against a key\r\n",
    "-NOPERM this user has no permissions\r\n",
    "-ERR unknown command 'EVALSHA'\r\n",
];

#[test]
fn an_error_too_many_does_not_leave_a_grant() {
    std::thread::scope(|scope| {
        for refusal in REFUSALS {
            for required in [0, 1] {
                scope.spawn(move || {
                    let server = FaultyServer::start();
                    let backend = impatient(&server);
                    recovers(&backend, &server);
                    server.damage_always("acquire", Damage::Before(refusal.into()));
                    let lease = request(one("r"), 60_000, acks(required, 20));
                    let error = acquire(&backend, &lease).unwrap_err();
                    assert_eq!(code(&error), "OUTCOME_UNKNOWN", "{refusal}: {error}");
                    let owner = lease.owner.to_string();
                    eventually("the grant is undone", || !server.is_held_by(&owner));
                });
            }
        }
    });
}

#[test]
fn an_error_in_place_of_the_reply_is_a_refusal() {
    let server = FaultyServer::start();
    for refusal in REFUSALS {
        // Not an impatient one: on a busy machine its limits would be over before the reply.
        let backend = backend(&server.url(), 0);
        server.damage_always("acquire", Damage::Instead(refusal.into()));
        let error = acquire(&backend, &request(one("r"), 60_000, acks(0, 0))).unwrap_err();
        assert_ne!(code(&error), "OUTCOME_UNKNOWN", "{refusal}: {error}");
        assert_eq!(backend.pending_cleanups(), 0, "{refusal}");
    }
}

#[test]
fn every_reply_to_every_command_has_an_outcome() {
    let commands =
        ["PING", "CLIENT", "HELLO", "SCRIPT", "acquire", "WAIT", "echo", "extend", "release", "inspect"];
    std::thread::scope(|scope| {
        let parts = commands.iter().flat_map(|command| REPLIES.chunks(3).map(move |part| (command, part)));
        for (command, replies) in parts {
            scope.spawn(move || {
                let server = FaultyServer::start();
                for &reply in replies {
                    let backend = impatient(&server);
                    server.damage_always(command, Damage::Instead(reply.into()));
                    use_it(&backend, &server);
                    recovers(&backend, &server);
                }
            });
        }
    });
}

#[test]
fn no_message_has_the_password() {
    let password = "hunt\"er2-S3CRET-é";
    let words = [
        format!("-ERR unknown command AUTH {password}\r\n"),
        format!("-ERR unknown command, with args beginning with: {password:?}\r\n"),
        format!("-ERR unknown command '{}\r\n", &password[..12]),
        "-ERR denied for hunt%22er2-S3CRET-%C3%A9\r\n".to_owned(),
        "-ERR {\"auth\":[\"hunt\\\"er2-S3CRET-\\u00e9\"]}\r\n".to_owned(),
        format!("-{password}\r\n"),
        format!("-READONLY You can't write, {password}\r\n"),
        format!("+{password}\r\n"),
        format!("${}\r\n{password}\r\n", password.len()),
        format!("{password}\r\n"),
    ];
    let named = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for command in ["AUTH", "PING", "HELLO", "SCRIPT", "acquire", "WAIT", "echo", "inspect"] {
            for said in &words {
                let named = &named;
                scope.spawn(move || named.fetch_add(said_at(command, said, password), Ordering::Relaxed));
            }
        }
    });
    let named = named.into_inner();
    assert!(named > 10, "messages quote what the server says, without the password: {named}");
}

/// What calls report when the server says this in reply to that command, or behind it: fails if that has the
/// password, and returns how many messages had it.
fn said_at(command: &str, said: &str, password: &str) -> usize {
    let server = FaultyServer::start();
    let mut named = 0;
    for damage in [Damage::Instead, Damage::After] {
        server.damage_always(command, damage(said.into()));
        let limits = Options { connect_timeout_ms: 150, command_timeout_ms: 50, ..options(&server.url(), 1) };
        let backend = backend_with(Options { password: Some(password.into()), ..limits });
        let outcome = acquire(&backend, &request(one("r"), 60_000, acks(1, 20)));
        let inspecting = Arc::clone(&backend);
        let inspected = on_io(async move { inspecting.inspect("r").await });
        for error in outcome.err().into_iter().chain(inspected.err()) {
            let report = format!("{error} {error:?}");
            assert!(!report.contains("S3CRET") && !report.contains("er2-S"), "{command} {said}: {report}");
            named += usize::from(report.contains("***"));
        }
    }
    named
}
