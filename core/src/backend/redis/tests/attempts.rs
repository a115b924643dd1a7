//! Granted, busy, extended and released, with healthy servers.

use super::*;
use crate::backend::redis::tests::servers::server::{Server, available};

#[test]
fn a_grant_is_on_both_replicas_and_busy_says_for_how_long() {
    if !available() {
        return;
    }
    let (primary, replicas) = Server::with_replicas(2);
    let backend = backend(&primary.url(), 2);
    let first = request(one("order:5"), 30_000, acks(2, 1_000));
    let grant = granted(acquire(&backend, &first));
    let proof = grant.acks.unwrap();
    assert_eq!((proof.required, proof.received), (2, 2));
    for server in replicas.iter().chain([&primary]) {
        assert_eq!(server.run::<String>(&["GET", &lock_key("order:5")]), first.owner.to_string());
        assert_eq!(server.run::<u64>(&["GET", &fence_key("order:5")]), grant.token);
    }
    let Ok(Attempt::Busy(Busy { remaining: Some(left), .. })) =
        acquire(&backend, &request(one("order:5"), 1_000, acks(2, 1_000)))
    else {
        panic!("it must be busy");
    };
    assert!(left <= Duration::from_secs(30) && left > Duration::from_secs(20), "{left:?}");
    let week = 7 * 24 * 60 * 60 * 1000;
    let fence_ttl: i64 = primary.run(&["PTTL", &fence_key("order:5")]);
    assert!(fence_ttl > week && fence_ttl <= week + 30_000, "{fence_ttl}");

    assert!(release(&backend, &first).unwrap());
    assert!(!release(&backend, &first).unwrap(), "it can be released only once");
    let second = granted(acquire(&backend, &request(one("order:5"), 1_000, acks(1, 1_000))));
    assert!(second.token > grant.token);
    assert!(grant.sent < second.sent);
}

#[test]
fn tokens_rise_with_and_without_the_stored_one_and_above_a_minimum() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let backend = backend(&server.url(), 0);
    let mut last = 0;
    let mut next = |min_token: u64| {
        let attempt = Request { min_token, ..request(one("r"), 10_000, acks(0, 0)) };
        let token = granted(acquire(&backend, &attempt)).token;
        assert!(release(&backend, &attempt).unwrap());
        assert!(token > last && token > min_token, "{token} after {last}, minimum {min_token}");
        last = token;
        token
    };
    let first = next(0);
    let wall = Clock::System.wall_micros();
    assert!(first.abs_diff(wall) < 60_000_000, "{first} is not the server's time {wall}");
    server.run::<()>(&["FLUSHALL"]);
    next(0);
    let far = crate::lease::token::MIN_TOKEN_LIMIT - 1;
    assert_eq!(next(far), far + 1, "exact at the limit of a double");
    assert_eq!(next(0), far + 2, "above the stored token, which is ahead of the clock");
    let keep: u64 = server.run(&["PTTL", &fence_key("r")]);
    let until_clock_has_passed = (far + 2 - Clock::System.wall_micros()) / 1000;
    assert!(keep.abs_diff(until_clock_has_passed) < 60_000, "{keep}");
}

#[test]
fn several_resources_are_all_granted_or_none() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let backend = backend(&server.url(), 0);
    let many = |names: &[&str]| Resources::many(names.iter().map(|&name| name.into()).collect()).unwrap();
    let ahead = Request { min_token: 1 << 52, ..request(one("c"), 60_000, acks(0, 0)) };
    granted(acquire(&backend, &ahead));
    let short = request(one("b"), 20_000, acks(0, 0));
    granted(acquire(&backend, &short));

    let all = request(many(&["a", "b", "c"]), 60_000, acks(0, 0));
    let Ok(Attempt::Busy(Busy { resource, remaining: Some(left) })) = acquire(&backend, &all) else {
        panic!("two of them are held")
    };
    assert!(left > Duration::from_secs(30) && resource == 2, "the longest counts: {left:?} {resource}");
    assert!(!server.exists(&lock_key("a")) && !server.exists(&fence_key("a")), "nothing was written");

    release(&backend, &short).unwrap();
    release(&backend, &ahead).unwrap();
    let grant = granted(acquire(&backend, &all));
    assert_eq!(grant.token, (1 << 52) + 2, "above the highest of the three");
    for name in ["a", "b", "c"] {
        assert_eq!(server.run::<u64>(&["GET", &fence_key(name)]), grant.token);
    }
    // Another owner has a part of it: the rest is released, and the result says that it was not all.
    server.run::<()>(&["SET", &lock_key("b"), "stranger"]);
    assert!(!release(&backend, &all).unwrap());
    assert!(!server.exists(&lock_key("a")) && !server.exists(&lock_key("c")));
    assert_eq!(server.run::<String>(&["GET", &lock_key("b")]), "stranger");
}

