//! Waiters of a cluster: how they are woken, and that they follow their slots.

use super::*;

/// Attempts until it is granted, and leaves the queue.
fn wait_for(backend: &Arc<RedisBackend>, name: &str, waiter: Waiter) -> std::thread::JoinHandle<()> {
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

/// The sharded channels to which clients of this node have subscribed.
fn sharded_channels(node: &Server) -> Vec<String> {
    node.run(&["PUBSUB", "SHARDCHANNELS"])
}

fn queue_key(name: &str) -> String {
    format!("fencelock:{{{name}}}:line")
}

/// The waiters in the queue of a resource.
fn queued(node: &Server, name: &str) -> Vec<String> {
    node.run(&["ZRANGEBYSCORE", &queue_key(name), "100000000000000", "+inf"])
}

/// How often a slot moves, so that heartbeats, one a second, cannot find it by luck each time.
const MOVES: u32 = 6;

/// How many messages of this kind the nodes have sent to each other.
fn sent_between_nodes(cluster: &ClusterServers, kind: &str) -> usize {
    let name = format!("cluster_stats_messages_{kind}_sent");
    cluster.nodes.iter().map(|node| node.cluster_info(&name)).sum()
}

#[test]
fn a_wake_up_stays_in_its_shard() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(1);
    let (holder, backend) = (cluster_backend(&cluster, 1), cluster_backend(&cluster, 1));
    let node = &cluster.nodes[cluster.owner(slot_of("w"))];
    for fair in [true, false] {
        let lease = request(one("w"), 60_000, acks(0, 0));
        granted(acquire(&holder, &lease));
        let waiting = wait_for(&backend, "w", Waiter::new(fair));
        eventually("it is in the queue", || !queued(node, "w").is_empty());
        assert!(queued(node, "w")[0].ends_with(if fair { ":sf" } else { ":su" }));
        let sent = ["publish", "publishshard"].map(|kind| sent_between_nodes(&cluster, kind));
        assert!(release(&holder, &lease).unwrap());
        waiting.join().unwrap();
        eventually("the replica is told", || sent_between_nodes(&cluster, "publishshard") == sent[1] + 1);
        assert_eq!(sent_between_nodes(&cluster, "publish"), sent[0]);
        assert!(force_release(&holder, "w").unwrap());
    }
}

/// A process of which only the queue and the channels are known, as of another version of this library.
struct Foreign {
    name: String,
    subscriber: redis::Connection,
}

impl Foreign {
    /// It waits, and listens on these channels.
    fn wait(node: &Server, name: &str, kind: &str, channels: &[&str]) -> Self {
        let process = Owner::random().to_string();
        let alive = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap() + LONG;
        let entry = format!("{process}:7:{kind}");
        let score = if kind.ends_with('f') { "1000000000000000" } else { "5000000000000000" };
        let queue = queue_key(name);
        node.run::<()>(&["ZADD", &queue, score, &entry, &alive.as_millis().to_string(), &process]);
        node.run::<()>(&["PEXPIRE", &queue, "20000"]);
        let mut subscriber = node.client();
        for command in channels {
            let channel = match *command {
                "SUBSCRIBE" => format!("fencelock:wake:{process}"),
                _ => format!("fencelock:wake:{{{name}}}:{process}"),
            };
            let command = redis::cmd(command).arg(channel).get_packed_command();
            subscriber.send_packed_command(&command).unwrap();
            subscriber.recv_response().unwrap();
        }
        Self { name: name.to_owned(), subscriber }
    }

    /// The kinds of the messages that it has got.
    fn heard(mut self) -> Vec<String> {
        self.subscriber.send_packed_command(&redis::cmd("PING").get_packed_command()).unwrap();
        let mut kinds = Vec::new();
        loop {
            let fields: Vec<String> =
                redis::from_redis_value(self.subscriber.recv_response().unwrap()).unwrap();
            if fields[0] == "pong" {
                return kinds;
            }
            assert_eq!(fields[2], "7", "{}", self.name);
            kinds.push(fields[0].clone());
        }
    }
}

#[test]
fn waiters_of_other_versions_are_woken_as_they_listen() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(0);
    let backend = cluster_backend(&cluster, 0);
    let both = &["SUBSCRIBE", "SSUBSCRIBE"][..];
    for (name, kind, channels, heard) in [
        ("old fair", "f", &both[..1], "message"),
        ("old", "u", &both[..1], "message"),
        ("fair", "sf", both, "smessage"),
        ("unfair", "su", both, "smessage"),
        // Its subscription is still on its way, or was refused.
        ("neither", "su", &both[..1], "message"),
    ] {
        let lease = request(one(name), 60_000, acks(0, 0));
        granted(acquire(&backend, &lease));
        let node = &cluster.nodes[cluster.owner(slot_of(name))];
        let foreign = Foreign::wait(node, name, kind, channels);
        assert!(release(&backend, &lease).unwrap());
        assert_eq!(foreign.heard(), [heard], "{name}");
    }
}

