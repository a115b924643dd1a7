//! A Redis Cluster of three primaries.

use crate::backend::contract::Info;
use crate::backend::redis::config::slot::slot_of;
use crate::backend::redis::tests::servers::clusters::ClusterServers;
use crate::backend::redis::tests::servers::server::{Server, available, free_port};
use crate::backend::redis::tests::*;
use crate::backend::waiter::Waiter;

fn cluster_options(cluster: &ClusterServers, replicas: u32) -> Options {
    Options { location: Location::Cluster(cluster.urls()), ..options("", replicas) }
}

fn cluster_backend(cluster: &ClusterServers, replicas: u32) -> Arc<RedisBackend> {
    backend_with(cluster_options(cluster, replicas))
}

fn several(names: &[&str]) -> Resources {
    Resources::many(names.iter().map(ToString::to_string).collect()).unwrap()
}

fn inspect(backend: &Arc<RedisBackend>, name: &'static str) -> Result<Option<Info>> {
    let backend = Arc::clone(backend);
    on_io(async move { backend.inspect(name).await })
}

fn extend(backend: &Arc<RedisBackend>, lease: &Request) -> Result<()> {
    let (backend, lease) = (Arc::clone(backend), lease.clone());
    on_io(async move { backend.extend(&lease.resources, lease.owner, lease.ttl, lease.acks).await.map(drop) })
}

fn force_release(backend: &Arc<RedisBackend>, name: &'static str) -> Result<bool> {
    let backend = Arc::clone(backend);
    on_io(async move { backend.force_release(name).await })
}

/// How often each of these commands failed for this reason, on all nodes.
pub fn errors(cluster: &ClusterServers, code: &str) -> usize {
    let line = format!("errorstat_{code}:count=");
    let count =
        |info: String| info.lines().find_map(|it| it.strip_prefix(&line)?.trim().parse().ok()).unwrap_or(0);
    cluster.nodes.iter().map(|node| count(node.info("errorstats"))).sum()
}

