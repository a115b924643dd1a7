//! A planned failover behind a name: the old primary is a replica now and keeps its connections, the name
//! leads to the new one.

use crate::backend::Backend;
use crate::backend::redis::protocol::values::texts;
use crate::backend::redis::tests::servers::proxy::Proxy;
use crate::backend::redis::tests::servers::server::{Server, available};
use crate::backend::redis::tests::*;
use crate::backend::waiter::Waiter;
use crate::lease::{Holder, Strategy};
use crate::manager::{Acquired, Heartbeat, Manager, Wanted};
use crate::runtime::clock::BootInstant;

type Operation = fn(&Arc<RedisBackend>, &Request);

/// The primary and its replica change places.
fn fail_over(primary: &Server, replica: &Server) {
    replica.run::<()>(&["REPLICAOF", "NO", "ONE"]);
    let port = replica.port.to_string();
    primary.run::<()>(&["REPLICAOF", "127.0.0.1", &port]);
    eventually("the old primary follows", || {
        primary.info("replication").contains("master_link_status:up")
            && replica.info("replication").contains("state=online")
    });
}

fn connections(server: &Server) -> usize {
    server.run::<String>(&["CLIENT", "LIST"]).matches("name=fencelock").count()
}

fn inspect(backend: &Arc<RedisBackend>, name: &'static str) -> Result<Option<String>> {
    let backend = Arc::clone(backend);
    on_io(async move { Ok(backend.inspect(name).await?.map(|info| info.owner)) })
}

fn extend(backend: &Arc<RedisBackend>, lease: &Request) -> Result<()> {
    let (backend, lease) = (Arc::clone(backend), lease.clone());
    on_io(async move { backend.extend(&lease.resources, lease.owner, lease.ttl, lease.acks).await.map(drop) })
}

/// A primary, its replica, and a backend with a connection of each kind that leads to the primary, and a
/// lease.
fn deployment() -> (Server, Server, Proxy, Arc<RedisBackend>, Request) {
    let (primary, mut replicas) = Server::with_replicas(1);
    let proxy = Proxy::start(primary.port);
    let backend = backend(&proxy.url(), 1);
    let lease = request(one("held"), 60_000, acks(1, 2_000));
    granted(acquire(&backend, &lease));
    extend(&backend, &lease).unwrap();
    assert_eq!(inspect(&backend, "held").unwrap(), Some(lease.owner.to_string()));
    let waiting = Arc::clone(&backend);
    let waiter = Waiter::new(false);
    on_io(async move { waiting.join_queue(&one("other"), &waiter).await }).unwrap();
    assert_eq!(connections(&primary), 4, "one to acquire, one to extend, one to subscribe, one for the rest");
    let replica = replicas.remove(0);
    fail_over(&primary, &replica);
    proxy.switch(replica.port);
    (primary, replica, proxy, backend, lease)
}

#[test]
fn every_operation_goes_to_the_new_primary_at_once() {
    if !available() {
        return;
    }
    let operations: [(&str, Operation); 6] = [
        ("acquire", |backend, _| {
            granted(acquire(backend, &request(one("new"), 60_000, acks(1, 2_000))));
        }),
        ("acquire without proof", |backend, _| {
            granted(acquire(backend, &request(one("new"), 60_000, acks(0, 0))));
        }),
        ("acquire several", |backend, _| {
            let both = Resources::many(vec!["held".into(), "new".into()]).unwrap();
            let outcome = acquire(backend, &request(both, 60_000, acks(0, 0)));
            assert!(matches!(outcome, Ok(Attempt::Busy(_))), "{outcome:?}");
        }),
        ("extend", |backend, lease| extend(backend, lease).unwrap()),
        ("inspect", |backend, lease| {
            assert_eq!(inspect(backend, "held").unwrap(), Some(lease.owner.to_string()));
        }),
        ("release", |backend, lease| assert!(release(backend, lease).unwrap())),
    ];
    std::thread::scope(|scope| {
        for (name, operation) in operations {
            scope.spawn(move || {
                let (old, new, _proxy, backend, lease) = deployment();
                operation(&backend, &lease);
                assert!(connections(&new) > 0, "{name}");
                eventually("no connection leads to the old primary", || connections(&old) == 0);
                assert_eq!(backend.pending_cleanups(), 0, "{name}");
            });
        }
    });
}

