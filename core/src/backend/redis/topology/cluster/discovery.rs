//! Keeps the map of the cluster: asks several nodes for it, and takes the one that most agree on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::map::{Answer, ClusterMap, Member, most_agreed};
use super::question::ask;
use crate::backend::redis::config::address::Address;
use crate::backend::redis::config::endpoint::{Endpoint, ServerKind};
use crate::backend::redis::config::{ClusterConfig, Settings};
use crate::backend::redis::connection::Connection;
use crate::error::{Error, Result};
use crate::runtime::backoff::Backoff;
use crate::runtime::sync::Mutex;

/// Between two rounds of questions, however many ask for them.
const PAUSE: Backoff = Backoff::jittered(Duration::from_millis(200), Duration::from_millis(400));
/// How long other nodes may take after the first answer.
const OTHERS: Duration = Duration::from_millis(300);
/// How long a node's word that a slot has moved counts for more than a map.
const FRESH: Duration = Duration::from_secs(1);
/// How long connections are kept for the next round.
const LINGER: Duration = Duration::from_secs(3);
/// How many nodes are asked: known ones, and one of those that were configured.
const KNOWN: usize = 2;
/// How many are asked if none of these answers.
const MANY: usize = 16;

/// Asks for the map, and publishes it.
pub(crate) struct Discovery {
    config: ClusterConfig,
    settings: Arc<Settings>,
    map: watch::Sender<Option<Arc<ClusterMap>>>,
    version: AtomicU64,
    rounds: watch::Sender<Rounds>,
    state: Mutex<State>,
    requested: Notify,
}

#[derive(Default)]
struct State {
    /// Whether the task runs that asks.
    running: bool,
    requested: bool,
    /// Where nodes said that these slots are, and when.
    moved: HashMap<u16, (Instant, Member)>,
}

#[derive(Default)]
struct Rounds {
    begun: u64,
    ended: u64,
    /// Why the last round that ended found no map.
    error: Option<Error>,
}

type Connections = HashMap<String, Connection>;

impl Discovery {
    /// No I/O.
    pub fn new(config: ClusterConfig, settings: Arc<Settings>) -> Self {
        Self {
            config,
            settings,
            map: watch::Sender::new(None),
            version: AtomicU64::new(0),
            rounds: watch::Sender::default(),
            state: Mutex::default(),
            requested: Notify::new(),
        }
    }

    /// The map, if there is one yet.
    pub fn map(&self) -> Option<Arc<ClusterMap>> {
        self.map.borrow().clone()
    }

    /// Shows each new map.
    pub fn changes(&self) -> watch::Receiver<Option<Arc<ClusterMap>>> {
        self.map.subscribe()
    }

    /// Changes with the map.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Where a node that is announced like this listens.
    pub fn endpoint(&self, member: &Member, kind: ServerKind) -> Result<Arc<Endpoint>> {
        let address = self.config.announced.address(&member.host, member.port)?;
        Ok(Arc::new(Endpoint { address, kind, settings: Arc::clone(&self.settings) }))
    }

    /// The map may be out of date: asks for it soon. Does not block.
    pub fn request(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.requested = true;
        if state.running {
            self.requested.notify_one();
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            state.running = true;
            runtime.spawn(Arc::clone(self).run());
        }
    }

    /// Waits for the end of the round that runs, or else of the next one.
    pub async fn refreshed(self: &Arc<Self>) -> Result<()> {
        let mut rounds = self.rounds.subscribe();
        let awaited = {
            let rounds = rounds.borrow_and_update();
            rounds.begun.max(rounds.ended + 1)
        };
        self.request();
        let refreshed = async {
            let ended = rounds.wait_for(|rounds| rounds.ended >= awaited).await;
            ended.expect("the sender is here").error.clone().map_or(Ok(()), Err)
        };
        self.settings.pending_connects.wait(refreshed).await
    }

    /// A node said that a slot has moved.
    pub fn moved(&self, slot: u16, host: &str, port: u16) {
        let Some(map) = self.map() else { return };
        self.state.lock().moved.insert(slot, (Instant::now(), Member::at(host, port)));
        if map.shard_of(slot).is_none_or(|at| !map.shards[at].primary.is_at(host, port)) {
            self.publish(map.with_moved(slot, host, port));
        }
    }