#[test]
fn locks_are_granted_in_all_slots_without_detours() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(0);
    let backend = cluster_backend(&cluster, 0);
    let free = acks(0, 0);
    let requests: Vec<_> =
        (0..1_000).map(|number| request(one(&format!("r{number}")), 60_000, free)).collect();
    for outcome in acquire_together(&backend, &requests) {
        granted(outcome);
    }
    requests[..20].iter().for_each(|lease| extend(&backend, lease).unwrap());
    let tagged = request(several(&["{order:5}:stock", "{order:5}:bill"]), 60_000, free);
    granted(acquire(&backend, &tagged));
    assert!(matches!(acquire(&backend, &request(one("{order:5}:bill"), 60_000, free)), Ok(Attempt::Busy(_))));
    assert!(release(&backend, &tagged).unwrap());

    let error = acquire(&backend, &request(several(&["a", "b"]), 60_000, free)).unwrap_err();
    assert_eq!(code(&error), "UNSUPPORTED");
    assert!(error.to_string().contains(r#""a" is in slot 15495, "b" in slot 3300"#), "{error}");

    assert_eq!(inspect(&backend, "r0").unwrap().unwrap().owner, requests[0].owner.to_string());
    assert!(force_release(&backend, "r0").unwrap());
    assert!(inspect(&backend, "r0").unwrap().is_none());
    let releases = {
        let (backend, requests) = (Arc::clone(&backend), requests.clone());
        on_io(async move {
            join_all(requests[1..].iter().map(|it| backend.release(&it.resources, it.owner, it.ttl))).await
        })
    };
    assert!(releases.into_iter().all(|released| released == Ok(true)));
    for code in ["MOVED", "CROSSSLOT", "ASK"] {
        assert_eq!(errors(&cluster, code), 0, "{code}");
    }
    for number in 0..20 {
        let lease = request(one(&format!("s{number}")), 60_000, free);
        granted(acquire(&backend, &lease));
        let name = lease.resources.first();
        assert_eq!(cluster.get(&lock_key(name)), Some(lease.owner.to_string()), "{name}");
    }
    let described = {
        let backend = Arc::clone(&backend);
        on_io(async move { backend.describe(free, ttl(10_000)).await }).unwrap()
    };
    assert!(!described.summary.is_empty());

    let alone = crate::backend::redis::tests::backend(&cluster.nodes[0].url(), 0);
    let error = acquire(&alone, &requests[0]).unwrap_err();
    assert!(error.to_string().contains("redis: { cluster }"), "{error}");
}

/// What is done with a resource whose slot has moved.
type Operation = fn(&Arc<RedisBackend>, &Request);

#[test]
fn every_operation_follows_a_slot_that_has_moved() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(0);
    let operations: [(&'static str, Operation); 5] = [
        ("acquire", |backend, lease| {
            let another = request(lease.resources.clone(), 60_000, acks(0, 0));
            assert!(matches!(acquire(backend, &another), Ok(Attempt::Busy(_))));
        }),
        ("extend", |backend, lease| extend(backend, lease).unwrap()),
        ("inspect", |backend, lease| {
            assert_eq!(inspect(backend, "inspect").unwrap().unwrap().owner, lease.owner.to_string());
        }),
        ("release", |backend, lease| assert!(release(backend, lease).unwrap())),
        ("force", |backend, _| assert!(force_release(backend, "force").unwrap())),
    ];
    for (name, operation) in operations {
        let backend = cluster_backend(&cluster, 0);
        let lease = request(one(name), 60_000, acks(0, 0));
        granted(acquire(&backend, &lease));
        let slot = slot_of(name);
        let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
        cluster.move_slot(slot, from, to);
        let before = errors(&cluster, "MOVED");
        operation(&backend, &lease);
        assert_eq!(errors(&cluster, "MOVED"), before + 1, "{name} was redirected once");
        assert_eq!(backend.pending_cleanups(), 0, "{name}");
    }
}

#[test]
fn leases_of_a_slot_that_is_moving_are_extended_and_released_and_new_ones_wait() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(0);
    // On the way: "there" has moved, "here" has not, "half" has only its lock there.
    let names = ["{m}here", "{m}there", "{m}half"];
    let slot = slot_of(names[0]);
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    let options = Options { command_timeout_ms: 400, ..cluster_options(&cluster, 0) };
    let backend = backend_with(options);
    let leases = names.map(|name| request(one(name), 60_000, acks(0, 0)));
    for lease in &leases {
        granted(acquire(&backend, lease));
    }
    let forced = ["{m}force here", "{m}force there"];
    for name in forced {
        granted(acquire(&backend, &request(one(name), 60_000, acks(0, 0))));
    }
    cluster.begin_move(slot, from, to);
    for key in [lock_key(names[1]), fence_key(names[1]), lock_key(names[2]), lock_key(forced[1])] {
        cluster.move_key(&key, from, to);
    }
    for lease in &leases[..2] {
        extend(&backend, lease).unwrap();
    }
    let error = acquire(&backend, &request(one("{m}new"), 60_000, acks(0, 0))).unwrap_err();
    assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
    assert!(error.to_string().contains(&format!("slot {slot} is being moved")), "{error}");
    for lease in &leases {
        assert!(release(&backend, lease).unwrap(), "{:?}", lease.resources);
        assert!(!release(&backend, lease).unwrap(), "{:?}", lease.resources);
    }
    for name in forced {
        assert!(force_release(&backend, name).unwrap(), "{name}");
        assert!(!force_release(&backend, name).unwrap(), "{name}");
    }
    assert_eq!(backend.pending_cleanups(), 0);
    // A call that began before the end of the move.
    let (waiting, ended) = (Arc::clone(&backend), request(one("{m}new"), 60_000, acks(0, 0)));
    std::thread::scope(|scope| {
        let call = scope.spawn(move || acquire(&waiting, &ended));
        std::thread::sleep(Duration::from_millis(50));
        cluster.move_keys(slot, from, to);
        cluster.end_move(slot, from, to);
        granted(call.join().unwrap());
    });
}

