//! Failovers that Sentinels carry out.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::redis::tests::servers::proxy::Proxy;
use crate::backend::redis::tests::servers::sentinels::{Group, NAME, Sentinel, ask, named};
use crate::backend::redis::tests::servers::server::{Server, available};
use crate::backend::redis::tests::tls::certificates;
use crate::backend::redis::tests::*;
use crate::backend::redis::{SentinelLogin, SentinelOptions, TlsOptions};

pub fn located(urls: Vec<String>, replicas: u32) -> Options {
    let location = Location::Sentinels(SentinelOptions { urls, name: NAME.into() });
    Options { location, replicas, ..options("redis://unused", 0) }
}

fn follow(group: &Group) -> Arc<RedisBackend> {
    backend_with(located(group.urls(), group.servers.len() as u32 - 1))
}

fn describe(backend: &Arc<RedisBackend>, required: u32) -> crate::backend::guarantees::Guarantee {
    let backend = Arc::clone(backend);
    on_io(async move { backend.describe(acks(required, 50), ttl(10_000)).await }).unwrap()
}

/// When the group had another primary that could grant.
struct Takeover {
    /// The first Sentinel named it.
    named: Instant,
    /// A replica was in sync with it.
    replicated: Instant,
    port: u16,
}

/// Watches the Sentinels and the servers until another than this one has taken over.
fn watch_takeover(group: &Group, old: u16) -> Takeover {
    let mut clients: Vec<_> = group.sentinels.iter().map(Sentinel::client).collect();
    let mut port = old;
    eventually("a Sentinel names another primary", || {
        port = clients.iter_mut().map(named).find(|&port| port != old).unwrap_or(old);
        port != old
    });
    let named = Instant::now();
    let mut client = group.server(port).client();
    eventually("a replica follows the new primary", || {
        ask::<String>(&mut client, &["INFO", "replication"]).contains("state=online")
    });
    Takeover { named, replicated: Instant::now(), port }
}

