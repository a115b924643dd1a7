//! A shard or the cluster goes down and comes back.

use super::*;

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
