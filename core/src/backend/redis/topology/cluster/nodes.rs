//! The shards of a cluster, and which of them has each slot now.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::discovery::Discovery;
use super::map::{ClusterMap, MapShard, Member};
use super::moved::MovedSlots;
use super::shard::Shard;
use crate::backend::contract::FailoverListener;
use crate::backend::redis::config::Settings;
use crate::backend::redis::node::{Neighbours, Node};
use crate::backend::waiter::Waiter;
use crate::runtime::clock::Clock;
use crate::runtime::sync::Mutex;

/// How often idle shards and the age of the map are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How long a shard without slots stays.
const SPARE: Duration = Duration::from_secs(30);
/// How old the map of a cluster in use may be.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The nodes of a cluster.
pub(crate) struct Nodes {
    pub discovery: Arc<Discovery>,
    pub settings: Arc<Settings>,
    clock: Clock,
    /// Is notified of the failovers of all of them.
    pub failovers: OnceLock<FailoverListener>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    table: Arc<Table>,
    /// Shards without slots, and since when: those that are about to get the first, and those that have
    /// lost the last.
    spare: Vec<(Instant, Arc<Shard>)>,
    /// Where each waiter waits.
    waiting: HashMap<u64, Waiting>,
    /// Whether the task runs that applies new maps.
    following: bool,
    /// Whether a slot was looked up lately.
    used: bool,
}

struct Waiting {
    waiter: Waiter,
    slot: u16,
    node: Arc<Node>,
}

/// The shards of one map.
#[derive(Default)]
struct Table {
    version: u64,
    map: Option<Arc<ClusterMap>>,
    /// In the order of the map.
    shards: Vec<Arc<Shard>>,
}

impl Table {
    fn owner(&self, slot: u16) -> Option<&Arc<Shard>> {
        self.map.as_ref()?.shard_of(slot).and_then(|at| self.shards.get(at))
    }
}

impl Nodes {
    /// No I/O.
    pub fn new(discovery: Discovery, settings: Arc<Settings>, clock: Clock) -> Self {
        let (failovers, state) = (OnceLock::new(), Mutex::default());
        Self { discovery: Arc::new(discovery), settings, clock, failovers, state }
    }

    /// The node that has this slot; `None` if none is known.
    pub fn owner(self: &Arc<Self>, slot: u16) -> Option<Arc<Node>> {
        let mut state = self.current();
        state.used = true;
        state.table.owner(slot).map(|shard| Arc::clone(&shard.node))
    }

    /// The shard at this announced address, which may have no slots yet.
    pub fn at(self: &Arc<Self>, host: &str, port: u16) -> Arc<Shard> {
        let mut state = self.current();
        let State { table, spare, .. } = &mut *state;
        let is_there = |shard: &&Arc<Shard>| shard.current().primary.is_at(host, port);
        let found = table.shards.iter().chain(spare.iter().map(|(_, shard)| shard)).find(is_there).cloned();
        found.unwrap_or_else(|| {
            let shard = self.new_shard(MapShard::of(Member::at(host, port)));
            spare.push((Instant::now(), Arc::clone(&shard)));
            shard
        })
    }

    /// The shard of a node.
    pub fn shard_of(self: &Arc<Self>, node: &Arc<Node>) -> Option<Arc<Shard>> {
        self.shards().into_iter().find(|shard| Arc::ptr_eq(&shard.node, node))
    }

    /// Whether any slot is this node's.
    pub fn has_slots(self: &Arc<Self>, node: &Arc<Node>) -> bool {
        self.current().table.shards.iter().any(|shard| Arc::ptr_eq(&shard.node, node))
    }

    /// All shards, those without slots last.
    pub fn shards(self: &Arc<Self>) -> Vec<Arc<Shard>> {
        let state = self.current();
        state.table.shards.iter().chain(state.spare.iter().map(|(_, shard)| shard)).cloned().collect()
    }

    /// Where this waiter waits.
    pub fn place_of(&self, waiter: &Waiter) -> Option<Arc<Node>> {
        self.state.lock().waiting.get(&waiter.number()).map(|waiting| Arc::clone(&waiting.node))
    }

    /// From now on this waiter waits there. Returns where it has waited before.
    pub fn waits_at(&self, waiter: &Waiter, slot: u16, node: &Arc<Node>) -> Option<Arc<Node>> {
        let waiting = Waiting { waiter: waiter.clone(), slot, node: Arc::clone(node) };
        self.state.lock().waiting.insert(waiter.number(), waiting).map(|before| before.node)
    }