/// Grants and releases a lock with one acknowledgement all the time, lets something happen, and measures when
/// the new primary granted first. Returns its port.
fn keeps_granting(what: &str, group: &Group, happens: impl FnOnce(&Server)) -> u16 {
    let backend = follow(group);
    granted(acquire(&backend, &request(one("first"), 60_000, acks(2, 2_000))));
    let over = AtomicBool::new(false);
    let old = &group.servers[0];
    let (takeover, grants) = std::thread::scope(|scope| {
        let granting = scope.spawn(|| {
            let (mut grants, mut last) = (Vec::new(), 0);
            while !over.load(Ordering::SeqCst) {
                // A name each, so that the server that granted it can be told.
                let name = format!("busy-{}", grants.len());
                let wanted = request(one(&name), 60_000, acks(1, 50));
                if let Ok(Attempt::Granted(grant)) = acquire(&backend, &wanted) {
                    assert!(grant.token > last, "tokens rise");
                    last = grant.token;
                    grants.push((name, Instant::now()));
                    let _ = release(&backend, &wanted);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            grants
        });
        std::thread::sleep(Duration::from_millis(200));
        happens(old);
        let takeover = watch_takeover(group, old.port);
        std::thread::sleep(Duration::from_millis(1_500));
        over.store(true, Ordering::SeqCst);
        (takeover, granting.join().unwrap())
    });
    let since = takeover.named.max(takeover.replicated);
    let new = group.server(takeover.port);
    // It replicates the old primary no longer.
    let mut after = grants.iter().filter(|(_, at)| *at >= takeover.named);
    let (_, first) = after.find(|(name, _)| new.exists(&fence_key(name))).expect("the new primary grants");
    let late = first.saturating_duration_since(since);
    println!("{what}: the first grant came {late:?} after a Sentinel named a primary with a replica");
    assert!(late < Duration::from_secs(1), "{what}: {late:?}");
    eventually("every lease that was granted or not proved is released", || {
        new.run::<Vec<String>>(&["KEYS", "*:lock"]) == [lock_key("first")]
    });
    assert!(new.exists(&lock_key("first")), "a lease outlives the failover");
    takeover.port
}

#[test]
fn grants_go_on_after_the_primary_was_killed() {
    if !available() {
        return;
    }
    let group = Group::start(2);
    let pid = group.servers[0].run::<String>(&["INFO", "server"]);
    let pid = pid.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap().to_owned();
    keeps_granting("killed", &group, |_| {
        std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
    });
}

#[test]
fn grants_go_on_while_the_primary_hangs_and_when_it_is_back() {
    if !available() {
        return;
    }
    let group = Group::start(2);
    let new = keeps_granting("hung", &group, Server::pause);
    group.servers[0].resume();
    let backend = follow(&group);
    for _ in 0..20 {
        let wanted = request(one("back"), 60_000, acks(1, 1_000));
        granted(acquire(&backend, &wanted));
        assert!(group.server(new).exists(&lock_key("back")), "by the new primary");
        assert!(release(&backend, &wanted).unwrap());
    }
}

#[test]
fn grants_go_on_after_a_planned_failover_though_the_old_primary_is_writable() {
    if !available() {
        return;
    }
    let group = Group::start(2);
    keeps_granting("planned", &group, |_| group.fail_over());
}

#[test]
fn sentinels_with_a_password_a_user_without_subscriptions_and_mapped_addresses() {
    if !available() {
        return;
    }
    let lines = "requirepass secret\nsentinel sentinel-pass secret\n\
        user locks on >other resetchannels -@all +auth +hello +ping +sentinel|get-master-addr-by-name \
        +sentinel|master +sentinel|sentinels";
    let group = Group::with(2, 3, lines, Some("secret"));
    let proxies: Vec<_> = group.servers.iter().map(|server| Proxy::start(server.port)).collect();
    let map =
        group.servers.iter().zip(&proxies).map(|(server, proxy)| {
            (("127.0.0.1".to_owned(), server.port), ("localhost".to_owned(), proxy.port))
        });
    let login = |username: Option<&str>, password: Option<&str>| SentinelLogin {
        username: username.map(Into::into),
        password: password.map(Into::into),
        tls: None,
    };
    let with = |sentinel_login| Options {
        sentinel_login,
        node_address_map: map.clone().collect(),
        ..located(group.urls(), 2)
    };
    let backend = backend_with(with(login(Some("locks"), Some("other"))));
    granted(acquire(&backend, &request(one("a"), 60_000, acks(2, 2_000))));
    assert!(proxies[0].connections.load(Ordering::SeqCst) > 0, "the address is mapped");
    group.fail_over();
    let old = group.servers[0].port;
    eventually("all Sentinels name the new primary", || {
        group.sentinels.iter().all(|sentinel| sentinel.names() != old)
    });
    // Nothing is announced to this user, and the old primary answers: too few acknowledgements make it ask.
    let named = Instant::now();
    eventually("the new primary is found by asking", || {
        let _ = acquire(&backend, &request(one("b"), 60_000, acks(2, 50)));
        proxies[1..].iter().any(|proxy| proxy.connections.load(Ordering::SeqCst) > 0)
    });
    assert!(named.elapsed() < Duration::from_secs(3), "before the old primary is demoted");
    for (wrong, words) in [(login(None, None), "sentinelPassword"), (login(None, Some("no")), "wrong")] {
        let began = Instant::now();
        let error = acquire(&backend_with(with(wrong)), &request(one("c"), 60_000, acks(0, 0))).unwrap_err();
        assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
        assert!(error.to_string().contains(words), "{error}");
        assert!(began.elapsed() < Duration::from_secs(3), "it is told at once");
    }
}

#[test]
fn what_is_wrong_is_told_clearly() {
    if !available() {
        return;
    }
    let plain = Server::start(&[]);
    let mut sentinel = Sentinel::start("", None);
    sentinel.watch(plain.port, 1);
    let refused = |options: Options, words: &[&str]| {
        let options = Options { connect_timeout_ms: 700, ..options };
        let error = acquire(&backend_with(options), &request(one("a"), 60_000, acks(0, 0))).unwrap_err();
        assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
        for word in words {
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
        error
    };
    let location =
        Location::Sentinels(SentinelOptions { urls: vec![sentinel.url()], name: "unknown".into() });
    let unnamed = Options { location, ..located(Vec::new(), 0) };
    refused(unnamed, &["\"unknown\"", "that it knows: locks"]);
    refused(located(vec![plain.url()], 0), &["not a Sentinel"]);
    let backend = backend_with(Options { connect_timeout_ms: 1_500, ..located(vec![sentinel.url()], 0) });
    granted(acquire(&backend, &request(one("a"), 60_000, acks(0, 0))));
    let url = plain.port;
    drop(plain);
    let attempt = || acquire(&backend, &request(one("b"), 60_000, acks(0, 0))).unwrap_err();
    // It may be sent before the end of the connection is noticed.
    let error = Some(attempt()).filter(Error::is_failover).unwrap_or_else(attempt);
    assert!(error.is_failover(), "{error:?}");
    for words in ["no primary for 1.", "1 of 1 say s_down", &url.to_string()] {
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    sentinel.kill();
    let error = refused(located(vec![sentinel.url()], 0), &["none of 1 Sentinels answers"]);
    assert!(error.is_failover());
}

#[test]
fn one_sentinel_is_enough_to_find_the_others_and_one_that_hangs_is_not_waited_for() {
    if !available() {
        return;
    }
    let mut group = Group::start(1);
    let backend = backend_with(located(vec![group.sentinels[0].url()], 1));
    granted(acquire(&backend, &request(one("a"), 60_000, acks(1, 2_000))));
    let guarantee = describe(&backend, 1);
    assert!(guarantee.summary.contains("\"locks\" in epoch 0, by 3 of 3 Sentinels"), "{}", guarantee.summary);
    let clocks = &guarantee.survives.clock_step.reason;
    assert!(clocks.contains("the replica and the primary differ by"), "{clocks}");
    let about: Vec<_> = guarantee.warnings.iter().filter(|it| it.contains("Sentinels")).collect();
    assert!(about.is_empty(), "{about:?}");
    assert!(guarantee.warnings.iter().any(|it| it.starts_with("the safe profile")));

    group.sentinels[1].pause();
    let began = Instant::now();
    granted(acquire(&follow(&group), &request(one("b"), 60_000, acks(1, 2_000))));
    assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
    group.sentinels[2].kill();
    let other = follow(&group);
    granted(acquire(&other, &request(one("c"), 60_000, acks(1, 2_000))));
    let warnings = describe(&other, 0).warnings;
    assert!(warnings.iter().any(|it| it.starts_with("1 of 3 Sentinels answers: fewer")), "{warnings:?}");
    assert!(warnings.iter().any(|it| it.starts_with("the available profile")), "{warnings:?}");
}

#[test]
fn a_server_that_has_the_address_of_the_primary_is_not_taken_for_it() {
    if !available() {
        return;
    }
    let mut group = Group::with(0, 1, "", None);
    let backend = backend_with(Options { connect_timeout_ms: 1_000, ..located(group.urls(), 0) });
    granted(acquire(&backend, &request(one("a"), 60_000, acks(0, 0))));
    // The Sentinel has no time to know of it.
    group.sentinels[0].pause();
    group.servers[0].restart();
    let error = acquire(&backend, &request(one("b"), 60_000, acks(0, 0))).unwrap_err();
    assert!(error.is_failover());
    assert!(error.cause().is_some_and(|cause| cause.contains("another server answers")), "{error:?}");
    group.sentinels[0].resume();
    eventually("it is the primary once the Sentinel knows it", || {
        acquire(&backend, &request(one("b"), 60_000, acks(0, 0))).is_ok()
    });
}

#[test]
fn sentinels_and_servers_have_tls_of_their_own() {
    if !available() || std::process::Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: needs redis-server and openssl");
        return;
    }
    let (theirs, its) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
    certificates(theirs.path());
    certificates(its.path());
    let path = |dir: &tempfile::TempDir, name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (cert, key, ca) = (path(&its, "server.crt"), path(&its, "server.key"), path(&its, "ca.crt"));
    let files = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let port = ["--tls-port", "1", "--tls-auth-clients", "no"];
    let Some(server) = Server::try_start(&[&port[..], &files[..]].concat()) else {
        eprintln!("SKIPPED: this server is built without TLS");
        return;
    };
    let lines = format!(
        "tls-port\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {ca}\ntls-auth-clients no\n\
         tls-replication yes\nsentinel monitor {NAME} 127.0.0.1 {} 1",
        path(&theirs, "server.crt"),
        path(&theirs, "server.key"),
        server.port
    );
    let sentinel = Sentinel::start(&lines, None);
    let trust = |dir: &tempfile::TempDir| TlsOptions {
        ca: Some(std::fs::read(path(dir, "ca.crt")).unwrap()),
        server_name: Some("locks.test".into()),
        ..TlsOptions::default()
    };
    let attempt = |sentinels: &tempfile::TempDir, servers: &tempfile::TempDir| {
        let sentinel_login = SentinelLogin { tls: Some(trust(sentinels)), ..SentinelLogin::default() };
        let urls = vec![format!("rediss://127.0.0.1:{}", sentinel.port)];
        let backend = backend_with(Options { sentinel_login, tls: Some(trust(servers)), ..located(urls, 0) });
        let began = Instant::now();
        let outcome = acquire(&backend, &request(one("a"), 10, acks(0, 0)));
        assert!(began.elapsed() < Duration::from_secs(3), "it is told at once");
        outcome.map_err(|error| error.to_string())
    };
    attempt(&theirs, &its).unwrap();
    let sentinel_refused = attempt(&its, &its).unwrap_err();
    assert!(sentinel_refused.contains("Sentinel at 127.0.0.1"), "{sentinel_refused}");
    let server_refused = attempt(&theirs, &theirs).unwrap_err();
    assert!(server_refused.contains(&format!("redis at 127.0.0.1:{}", server.port)), "{server_refused}");
}