#[test]
fn keys_of_another_type_are_errors_and_nothing_is_written() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let backend = backend(&server.url(), 0);
    server.run::<()>(&["HSET", &fence_key("r"), "field", "value"]);
    let attempt = request(one("r"), 10_000, acks(0, 0));
    let error = acquire(&backend, &attempt).unwrap_err();
    assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
    assert!(error.to_string().contains("another type"), "{error}");
    assert!(!server.exists(&lock_key("r")));
    server.run::<()>(&["DEL", &fence_key("r")]);
    server.run::<()>(&["HSET", &lock_key("r"), "field", "value"]);
    let error = acquire(&backend, &attempt).unwrap_err();
    assert!(error.to_string().contains("another type"), "{error}");
    assert!(!release(&backend, &attempt).unwrap());
}

/// What no fence of ours holds, and the two highest tokens.
const BAD_FENCES: [&str; 19] = [
    "abc",
    "",
    "-5",
    "1e309",
    "nan",
    "inf",
    "-inf",
    "0x1fffffffffffff",
    " 5 ",
    "5abc",
    "1e15",
    "\u{1b}[31m",
    "9007199254740991",
    "9007199254740992",
    "10000000000000000",
    "9223372036854775807",
    "9300000000000000000",
    "99999999999999999999999",
    "1.5",
];

#[test]
fn a_fence_without_a_next_token_refuses_its_own_request_only_and_stays() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let backend = backend(&server.url(), 0);
    for (number, &bad) in BAD_FENCES.iter().enumerate() {
        server.run::<()>(&["SET", &fence_key("bad"), bad, "PX", "5000000"]);
        let mut names: Vec<_> = (0..62).map(|i| one(&format!("n{number}:{i}"))).collect();
        names.insert(7, one("bad"));
        names.insert(40, Resources::many(vec![format!("m{number}"), "bad".into()]).unwrap());
        let attempts: Vec<_> = names.iter().map(|names| request(names.clone(), 60_000, acks(0, 0))).collect();
        let outcomes = acquire_together(&backend, &attempts);
        for (outcome, names) in outcomes.into_iter().zip(&names) {
            if names.as_slice().iter().all(|name| &**name != "bad") {
                granted(outcome);
                continue;
            }
            let error = outcome.unwrap_err();
            assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
            let words = "the stored token of \"bad\" is ";
            assert!(
                error.to_string().contains(words) && error.to_string().contains("cannot rise"),
                "{error}"
            );
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
        assert!(
            !server.exists(&lock_key("bad")) && !server.exists(&lock_key(&format!("m{number}"))),
            "{bad}"
        );
        assert_eq!(server.run::<String>(&["GET", &fence_key("bad")]), bad);
        let left_ms: i64 = server.run(&["PTTL", &fence_key("bad")]);
        let is_number = !bad.is_empty() && bad.bytes().all(|byte| byte.is_ascii_digit());
        assert!(!is_number || left_ms > 5_000_000, "until the clock has passed it: {left_ms}");
        server.run::<()>(&["SET", &lock_key("bad"), "other", "PX", "60000"]);
        let held = acquire(&backend, &request(one("bad"), 60_000, acks(0, 0)));
        assert!(matches!(held, Ok(Attempt::Busy(_))), "a held lock is busy, whatever its fence: {held:?}");
        server.run::<()>(&["DEL", &lock_key("bad")]);
    }
    server.run::<()>(&["SET", &fence_key("bad"), "9007199254740990"]);
    assert_eq!(granted(acquire(&backend, &request(one("bad"), 10, acks(0, 0)))).token, (1 << 53) - 1);
}

#[test]
fn an_extension_never_shortens_never_revives_and_is_proved_like_a_grant() {
    if !available() {
        return;
    }
    let (primary, replicas) = Server::with_replicas(1);
    let backend = backend(&primary.url(), 1);
    let policy = acks(1, 1_000);
    let lease = request(one("r"), 20_000, policy);
    granted(acquire(&backend, &lease));
    let extend = |ms: u32, policy: AckPolicy| {
        let (backend, lease) = (Arc::clone(&backend), lease.clone());
        on_io(async move { backend.extend(&lease.resources, lease.owner, ttl(ms), policy).await })
    };
    let left = || primary.run::<i64>(&["PTTL", &lock_key("r")]);
    let before = Clock::System.boot();
    assert!(extend(60_000, policy).unwrap() >= before);
    assert!(left() > 50_000, "{}", left());
    let fence: i64 = primary.run(&["PTTL", &fence_key("r")]);
    assert!(fence > 7 * 24 * 60 * 60 * 1000 + 50_000, "the fence is kept longer too: {fence}");
    extend(10, policy).unwrap();
    assert!(left() > 50_000, "{}", left());

    let writes = || {
        let info = primary.info("persistence");
        let line = info.lines().find_map(|line| line.strip_prefix("rdb_changes_since_last_save:"));
        line.unwrap().parse::<u64>().unwrap()
    };
    let before = writes();
    extend(10, acks(0, 0)).unwrap();
    assert!(writes() > before, "without a write WAIT would have nothing of this extension to wait for");

    replicas[0].pause();
    let error = extend(80_000, acks(1, 100)).unwrap_err();
    let Error::InsufficientReplicas(shortfall) = &error else { panic!("{error:?}") };
    assert!(
        shortfall.message.contains("acknowledged the extension") && !shortfall.rolled_back,
        "{shortfall}"
    );
    assert_eq!((shortfall.received, shortfall.connected), (0, Some(1)));
    replicas[0].resume();
    assert_eq!(primary.run::<String>(&["GET", &lock_key("r")]), lease.owner.to_string(), "still ours");

    assert!(release(&backend, &lease).unwrap());
    assert_eq!(code(&extend(1_000, policy).unwrap_err()), "LOCK_LOST");
    assert!(!primary.exists(&lock_key("r")), "not revived");
    primary.run::<()>(&["SET", &lock_key("r"), "stranger", "PX", "1000"]);
    assert_eq!(code(&extend(60_000, policy).unwrap_err()), "LOCK_LOST");
    assert!(left() <= 1_000, "another owner's lease is not touched");
}