#[test]
fn a_demoted_server_is_refused_until_the_name_leads_to_another() {
    if !available() {
        return;
    }
    let (old, new, proxy, backend, lease) = deployment();
    proxy.switch(old.port);
    for _ in 0..3 {
        let error = acquire(&backend, &request(one("new"), 60_000, acks(1, 1_000))).unwrap_err();
        assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
        assert!(error.to_string().contains("is a replica"), "{error}");
        assert_eq!(code(&inspect(&backend, "held").unwrap_err()), "BACKEND_UNAVAILABLE");
    }
    // Its data must not be told as news: the new primary has released the lease.
    new.run::<()>(&["DEL", &lock_key("held")]);
    proxy.switch(new.port);
    eventually("the new primary answers", || inspect(&backend, "held").is_ok_and(|owner| owner.is_none()));
    assert!(!release(&backend, &lease).unwrap());
}

#[test]
fn a_demoted_server_does_not_say_that_a_lease_is_lost() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let backend = backend(&server.url(), 0);
    granted(acquire(&backend, &request(one("other"), 60_000, acks(0, 0))));
    let lease = request(one("held"), 60_000, acks(0, 0));
    assert_eq!(code(&extend(&backend, &lease).unwrap_err()), "LOCK_LOST", "a primary says so");
    assert!(!release(&backend, &lease).unwrap());
    // Nothing listens there, so it keeps what it has.
    server.run::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(code(&extend(&backend, &lease).unwrap_err()), "BACKEND_UNAVAILABLE");
    assert_eq!(code(&release(&backend, &lease).unwrap_err()), "BACKEND_UNAVAILABLE");
}

#[test]
fn what_is_not_a_primary_is_told_when_connecting() {
    if !available() {
        return;
    }
    let connect = |options: Options| {
        let backend = backend_with(options);
        on_io(async move { backend.connect().await })
    };
    let (_primary, replicas) = Server::with_replicas(1);
    let error = connect(options(&replicas[0].url(), 1)).unwrap_err();
    assert!(error.to_string().contains("this server is a replica"), "{error}");
    // A user who may do nothing but lock.
    let server = Server::start(&[]);
    let rules = "ACL SETUSER locker on >pass ~* -@all +@scripting +wait +ping";
    server.run::<()>(&rules.split(' ').collect::<Vec<_>>());
    let user = (Some("locker".to_owned()), Some("pass".to_owned()));
    connect(Options { username: user.0, password: user.1, ..options(&server.url(), 0) }).unwrap();
    let denied: Vec<Vec<redis::Value>> = server.run(&["ACL", "LOG"]);
    let denied: Vec<_> = denied.into_iter().flat_map(|entry| texts(redis::Value::Array(entry))).collect();
    for command in ["hello", "role", "cluster"] {
        assert!(!denied.iter().any(|word| word.contains(command)), "{denied:?}");
    }
}

/// A holder that is always alive.
pub struct Alive;

impl Heartbeat for Alive {
    fn last(&self) -> BootInstant {
        Clock::System.boot()
    }

    fn request(&self) {}
}

fn manager(url: &str) -> Arc<Manager> {
    let redis = Backend::Redis(RedisBackend::new(Config::new(options(url, 1)).unwrap(), Clock::System));
    let (holder, listener) = (Holder::named("test"), Box::new(|_, _| ()));
    Manager::new([(Strategy::Strong, redis)], holder, Clock::System, listener, Arc::new(Alive))
}

