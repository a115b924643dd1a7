//! Servers that refuse: each error says what to do.

use super::*;
use crate::backend::redis::tests::servers::server::{Server, available};

fn refused(options: Options, policy: AckPolicy) -> Error {
    let backend = backend_with(options);
    let error = acquire(&backend, &request(one("r"), 10_000, policy)).unwrap_err();
    assert_eq!(backend.pending_cleanups(), 0, "{error}");
    error
}

#[test]
fn wrong_credentials_and_databases_are_distinguished_and_not_shown() {
    if !available() {
        return;
    }
    let server = Server::start(&["--requirepass", "hunter2"]);
    let with = |password: Option<&str>, db: u32| {
        let password = password.map(str::to_owned);
        Options { password, db: Some(db), ..options(&server.url(), 0) }
    };
    for (options, words) in [
        (with(None, 0), "asks for a password"),
        (with(Some("hunter3"), 0), "wrong username or password"),
        (with(Some("hunter2"), 99), "database cannot be selected"),
    ] {
        let error = refused(options, acks(0, 0));
        assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
    }
    let right = backend_with(with(Some("hunter2"), 3));
    granted(acquire(&right, &request(one("r"), 10_000, acks(0, 0))));
    let mut client = server.client();
    redis::cmd("AUTH").arg("hunter2").exec(&mut client).unwrap();
    let keyspace: String = redis::cmd("INFO").arg("keyspace").query(&mut client).unwrap();
    assert!(keyspace.contains("db3:keys=2"), "{keyspace}");

    let open = Server::start(&[]);
    let error = refused(Options { password: Some("x".into()), ..options(&open.url(), 0) }, acks(0, 0));
    assert!(error.to_string().contains("has no password"), "{error}");
}

#[test]
fn unreachable_addresses_say_why() {
    let unused = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let error = refused(options(&format!("redis://127.0.0.1:{unused}"), 0), acks(0, 0));
    assert!(error.to_string().contains("connection refused"), "{error}");
    let error = refused(options("redis://no-such-host.invalid", 0), acks(0, 0));
    assert!(error.to_string().contains("host name"), "{error}");
    let error = refused(options("redis+unix:///no/such/socket", 0), acks(0, 0));
    assert!(error.to_string().contains("nothing there"), "{error}");
    // A listener that accepts the connection and sends nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let error = refused(Options { connect_timeout_ms: 100, ..options(&url, 0) }, acks(0, 0));
    assert!(error.to_string().contains("connectTimeoutMs"), "{error}");
}

#[test]
fn a_server_that_turns_clients_away_is_quoted() {
    if !available() {
        return;
    }
    let server = Server::start(&["--maxclients", "1"]);
    // The connection that waited for the server to start may still count.
    let mut others = Vec::new();
    eventually("too many clients", || {
        others.push(std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap());
        let outcome = acquire(&backend(&server.url(), 0), &request(one("r"), 10, acks(0, 0)));
        outcome.is_err_and(|error| error.to_string().contains("too many clients"))
    });
}

