//! What holders are told when another server took over, or theirs was restarted.

use std::sync::Mutex;

use super::behind_a_name::Alive;
use crate::backend::Backend;
use crate::backend::redis::config::slot::slot_of;
use crate::backend::redis::tests::servers::clusters::ClusterServers;
use crate::backend::redis::tests::servers::proxy::Proxy;
use crate::backend::redis::tests::servers::server::{Server, available};
use crate::backend::redis::tests::*;
use crate::backend::waiter::Waiter;
use crate::lease::Strategy;
use crate::manager::{Acquired, LeaseEnd, LeaseId, Manager, RenewalLimits, Wanted};

/// The deadlines are far later.
const AT_ONCE: Duration = Duration::from_millis(1_500);

/// A manager, and what it has told holders.
struct Holder {
    manager: Arc<Manager>,
    told: Arc<Mutex<Vec<(LeaseId, LeaseEnd)>>>,
}

impl Holder {
    fn new(options: Options) -> Self {
        let redis = Backend::Redis(RedisBackend::new(Config::new(options).unwrap(), Clock::System));
        let told = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&told);
        let listener = Box::new(move |id, end| record.lock().unwrap().push((id, end)));
        let backends = [(Strategy::Strong, redis)];
        let manager = Manager::new(
            backends,
            crate::lease::Holder::named("test"),
            Clock::System,
            listener,
            Arc::new(Alive),
        );
        Self { manager, told }
    }

    /// A watched lease of a minute.
    fn lease(&self, name: &str, renewed: bool) -> LeaseId {
        let forever = RenewalLimits { max_hold: RenewalLimits::FOREVER, max_stall: RenewalLimits::FOREVER };
        let request = request(one(name), 60_000, acks(0, 0));
        let wanted = Wanted {
            resources: request.resources,
            mode: request.mode,
            owner: request.owner,
            ttl: request.ttl,
            min_hold: Duration::ZERO,
            min_token: 0,
            acks: request.acks,
            wait: Duration::ZERO,
            fair: false,
            renew: renewed.then_some(forever),
        };
        let manager = Arc::clone(&self.manager);
        let outcome = on_io(async move { manager.acquire(Strategy::Strong, wanted, None).await });
        let Ok(Acquired::Granted { id, held, .. }) = outcome else { panic!("not granted: {outcome:?}") };
        assert!(held.deliver(Clock::System.boot()));
        self.manager.hold(id);
        assert!(self.manager.watch(id).unwrap());
        id
    }

    fn told(&self) -> Vec<LeaseId> {
        self.told.lock().unwrap().iter().map(|(id, _)| *id).collect()
    }

    fn is_held(&self, id: LeaseId) -> bool {
        !self.manager.remaining(id).is_zero()
    }

    /// These leases, and no others, are found to be lost.
    fn expect_lost(&self, lost: &[LeaseId]) {
        let began = Instant::now();
        eventually("the holders are told", || self.told().len() >= lost.len());
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        let mut told = self.told();
        told.sort_unstable();
        assert_eq!(told, lost);
        for id in lost {
            assert!(!self.is_held(*id));
            let end = self.manager.lease_end(*id);
            let Some(LeaseEnd::Lost { why }) = end else { panic!("{end:?}") };
            assert!(why.contains("the one that answers now does not have it"), "{why}");
        }
    }

    fn inspect(&self, name: &'static str) -> Result<bool> {
        let manager = Arc::clone(&self.manager);
        on_io(async move { Ok(manager.inspect(Strategy::Strong, name).await?.is_some()) })
    }
}

/// The other server gets a lease, as a replica that is about to take over does.
fn replicate(from: &Server, to: &Server, name: &str, ttl_ms: u32) {
    let owner: String = from.run(&["GET", &lock_key(name)]);
    to.run::<()>(&["SET", &lock_key(name), &owner, "PX", &ttl_ms.to_string()]);
    to.run::<()>(&["SET", &fence_key(name), "1", "PX", &ttl_ms.to_string()]);
}

fn left(server: &Server, name: &str) -> i64 {
    server.run(&["PTTL", &lock_key(name)])
}