    /// This waiter waits no more. Returns where it has waited.
    pub fn waits_no_more(&self, waiter: &Waiter) -> Option<Arc<Node>> {
        self.state.lock().waiting.remove(&waiter.number()).map(|waiting| waiting.node)
    }

    /// The state, with the shards of the newest map.
    fn current(self: &Arc<Self>) -> std::sync::MutexGuard<'_, State> {
        let mut state = self.state.lock();
        if state.table.version != self.discovery.version() {
            self.update(&mut state);
        }
        state
    }

    fn update(self: &Arc<Self>, state: &mut State) {
        let version = self.discovery.version();
        let Some(map) = self.discovery.map() else { return };
        let old = Arc::clone(&state.table);
        let mut left: Vec<(Instant, Arc<Shard>)> = std::mem::take(&mut state.spare);
        left.extend(old.shards.iter().map(|shard| (Instant::now(), Arc::clone(shard))));
        let mut shards: Vec<Option<Arc<Shard>>> = vec![None; map.shards.len()];
        // First those that are the same for certain, so that no other is taken for them.
        for matches in [same_primary, same_address, promoted] {
            for (found, now) in shards.iter_mut().zip(&map.shards).filter(|(found, _)| found.is_none()) {
                if let Some(at) = left.iter().position(|(_, shard)| matches(&shard.current(), now)) {
                    let (_, shard) = left.swap_remove(at);
                    shard.update(now, map.patched);
                    *found = Some(shard);
                }
            }
        }
        let shards = shards.into_iter().zip(&map.shards);
        let shards =
            shards.map(|(found, now)| found.unwrap_or_else(|| self.new_shard(now.clone()))).collect();
        state.spare = left;
        state.table = Arc::new(Table { version, map: Some(map), shards });
        if let Some(listener) = self.failovers.get()
            && let Some(moved) = MovedSlots::between(|slot| old.owner(slot), |slot| state.table.owner(slot))
        {
            listener(Arc::new(moved));
        }
        // Those whose slot has moved join the queue of its new owner.
        for Waiting { waiter, slot, node } in state.waiting.values() {
            if state.table.owner(*slot).is_some_and(|owner| !Arc::ptr_eq(&owner.node, node)) {
                waiter.wake();
            }
        }
        if !std::mem::replace(&mut state.following, true)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(follow(Arc::downgrade(self), Arc::clone(&self.discovery)));
        }
    }

    fn new_shard(self: &Arc<Self>, current: MapShard) -> Arc<Shard> {
        Arc::new(Shard::new(&self.discovery, current, |route| {
            let neighbours: Arc<dyn Neighbours> = Arc::clone(self) as _;
            let neighbours = Arc::downgrade(&neighbours);
            let node = Node::of_cluster(Arc::clone(&self.settings), route, self.clock.clone(), neighbours);
            if let Some(listener) = self.failovers.get() {
                node.on_failover(Arc::clone(listener));
            }
            node
        }))
    }

    /// Takes the shards that have had no slots for a while.
    fn take_idle(self: &Arc<Self>) -> Vec<Arc<Shard>> {
        let spare = &mut self.current().spare;
        let idle = spare.extract_if(.., |(since, _)| since.elapsed() >= SPARE);
        idle.map(|(_, shard)| shard).collect()
    }
}

/// Applies new maps as soon as they are there, and looks after what is idle.
async fn follow(nodes: Weak<Nodes>, discovery: Arc<Discovery>) {
    let mut changes = discovery.changes();
    let mut refreshed = Instant::now();
    loop {
        let new_map = timeout(LOOK, changes.changed()).await.is_ok();
        let Some(nodes) = nodes.upgrade() else { return };
        let used = std::mem::take(&mut nodes.current().used);
        if new_map {
            continue;
        }
        if used && refreshed.elapsed() >= MAX_AGE {
            refreshed = Instant::now();
            discovery.request();
        }
        for shard in nodes.take_idle() {
            tokio::spawn(async move { shard.node.close().await });
        }
    }
}

fn same_primary(old: &MapShard, now: &MapShard) -> bool {
    old.primary.id == now.primary.id
}

/// A shard that was known by its address only.
fn same_address(old: &MapShard, now: &MapShard) -> bool {
    old.primary.is_at(&now.primary.host, now.primary.port)
}

/// A replica took over.
fn promoted(old: &MapShard, now: &MapShard) -> bool {
    let mut known = old.replicas.iter().chain(old.former.iter().map(|(_, replica)| replica));
    known.any(|replica| replica.id == now.primary.id)
}