#[test]
fn releases_of_versions_without_sharded_channels_wake_too() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(0);
    let backend = cluster_backend(&cluster, 0);
    let node = &cluster.nodes[cluster.owner(slot_of("w"))];
    granted(acquire(&backend, &request(one("w"), 60_000, acks(0, 0))));
    let waiting = wait_for(&backend, "w", Waiter::new(true));
    eventually("it is in the queue", || !queued(node, "w").is_empty());
    let entry = queued(node, "w").remove(0);
    let [process, number, kind] = entry.split(':').collect::<Vec<_>>()[..] else { panic!("{entry}") };
    assert!(kind.ends_with('f'), "that is how they find a fair waiter");
    node.run::<()>(&["DEL", &lock_key("w")]);
    let heard: u32 = node.run(&["PUBLISH", &format!("fencelock:wake:{process}"), number]);
    assert_eq!(heard, 1);
    waiting.join().unwrap();
}

#[test]
fn waiters_follow_their_slot_as_soon_as_it_has_moved() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(0);
    let backend = cluster_backend(&cluster, 0);
    let slot = slot_of("w");
    let (mut from, mut to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    granted(acquire(&backend, &request(one("w"), 60_000, acks(0, 0))));
    let waiting = wait_for(&backend, "w", Waiter::new(true));
    eventually("it listens", || !sharded_channels(&cluster.nodes[from]).is_empty());
    let mut took = Duration::ZERO;
    for _ in 0..MOVES {
        cluster.move_slot(slot, from, to);
        let began = Instant::now();
        eventually("it listens at the new owner", || !sharded_channels(&cluster.nodes[to]).is_empty());
        took += began.elapsed();
        cluster.await_agreement();
        (from, to) = (to, from);
    }
    // A heartbeat finds out too, once a second.
    assert!(took / MOVES < Duration::from_millis(300), "{took:?}");
    assert!(force_release(&backend, "w").unwrap());
    waiting.join().unwrap();
}

#[test]
fn a_lock_is_handed_over_on_the_new_owner_of_its_slot() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(0);
    let (holder, backend) = (cluster_backend(&cluster, 0), cluster_backend(&cluster, 0));
    let slot = slot_of("w");
    let (mut from, mut to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    let mut took = Duration::ZERO;
    for round in 0..MOVES {
        let lease = request(one("w"), 60_000, acks(0, 0));
        granted(acquire(&holder, &lease));
        let waiting = wait_for(&backend, "w", Waiter::new(round % 2 == 0));
        eventually("it is in the queue", || !queued(&cluster.nodes[from], "w").is_empty());
        cluster.move_slot(slot, from, to);
        let began = Instant::now();
        assert!(release(&holder, &lease).unwrap());
        waiting.join().unwrap();
        took += began.elapsed();
        assert!(force_release(&holder, "w").unwrap());
        cluster.await_agreement();
        (from, to) = (to, from);
    }
    assert!(took / MOVES < Duration::from_millis(300), "{took:?}");
}

#[test]
fn a_lock_that_is_released_while_its_slot_moves_is_granted_at_the_end_of_the_move() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(0);
    let (holder, backend) = (cluster_backend(&cluster, 0), cluster_backend(&cluster, 0));
    let slot = slot_of("w");
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    let lease = request(one("w"), 60_000, acks(0, 0));
    granted(acquire(&holder, &lease));
    let waiting = wait_for(&backend, "w", Waiter::new(true));
    eventually("it is in the queue", || !queued(&cluster.nodes[from], "w").is_empty());
    cluster.begin_move(slot, from, to);
    cluster.move_key(&queue_key("w"), from, to);
    assert!(release(&holder, &lease).unwrap());
    // Longer than the pause between heartbeats.
    std::thread::sleep(Duration::from_millis(1_200));
    assert!(!waiting.is_finished(), "nothing is granted meanwhile");
    cluster.move_keys(slot, from, to);
    let began = Instant::now();
    cluster.end_move(slot, from, to);
    waiting.join().unwrap();
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
}

#[test]
fn channels_that_are_not_used_any_more_are_left_and_the_connection_stays() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(0);
    let backend = cluster_backend(&cluster, 0);
    let node = &cluster.nodes[0];
    let names: Vec<_> = (0..)
        .map(|number| format!("r{number}"))
        .filter(|name| cluster.owner(slot_of(name)) == 0)
        .take(200)
        .collect();
    let held = request(one(&names[0]), 60_000, acks(0, 0));
    granted(acquire(&backend, &held));
    let waiting = wait_for(&backend, &names[0], Waiter::new(true));
    eventually("it listens", || !sharded_channels(node).is_empty());
    let subscriber = || {
        let clients: String = node.run(&["CLIENT", "LIST", "TYPE", "pubsub"]);
        clients.split_whitespace().next().unwrap_or_default().to_owned()
    };
    let before = subscriber();
    for name in &names[1..] {
        let (backend, resources) = (Arc::clone(&backend), one(name));
        on_io(async move {
            let waiter = Waiter::new(false);
            backend.join_queue(&resources, &waiter).await.unwrap();
            backend.leave_queue(&resources, &waiter).await;
        });
    }
    eventually("most of them are left", || sharded_channels(node).len() < 100);
    let kept = format!("fencelock:wake:{{{}}}:", names[0]);
    assert!(sharded_channels(node).iter().any(|channel| channel.starts_with(&kept)));
    assert!(release(&backend, &held).unwrap());
    waiting.join().unwrap();
    assert_eq!(subscriber(), before, "the connection has not broken");
}