fn script_calls(server: &Server) -> u64 {
    let info = server.info("commandstats");
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn holders_are_told_at_once_of_what_the_new_server_does_not_have() {
    if !available() {
        return;
    }
    let (mut old, new) = (Server::start(&[]), Server::start(&[]));
    let proxy = Proxy::start(old.port);
    let holder = Holder::new(options(&proxy.url(), 0));
    let [lost, _kept, taken] = ["lost", "kept", "taken"].map(|name| holder.lease(name, false));
    let [renewed, forgotten] = ["renewed", "forgotten"].map(|name| holder.lease(name, true));
    let released = holder.lease("released", false);
    for name in ["kept", "renewed"] {
        replicate(&old, &new, name, 50_000);
    }
    new.run::<()>(&["SET", &lock_key("taken"), "another owner", "PX", "60000"]);
    let release = holder.manager.release(released).unwrap();
    assert!(on_io(release).unwrap());
    proxy.switch(new.port);
    old.kill();
    eventually("all are told", || holder.told().len() >= 3);
    assert!(holder.told().contains(&forgotten), "by its extension, or by the look-up");
    assert!(!holder.is_held(forgotten));
    holder.told.lock().unwrap().retain(|(id, _)| *id != forgotten);
    holder.expect_lost(&[lost, taken]);
    eventually("the renewed lease is extended", || left(&new, "renewed") > 55_000);
    assert!(holder.is_held(renewed) && holder.manager.stats().extended == 1);
    assert!(left(&new, "kept") <= 50_000, "it is looked up only");
    assert_eq!(holder.manager.stats().lost, 3);
    // What is granted from now on is not touched by it.
    let next = holder.lease("lost", false);
    std::thread::sleep(Duration::from_millis(100));
    assert!(holder.is_held(next));
}

#[test]
fn holders_are_told_when_the_server_that_was_away_is_back_without_their_leases() {
    if !available() {
        return;
    }
    let mut server = Server::start(&[]);
    let holder = Holder::new(options(&server.url(), 0));
    let (lost, port) = (holder.lease("lost", false), server.port);
    server.kill();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(holder.told(), [], "it is not known yet");
    assert!(holder.is_held(lost));
    server.restart_on(port);
    holder.expect_lost(&[lost]);
}

#[test]
fn a_server_that_was_restarted_with_its_data_keeps_all_leases() {
    if !available() {
        return;
    }
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let holder = Holder::new(options(&server.url(), 0));
    let (kept, renewed) = (holder.lease("kept", false), holder.lease("renewed", true));
    server.restart();
    eventually("the renewed lease is extended", || holder.manager.stats().extended == 1);
    eventually("the leases are looked up", || script_calls(&server) >= 2);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(holder.told(), []);
    assert!(holder.is_held(kept) && holder.is_held(renewed));
}

#[test]
fn broken_connections_to_the_same_server_cost_nothing() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let holder = Holder::new(options(&server.url(), 0));
    let (kept, renewed) = (holder.lease("kept", false), holder.lease("renewed", true));
    let clients = || server.run::<String>(&["CLIENT", "LIST"]).matches("name=fencelock").count();
    assert!(holder.inspect("kept").unwrap());
    let calls = script_calls(&server);
    let killed: u32 = server.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    assert!(killed > 0);
    eventually("it is connected again", || clients() > 0);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(script_calls(&server), calls);
    assert_eq!((holder.told(), holder.manager.stats().extended), (vec![], 0));
    assert!(holder.is_held(kept) && holder.is_held(renewed));
    let id = holder.manager.release(kept).unwrap();
    assert!(on_io(id).unwrap());
}

#[test]
fn no_one_connects_for_a_manager_that_holds_nothing() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let holder = Holder::new(options(&server.url(), 0));
    let release = holder.manager.release(holder.lease("r", false)).unwrap();
    assert!(on_io(release).unwrap());
    server.run::<u32>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.run::<String>(&["CLIENT", "LIST"]).matches("name=fencelock").count(), 0);
}

