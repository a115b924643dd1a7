//! Leases while their slot moves key by key, and afterwards.

use super::*;

#[test]
fn leases_of_a_slot_that_is_moving_are_read_extended_and_released_and_new_ones_wait() {
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
    let tokens = leases.each_ref().map(|lease| granted(acquire(&backend, lease)).token);
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
    for (name, granted) in names.into_iter().zip(tokens) {
        let info = inspect(&backend, name).unwrap().unwrap();
        let lease = leases.iter().find(|lease| lease.resources.first() == name).unwrap();
        assert_eq!((info.owner, info.token), (lease.owner.to_string(), granted), "{name}");
        assert!(info.remaining > Duration::from_secs(30), "{name}: {:?}", info.remaining);
    }
    assert!(inspect(&backend, "{m}free").unwrap().is_none());
    let error = acquire(&backend, &request(one("{m}new"), 60_000, acks(0, 0))).unwrap_err();
    assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
    assert!(error.to_string().contains(&format!("slot {slot} is being moved")), "{error}");
    // What is left of a minimum is left on both sides.
    for lease in &leases {
        let (backend, lease) = (Arc::clone(&backend), lease.clone());
        let until = Clock::System.boot() + Duration::from_secs(20);
        let left = on_io(async move {
            let left = backend.release(&lease.resources, lease.owner, lease.ttl, Some(until)).await;
            (left, backend.inspect(lease.resources.first()).await)
        });
        assert_eq!(left.0, Ok(true));
        let remaining = left.1.unwrap().unwrap().remaining;
        assert!(remaining > Duration::ZERO && remaining <= Duration::from_secs(20), "{remaining:?}");
    }
    for lease in &leases {
        assert!(release(&backend, lease).unwrap(), "{:?}", lease.resources);
        assert!(!release(&backend, lease).unwrap(), "{:?}", lease.resources);
    }
    for name in forced {
        assert!(force_release(&backend, name).unwrap(), "{name}");
        assert!(inspect(&backend, name).unwrap().is_none(), "{name}");
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
    on_io(async move { node.release_later(&undone.resources, undone.owner, undone.ttl, None) });
    eventually("it is undone", || backend.pending_cleanups() == 0);
    assert_eq!(cluster.get(&lock_key("u")), None);
}