#[test]
fn unix_sockets_work() {
    if !available() {
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("redis.sock");
    let _server = Server::start(&["--unixsocket", path.to_str().unwrap()]);
    let backend = backend(&format!("redis+unix://{}", path.display()), 0);
    granted(acquire(&backend, &request(one("r"), 10_000, acks(0, 0))));
}

#[test]
fn a_server_without_wait_or_scripts_is_unsupported_and_keeps_nothing() {
    if !available() {
        return;
    }
    let server = Server::start(&["--rename-command", "WAIT", ""]);
    let error = refused(options(&server.url(), 1), acks(1, 100));
    assert_eq!(code(&error), "UNSUPPORTED");
    assert!(error.to_string().contains("has no WAIT"), "{error}");
    assert!(error.to_string().contains("acks: 0") && error.to_string().contains("local"), "{error}");
    assert!(!server.exists(&fence_key("r")), "nothing was written");
    granted(acquire(&backend(&server.url(), 1), &request(one("r"), 10_000, acks(0, 0))));

    let server = Server::start(&["--rename-command", "TIME", ""]);
    let error = refused(options(&server.url(), 0), acks(0, 0));
    assert_eq!(code(&error), "UNSUPPORTED");
    assert!(error.to_string().contains("has no TIME in scripts"), "{error}");
    assert!(!server.exists(&lock_key("r")), "nothing was written");

    let server = Server::start(&["--rename-command", "EVALSHA", ""]);
    for policy in [acks(0, 0), acks(1, 100)] {
        let error = refused(options(&server.url(), 1), policy);
        assert_eq!(code(&error), "UNSUPPORTED");
        assert!(error.to_string().contains("has no EVALSHA"), "{error}");
    }
}

#[test]
fn servers_that_refuse_writes_say_so_and_write_nothing() {
    if !available() {
        return;
    }
    let server = Server::start(&["--min-replicas-to-write", "1"]);
    let error = refused(options(&server.url(), 1), acks(1, 100));
    let Error::InsufficientReplicas(lack) = &error else { panic!("{error:?}") };
    assert!(lack.rolled_back && !server.exists(&lock_key("r")));
    // Redis 6 does not apply the setting to scripts.
    if !server.info("server").contains("redis_version:6.") {
        assert!(lack.to_string().contains("min-replicas-to-write"), "{lack}");
        assert!(!server.exists(&fence_key("r")));
    }

    let server = Server::start(&["--maxmemory", "1"]);
    let error = refused(options(&server.url(), 0), acks(0, 0));
    assert!(error.to_string().contains("out of memory"), "{error}");

    let server = Server::start(&["--cluster-enabled", "yes"]);
    let error = refused(options(&server.url(), 0), acks(0, 0));
    assert!(error.to_string().contains("cluster is down"), "{error}");
}

#[test]
fn errors_about_permissions_say_which_one_is_missing() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let user = |name: &str, rules: &[&str]| {
        let mut words = vec!["ACL", "SETUSER", name, "on", ">pass", "~*", "+@all"];
        words.extend(rules);
        server.run::<()>(&words);
        let (username, password) = (Some(name.to_owned()), Some("pass".to_owned()));
        Options { username, password, ..options(&server.url(), 1) }
    };
    let error = refused(user("no-wait", &["-wait"]), acks(1, 100));
    assert!(error.to_string().contains("may not use WAIT"), "{error}");
    assert!(!server.exists(&lock_key("r")), "undone");
    for (name, rule) in [("no-scripts", "-@scripting"), ("no-eval", "-eval"), ("no-evalsha", "-evalsha")] {
        let error = refused(user(name, &[rule]), acks(1, 100));
        assert!(error.to_string().contains("allow the user +eval"), "{error}");
        assert!(error.to_string().contains("~fencelock:* &fencelock:wake:* +ping +eval"), "{error}");
    }
    // Without some of these nothing fails before a lease is to be extended or released.
    for command in
        ["exists", "get", "mget", "set", "del", "pttl", "pexpire", "time", "zadd", "zrem", "zscore"]
            .into_iter()
            .chain(["zrangebyscore", "zrevrangebyscore"])
    {
        let error = refused(user(&format!("no-{command}"), &[&format!("-{command}")]), acks(0, 0));
        assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
        let words = format!("may not run {} in scripts", command.to_ascii_uppercase());
        assert!(error.to_string().contains(&words), "{error}");
        assert!(error.to_string().contains(&format!("allow the user +{command};")), "{error}");
        assert!(!server.exists(&lock_key("r")));
    }
}

#[test]
fn a_user_who_may_not_load_scripts_runs_them_by_their_text() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    server.run::<()>(&["ACL", "SETUSER", "no-load", "on", ">pass", "~*", "&*", "+@all", "-script"]);
    let (username, password) = (Some("no-load".to_owned()), Some("pass".to_owned()));
    let backend = backend_with(Options { username, password, ..options(&server.url(), 0) });
    for _ in 0..2 {
        server.run::<()>(&["SCRIPT", "FLUSH"]);
        let lease = request(one("r"), 10_000, acks(0, 0));
        granted(acquire(&backend, &lease));
        server.run::<()>(&["SCRIPT", "FLUSH"]);
        assert!(release(&backend, &lease).unwrap());
        assert!(!server.exists(&lock_key("r")));
    }
}