/// The old server still serves, so only a new connection finds out that the name leads to another.
#[test]
fn a_name_that_leads_to_another_server_is_noticed_by_any_connection() {
    if !available() {
        return;
    }
    let (old, new) = (Server::start(&[]), Server::start(&[]));
    let proxy = Proxy::start(old.port);
    let holder = Holder::new(options(&proxy.url(), 0));
    let (lost, _kept) = (holder.lease("lost", false), holder.lease("kept", false));
    replicate(&old, &new, "kept", 60_000);
    assert!(holder.inspect("lost").unwrap());
    proxy.switch(new.port);
    // A waiter makes another connection.
    let (backend, waiter) =
        (Arc::clone(holder.manager.open_backend(Strategy::Strong).unwrap()), Waiter::new(false));
    on_io(async move { backend.join_queue(&one("other"), &waiter).await }).unwrap();
    holder.expect_lost(&[lost]);
}

#[test]
fn a_demoted_server_does_not_say_what_is_missing() {
    if !available() {
        return;
    }
    let (old, new) = (Server::start(&[]), Server::start(&[]));
    let proxy = Proxy::start(old.port);
    let holder = Holder::new(options(&proxy.url(), 0));
    let (lost, kept) = (holder.lease("lost", false), holder.lease("kept", false));
    replicate(&old, &new, "kept", 60_000);
    // It has lost all it had by the time it is a replica.
    old.run::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    old.run::<()>(&["CONFIG", "SET", "replica-read-only", "no"]);
    old.run::<()>(&["FLUSHALL"]);
    old.run::<()>(&["CONFIG", "SET", "replica-read-only", "yes"]);
    // The next call notices that it is a replica.
    assert!(holder.inspect("kept").is_err());
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(holder.told(), []);
    proxy.switch(new.port);
    holder.expect_lost(&[lost]);
    assert!(holder.is_held(kept));
}

#[test]
fn in_a_cluster_only_the_leases_of_the_shard_are_looked_up() {
    if !available() {
        return;
    }
    let mut cluster = ClusterServers::start(0);
    let location = Location::Cluster(cluster.urls());
    let holder = Holder::new(Options { location, ..options("", 0) });
    let [of_first, of_last] = [0, 2].map(|at| {
        let names = (0..).map(|number| format!("r{number}"));
        names.filter(|name| cluster.owner(slot_of(name)) == at).take(2).collect::<Vec<_>>()
    });
    let lost = of_first.iter().map(|name| holder.lease(name, false)).collect::<Vec<_>>();
    let (kept, renewed) = (holder.lease(&of_last[0], false), holder.lease(&of_last[1], true));
    let calls = script_calls(&cluster.nodes[2]);
    cluster.nodes[0].restart();
    cluster.await_ok();
    holder.expect_lost(&lost);
    assert!(holder.is_held(kept) && holder.is_held(renewed));
    assert_eq!(script_calls(&cluster.nodes[2]), calls);
}

#[test]
fn leases_of_a_slot_that_has_moved_are_renewed_at_once_and_looked_up_where_it_is_now() {
    if !available() {
        return;
    }
    let cluster = ClusterServers::start(0);
    let location = Location::Cluster(cluster.urls());
    let holder = Holder::new(Options { location, ..options("", 0) });
    let slot = slot_of("{m}lost");
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    let (lost, kept) = (holder.lease("{m}lost", false), holder.lease("{m}kept", false));
    let [forgotten, renewed] = ["{m}forgotten", "{m}renewed"].map(|name| holder.lease(name, true));
    let elsewhere = holder.lease("elsewhere", true);
    assert_ne!(slot_of("elsewhere"), slot);
    for name in ["{m}lost", "{m}forgotten"] {
        cluster.nodes[from].run::<()>(&["DEL", &lock_key(name)]);
    }
    cluster.nodes[from].run::<()>(&["PEXPIRE", &lock_key("{m}renewed"), "40000"]);
    cluster.move_slot(slot, from, to);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(holder.told(), [], "it is not known yet");
    // Any call finds out that the slot has moved.
    assert!(holder.inspect("{m}kept").unwrap());
    let began = Instant::now();
    eventually("the loss is told", || holder.told().contains(&forgotten));
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    holder.told.lock().unwrap().retain(|(id, _)| *id != forgotten);
    holder.expect_lost(&[lost]);
    eventually("the renewed lease is extended", || left(&cluster.nodes[to], "{m}renewed") > 50_000);
    assert!([kept, renewed, elsewhere].into_iter().all(|id| holder.is_held(id)));
    assert_eq!(holder.manager.stats().extended, 1, "only what has moved");
}