#[test]
fn a_waiter_follows_its_slot() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(0);
    let backend = cluster_backend(&cluster, 0);
    let slot = slot_of("w");
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    let lease = request(one("w"), 60_000, acks(0, 0));
    granted(acquire(&backend, &lease));
    let waiting = wait_for(&backend, "w", Waiter::new(true));
    let queue = "fencelock:{w}:line";
    eventually("it is in the queue", || cluster.nodes[from].exists(queue));
    cluster.move_slot(slot, from, to);
    let other = cluster_backend(&cluster, 0);
    eventually("its process listens at the new owner", || {
        let channels: Vec<String> = cluster.nodes[to].run(&["PUBSUB", "CHANNELS"]);
        !channels.is_empty()
    });
    let began = Instant::now();
    assert!(release(&other, &lease).unwrap());
    waiting.join().unwrap();
    assert!(began.elapsed() < Duration::from_millis(300), "{:?}: it was not woken", began.elapsed());
    let waiters: Vec<String> = cluster.nodes[to].run(&["ZRANGEBYSCORE", queue, "100000000000000", "+inf"]);
    assert_eq!(waiters, [""; 0]);
}

/// Acquires and releases until it works again; returns how long that took.
fn recovery(backend: &Arc<RedisBackend>, name: &str, acks: AckPolicy) -> Duration {
    let began = Instant::now();
    eventually("the shard serves again", || {
        let lease = request(one(name), 60_000, acks);
        let outcome = acquire(backend, &lease);
        let granted = matches!(outcome, Ok(Attempt::Granted(_)));
        if granted {
            release(backend, &lease).unwrap();
        }
        granted
    });
    began.elapsed()
}

#[test]
fn a_replica_that_takes_over_is_the_same_shard() {
    if !available() {
        return;
    }
    let mut cluster = ClusterServers::start(1);
    let backend = cluster_backend(&cluster, 1);
    let at = cluster.owner(slot_of("{f}held"));
    let lease = request(one("{f}held"), 60_000, acks(1, 1_000));
    granted(acquire(&backend, &lease));
    let described = {
        let backend = Arc::clone(&backend);
        on_io(async move { backend.describe(acks(1, 50), ttl(10_000)).await }).unwrap()
    };
    let clocks = described.survives.clock_step.reason;
    assert!(clocks.contains("the replica and the primary differ by"), "{clocks}");

    // Planned: the old primary answers with redirects.
    cluster.nodes[at + 3].run::<String>(&["CLUSTER", "FAILOVER"]);
    eventually("the replica is the primary", || {
        cluster.nodes[at + 3].info("replication").contains("role:master")
    });
    assert_eq!(inspect(&backend, "{f}held").unwrap().unwrap().owner, lease.owner.to_string());
    eventually("the old primary follows", || {
        cluster.nodes[at].info("replication").contains("master_link_status:up")
            && cluster.nodes[at + 3].info("replication").contains("state=online")
    });
    extend(&backend, &lease).unwrap();
    assert_eq!(backend.topology.nodes().len(), 3, "no shard was added");

    // Unplanned.
    cluster.nodes[at + 3].kill();
    eventually("the other one took over", || cluster.nodes[at].info("replication").contains("role:master"));
    let took = recovery(&backend, "{f}another", acks(0, 0));
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    assert_eq!(backend.topology.nodes().len(), 3);
    assert!(release(&backend, &lease).unwrap());
}

#[test]
fn a_primary_on_another_port_is_found() {
    if !available() {
        return;
    }
    let mut cluster = ClusterServers::start(0);
    let backend = cluster_backend(&cluster, 0);
    let at = cluster.owner(slot_of("p"));
    granted(acquire(&backend, &request(one("p"), 60_000, acks(0, 0))));
    cluster.nodes[at].restart_on(free_port());
    cluster.await_ok();
    recovery(&backend, "p", acks(0, 0));
    assert_eq!(backend.topology.nodes().len(), 3, "no shard was added");
}