fn waiting(wait_ms: u64, fair: bool) -> Wanted {
    Wanted {
        resources: one("new"),
        mode: Mode::Exclusive,
        owner: Owner::random(),
        ttl: ttl(60_000),
        min_hold: Duration::ZERO,
        min_token: 0,
        acks: acks(1, 2_000),
        wait: Duration::from_millis(wait_ms),
        fair,
        renew: None,
    }
}

fn acquire_waiting(manager: &Arc<Manager>, wanted: Wanted) -> Result<Acquired> {
    let manager = Arc::clone(manager);
    on_io(async move { manager.acquire(Strategy::Strong, wanted, None).await })
}

#[test]
fn a_call_that_waits_waits_for_the_end_of_a_failover() {
    if !available() {
        return;
    }
    let (old, new, proxy, _backend, _lease) = deployment();
    proxy.switch(old.port);
    for fair in [false, true] {
        let manager = manager(&proxy.url());
        let error = acquire_waiting(&manager, waiting(0, fair)).unwrap_err();
        assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
        let began = Instant::now();
        let error = acquire_waiting(&manager, waiting(300, fair)).unwrap_err();
        assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
        assert!(error.to_string().contains("is a replica"), "{error}");
        assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
    }
    std::thread::scope(|scope| {
        let calls: Vec<_> = [false, true]
            .map(|fair| {
                let manager = manager(&proxy.url());
                scope.spawn(move || {
                    let outcome = acquire_waiting(
                        &manager,
                        Wanted {
                            resources: one(if fair { "fair" } else { "unfair" }),
                            ..waiting(20_000, fair)
                        },
                    );
                    assert!(matches!(outcome, Ok(Acquired::Granted { .. })), "{outcome:?}");
                })
            })
            .into();
        let before = proxy.connections.load(std::sync::atomic::Ordering::SeqCst);
        eventually("each has met the old primary", || {
            proxy.connections.load(std::sync::atomic::Ordering::SeqCst) >= before + 4
        });
        assert!(calls.iter().all(|call| !call.is_finished()));
        proxy.switch(new.port);
    });
}

/// The old primary still serves, so nothing but the identity of the server tells that the name has moved.
#[test]
fn connections_of_one_backend_lead_to_one_server() {
    if !available() {
        return;
    }
    let (old, new) = (Server::start(&[]), Server::start(&[]));
    let proxy = Proxy::start(old.port);
    let backend = backend(&proxy.url(), 0);
    let lease = request(one("held"), 60_000, acks(0, 0));
    granted(acquire(&backend, &lease));
    assert_eq!(inspect(&backend, "held").unwrap(), Some(lease.owner.to_string()));
    proxy.switch(new.port);
    // A waiter makes another connection.
    let (waiting, waiter) = (Arc::clone(&backend), Waiter::new(false));
    on_io(async move { waiting.join_queue(&one("other"), &waiter).await }).unwrap();
    assert_eq!(inspect(&backend, "held").unwrap(), None, "the new server answers");
    eventually("no connection leads to the old server", || connections(&old) == 0);
}

#[test]
fn a_release_that_the_new_primary_does_not_know_is_repeated_there() {
    if !available() {
        return;
    }
    let (primary, replicas) = Server::with_replicas(1);
    let (replica, proxy) = (&replicas[0], Proxy::start(primary.port));
    let backend = backend(&proxy.url(), 1);
    let lease = request(one("released"), 60_000, acks(1, 2_000));
    granted(acquire(&backend, &lease));
    // It is promoted, while the primary still answers.
    replica.run::<()>(&["REPLICAOF", "NO", "ONE"]);
    assert!(release(&backend, &lease).unwrap());
    assert!(replica.exists(&lock_key("released")), "it never heard of the release");
    // The failover takes its time.
    std::thread::sleep(Duration::from_millis(2_200));
    let port = replica.port.to_string();
    proxy.switch(replica.port);
    primary.run::<()>(&["REPLICAOF", "127.0.0.1", &port]);
    eventually("the new primary answers", || inspect(&backend, "other").is_ok());
    eventually("the lease is released", || !replica.exists(&lock_key("released")));
}