#[test]
fn resources_with_braces_and_odd_bytes_are_locked_and_inspected_like_others() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let backend = backend(&server.url(), 0);
    for name in ["}", "}{", "{a}:b", "a b\r\n\0", "é\u{1F512}", "x{7d}"] {
        let lease = request(one(name), 10_000, acks(0, 0));
        let grant = granted(acquire(&backend, &lease));
        let inspect = || {
            let backend = Arc::clone(&backend);
            on_io(async move { backend.inspect(name).await }).unwrap()
        };
        let info = inspect().expect("held");
        assert_eq!((info.owner, info.token), (lease.owner.to_string(), grant.token), "{name:?}");
        assert!(info.remaining <= Duration::from_secs(10) && info.remaining > Duration::from_secs(1));
        let force = || {
            let backend = Arc::clone(&backend);
            on_io(async move { backend.force_release(name).await }).unwrap()
        };
        assert!(force());
        assert!(!force(), "it is free");
        assert_eq!(inspect(), None);
        let next = granted(acquire(&backend, &request(one(name), 10_000, acks(0, 0))));
        assert!(next.token > grant.token, "the fence stayed");
    }
    server.run::<()>(&["SET", &lock_key("stranger"), "who"]);
    let info = on_io(async move { backend.inspect("stranger").await }).unwrap().unwrap();
    assert_eq!((info.owner.as_str(), info.token, info.remaining), ("who", 0, Duration::MAX));
}

#[test]
fn describe_compares_declared_with_connected_replicas() {
    if !available() {
        return;
    }
    let (primary, _replicas) = Server::with_replicas(1);
    let describe = |url: &str, replicas: u32| {
        let backend = backend(url, replicas);
        on_io(async move { backend.describe(acks(replicas, 50), ttl(10_000)).await }).unwrap()
    };
    let right = describe(&primary.url(), 1);
    assert!(right.warnings.iter().all(|warning| warning.contains("persistence is off")), "{right:?}");
    assert_eq!((right.replicas_declared, right.replicas_connected), (Some(1), Some(1)));
    assert!(right.summary.contains(" 7.") || right.summary.contains(&primary.port.to_string()));
    assert!(describe(&primary.url(), 2).warnings[0].contains("1 of 2"));
    assert!(describe(&primary.url(), 0).warnings[0].contains("may acknowledge instead"));
}

#[test]
fn after_close_all_connections_are_closed() {
    if !available() {
        return;
    }
    let (primary, _replicas) = Server::with_replicas(1);
    let backend = backend(&primary.url(), 1);
    let lease = request(one("r"), 10_000, acks(1, 1_000));
    granted(acquire(&backend, &lease));
    let clients = || primary.run::<String>(&["CLIENT", "LIST"]).matches(" name=fencelock").count();
    assert_eq!(clients(), 2, "one worker, and the shared one that asked what the server can do");
    let both = Arc::clone(&backend);
    on_io(async move {
        both.connect().await.unwrap();
        both.close().await;
    });
    assert_eq!(code(&acquire(&backend, &lease).unwrap_err()), "CLOSED");
    assert!(primary.exists(&lock_key("r")), "closing does not release a lease");
    assert!(release(&backend, &lease).unwrap(), "a grant may arrive after the close");
    eventually("its connections are closed", || clients() == 0);
}

#[test]
fn a_dropped_backend_leaves_no_connection_behind() {
    if !available() {
        return;
    }
    let (primary, _replicas) = Server::with_replicas(1);
    let backend = backend(&primary.url(), 1);
    granted(acquire(&backend, &request(one("r"), 10_000, acks(1, 1_000))));
    granted(acquire(&backend, &request(one("s"), 10_000, acks(0, 0))));
    drop(backend);
    eventually("its connections are closed", || {
        !primary.run::<String>(&["CLIENT", "LIST"]).contains("name=fencelock")
    });
}