/// Attempts until it is granted, and leaves the queue.
fn wait_for(backend: &Arc<RedisBackend>, name: &'static str, waiter: Waiter) -> std::thread::JoinHandle<()> {
    let backend = Arc::clone(backend);
    let attempt = Request { waiter: Some(waiter.clone()), ..request(one(name), 60_000, acks(0, 0)) };
    std::thread::spawn(move || {
        on_io(async move {
            backend.join_queue(&attempt.resources, &waiter).await.unwrap();
            loop {
                match backend.acquire(&attempt).await {
                    Ok(Attempt::Granted(_)) => break,
                    Ok(Attempt::Busy(_)) => waiter.woken().await,
                    Err(error) if error.is_failover() => tokio::time::sleep(Duration::from_millis(50)).await,
                    Err(error) => panic!("{error}"),
                }
            }
            backend.leave_queue(&attempt.resources, &waiter).await;
        });
    })
}

#[test]
fn a_waiter_outlives_the_failover_of_its_shard() {
    if !available() {
        return;
    }
    let mut cluster = ClusterServers::start(1);
    let backend = cluster_backend(&cluster, 1);
    let lease = request(one("w"), 60_000, acks(1, 1_000));
    granted(acquire(&backend, &lease));
    let at = cluster.owner(slot_of("w"));
    let calls = [true, false].map(|fair| wait_for(&backend, "w", Waiter::new(fair)));
    let waiting = |node: &Server| {
        let channels: Vec<String> = node.run(&["PUBSUB", "CHANNELS"]);
        !channels.is_empty()
    };
    eventually("they listen to the primary", || waiting(&cluster.nodes[at]));
    cluster.nodes[at].kill();
    eventually("they listen to its successor", || waiting(&cluster.nodes[at + 3]));
    assert!(calls.iter().all(|call| !call.is_finished()));
    let other = cluster_backend(&cluster, 1);
    let began = Instant::now();
    assert!(release(&other, &lease).unwrap());
    eventually("one of them has it", || calls.iter().any(std::thread::JoinHandle::is_finished));
    assert!(force_release(&other, "w").unwrap());
    for call in calls {
        call.join().unwrap();
    }
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
}

#[test]
fn what_is_undone_in_the_background_follows_its_slot() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(0);
    let slot = slot_of("u");
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    let options = Options { command_timeout_ms: 200, ..cluster_options(&cluster, 0) };
    let backend = backend_with(options);
    let lease = request(one("u"), 60_000, acks(0, 0));
    granted(acquire(&backend, &lease));
    cluster.nodes[from].pause();
    let error = release(&backend, &lease).unwrap_err();
    assert_eq!(code(&error), "OUTCOME_UNKNOWN", "{error}");
    assert_eq!(backend.pending_cleanups(), 1);
    cluster.nodes[from].resume();
    eventually("it is released", || backend.pending_cleanups() == 0);

    // A slot that moves while there is something to undo.
    granted(acquire(&backend, &lease));
    cluster.move_slot(slot, from, to);
    let node = backend
        .topology
        .nodes()
        .into_iter()
        .find(|node| node.route().to_string() == format!("127.0.0.1:{}", cluster.nodes[from].port));
    let (node, undone) = (node.unwrap(), lease.clone());
    on_io(async move { node.release_later(&undone.resources, undone.owner, undone.ttl) });
    eventually("it is undone", || backend.pending_cleanups() == 0);
    assert_eq!(cluster.get(&lock_key("u")), None);
}

#[test]
fn nothing_is_granted_while_the_cluster_is_down() {
    if !available() {
        return;
    }
    let mut cluster = ClusterServers::start(0);
    let options = Options { command_timeout_ms: 300, ..cluster_options(&cluster, 0) };
    let backend = backend_with(options);
    let (down, at) = (cluster.owner(slot_of("a")), cluster.owner(slot_of("b")));
    assert_ne!(down, at);
    let lease = request(one("b"), 60_000, acks(0, 0));
    granted(acquire(&backend, &lease));
    cluster.nodes[down].kill();
    eventually("the others know", || {
        cluster.nodes[at].run::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:fail")
    });
    let error = acquire(&backend, &request(one("b"), 60_000, acks(0, 0))).unwrap_err();
    assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
    assert!(error.to_string().contains("the Redis Cluster is down"), "{error}");
    cluster.nodes[down].restart();
    eventually("it serves again", || inspect(&backend, "b").is_ok());
    assert!(release(&backend, &lease).unwrap());
}