    fn publish(&self, map: ClusterMap) {
        self.map.send_replace(Some(Arc::new(map)));
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    async fn run(self: Arc<Self>) {
        let _stopped = scopeguard::guard_on_unwind((), |()| self.state.lock().running = false);
        let mut connections = Connections::new();
        let (mut pause, mut last) = (PAUSE, None);
        loop {
            if !self.state.lock().requested {
                pause = PAUSE;
                if timeout(LINGER, self.requested.notified()).await.is_err() {
                    let mut state = self.state.lock();
                    if !state.requested {
                        state.running = false;
                        return;
                    }
                }
                continue;
            }
            if let Some(last) = last {
                sleep_until(last + pause.next_pause()).await;
            }
            last = Some(Instant::now());
            self.state.lock().requested = false;
            self.rounds.send_modify(|rounds| rounds.begun += 1);
            let outcome = self.round(&mut connections).await;
            let error = match outcome {
                Ok(map) => {
                    self.adopt(map);
                    None
                }
                Err(error) => Some(error),
            };
            self.rounds.send_modify(|rounds| {
                rounds.ended = rounds.begun;
                rounds.error = error;
            });
        }
    }

    /// Publishes a map, with what nodes have said a moment ago.
    fn adopt(&self, mut map: ClusterMap) {
        if let Some(older) = self.map() {
            map.remember(&older);
        }
        {
            let moved = &mut self.state.lock().moved;
            moved.retain(|&slot, (when, Member { host, port, .. })| {
                let known = map.shard_of(slot).is_some_and(|at| map.shards[at].primary.is_at(host, *port));
                if !known && when.elapsed() < FRESH {
                    map = map.with_moved(slot, host, *port);
                    return true;
                }
                false
            });
            map.patched = false;
        }
        let same = self.map().is_some_and(|old| *old == map && old.shards == map.shards);
        if !same {
            self.publish(map);
        }
    }

    /// One round of questions: to a few nodes, and if none of them answers, to many.
    async fn round(&self, connections: &mut Connections) -> Result<ClusterMap> {
        let (mut known, mut seeds) = (self.known(), self.config.seeds.clone());
        shuffle(&mut known);
        shuffle(&mut seeds);
        let first_known = if known.is_empty() { 0 } else { KNOWN.min(known.len()) };
        let first_seeds = (KNOWN + 1 - first_known).min(seeds.len());
        let mut rest = known.split_off(first_known);
        rest.extend(seeds.split_off(first_seeds));
        known.append(&mut seeds);
        match self.ask_all(known, connections).await {
            Err(_) if !rest.is_empty() => {
                rest.truncate(MANY);
                self.ask_all(rest, connections).await
            }
            outcome => outcome,
        }
    }

    /// Where the nodes of the current map listen.
    fn known(&self) -> Vec<Address> {
        let Some(map) = self.map() else { return Vec::new() };
        map.members().filter_map(|it| self.config.announced.address(&it.host, it.port).ok()).collect()
    }

    async fn ask_all(&self, addresses: Vec<Address>, connections: &mut Connections) -> Result<ClusterMap> {
        let due = Instant::now() + self.settings.connect_timeout;
        let number = addresses.len();
        let mut questions: FuturesUnordered<_> = addresses
            .into_iter()
            .map(|address| {
                let open = connections.remove(&address.to_string()).filter(Connection::is_open);
                async move {
                    let asked = timeout_at(due, ask(&address, &self.settings, open)).await;
                    let name = address.to_string();
                    let asked = asked.unwrap_or_else(|_| {
                        Err(Error::untouched(format!(
                            "cannot connect to redis at {name}: no map of the cluster within \
                             connectTimeoutMs ({} ms); try again",
                            self.settings.connect_timeout.as_millis()
                        )))
                    });
                    (name, asked)
                }
            })
            .collect();
        let (mut answers, mut failure) = (Vec::<Answer>::new(), None);
        let mut until = due + OTHERS;
        while let Ok(Some((name, asked))) = timeout_at(until, questions.next()).await {
            match asked {
                Ok((connection, answer)) => {
                    connections.insert(name, connection);
                    if answers.is_empty() {
                        until = until.min(Instant::now() + OTHERS);
                    }
                    let agreed = answers.iter().filter(|other| other.map == answer.map).count() + 1;
                    answers.push(answer);
                    if agreed * 2 > number {
                        break;
                    }
                }
                Err(error) => {
                    // That a server is not what it should be says more than that another is away.
                    if failure.is_none() || matches!(error, Error::Unsupported(_)) {
                        failure = Some(error);
                    }
                }
            }
        }
        most_agreed(answers).ok_or_else(|| {
            failure.unwrap_or_else(|| Error::unavailable("no node of the Redis Cluster was found"))
        })
    }
}

/// In any order, so that clients do not all ask the same nodes.
fn shuffle<T>(items: &mut [T]) {
    for at in (1..items.len()).rev() {
        let random = getrandom::u32().unwrap_or_default() as usize;
        items.swap(at, random % (at + 1));
    }
}
