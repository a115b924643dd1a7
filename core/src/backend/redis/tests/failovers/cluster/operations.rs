//! Calls on a cluster, also after slots have moved.

use super::*;

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
            join_all(requests[1..].iter().map(|it| backend.release(&it.resources, it.owner, it.ttl, None)))
                .await
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
