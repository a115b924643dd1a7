//! All locks of a deployment, found by scanning each of its primaries.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};

use super::node::{Node, Scan};
use super::topology::Topology;
use crate::backend::contract::{Info, Locks};
use crate::error::Result;
use crate::lease::Resources;
use crate::runtime::backoff::Backoff;
use crate::runtime::seen_names::SeenNames;

/// How many locks are read at once.
pub(crate) const PAGE: usize = 128;
/// How long a page takes at most if no lock is found.
pub(crate) const PAGE_TIME: Duration = Duration::from_millis(50);
/// How often the nodes of a cluster are scanned: a lock whose slot moves meanwhile, from a node that is still
/// to be scanned to one that was, is found the second time.
const PASSES: u32 = 2;
/// Between tries to scan a node or to read locks while a server may be replaced.
const RETRY: Backoff = Backoff::jittered(Duration::from_millis(20), Duration::from_millis(500));

/// A listing that is under way.
pub struct RedisListing {
    prefix: String,
    seen: SeenNames,
    /// Those that are to be read.
    found: VecDeque<String>,
    /// The nodes that are not scanned to their ends, the current one last; `None`: a pass is to begin.
    nodes: Option<Vec<(Arc<Node>, Scan)>>,
    passes_left: u32,
    /// While a node cannot be scanned because a server may be replaced.
    failing: Option<Failing>,
}

struct Failing {
    until: Instant,
    retry: Backoff,
}

impl std::fmt::Debug for RedisListing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisListing").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl RedisListing {
    pub(super) fn new(prefix: &str) -> Self {
        let (seen, found) = (SeenNames::default(), VecDeque::new());
        Self { prefix: prefix.to_owned(), seen, found, nodes: None, passes_left: PASSES, failing: None }
    }

    /// See [`LockBackend::next_page`](crate::backend::contract::LockBackend::next_page). `patience`: how long
    /// to wait while a server may be replaced.
    pub(super) async fn next_page(
        &mut self,
        topology: &Topology,
        patience: Duration,
    ) -> Result<Option<Locks>> {
        let began = Instant::now();
        while self.found.is_empty() {
            if !self.scan(topology, patience).await? {
                return Ok(None);
            }
            if self.found.is_empty() && began.elapsed() > PAGE_TIME {
                return Ok(Some(Vec::new()));
            }
        }
        let page = self.found.len().min(PAGE);
        let names = self.found.drain(..page).map(Resources::one).collect::<Result<Vec<_>>>()?;
        let infos = read(topology, &names, patience).await?;
        let locks = names.iter().zip(infos);
        Ok(Some(locks.filter_map(|(name, info)| Some((Arc::clone(&name.as_slice()[0]), info?))).collect()))
    }

    /// Scans a little further. `false`: all nodes were scanned.
    async fn scan(&mut self, topology: &Topology, patience: Duration) -> Result<bool> {
        let Self { prefix, seen, found, nodes, passes_left, failing } = self;
        let unfinished = match nodes {
            Some(unfinished) => unfinished,
            None if *passes_left == 0 => return Ok(false),
            None => {
                let all = topology.refreshed().await?;
                *passes_left = if all.len() > 1 { *passes_left - 1 } else { 0 };
                let scan = |node: Arc<Node>| {
                    let names = Arc::new(node.lock_names(prefix));
                    (node, Scan::new(&names))
                };
                nodes.insert(all.into_iter().map(scan).collect())
            }
        };
        let Some((node, scan)) = unfinished.last_mut() else {
            *nodes = None;
            return Ok(*passes_left > 0);
        };
        match node.scan(scan).await {
            Ok(names) => {
                *failing = None;
                found.extend(names.into_iter().filter(|name| seen.is_new(name)));
                if scan.is_done() {
                    unfinished.pop();
                }
            }
            Err(error) => {
                // Others may have taken over all that it had. One of them may be new: all are scanned again.
                if topology.refreshed().await.is_ok() && !topology.has_resources(node) {
                    unfinished.pop();
                    *passes_left = (*passes_left).max(1);
                    return Ok(true);
                }
                let Failing { until, retry } =
                    failing.get_or_insert_with(|| Failing { until: Instant::now() + patience, retry: RETRY });
                let pause = retry.next_pause();
                if !error.is_failover() || Instant::now() + pause > *until {
                    return Err(error);
                }
                sleep(pause).await;
            }
        }
        Ok(true)
    }
}

/// Reads locks, all at once. While a server may be replaced, waits for the next one for so long.
async fn read(topology: &Topology, names: &[Resources], patience: Duration) -> Result<Vec<Option<Info>>> {
    let until = Instant::now() + patience;
    let mut retry = RETRY;
    loop {
        // What another application wrote is no lock, and must not hide the others.
        let inspect = |name| {
            let inspected = topology.inspect(name);
            inspected
                .map(|info| info.or_else(|error| if error.is_of_key_type() { Ok(None) } else { Err(error) }))
        };
        let error = match try_join_all(names.iter().map(inspect)).await {
            Ok(infos) => return Ok(infos),
            Err(error) => error,
        };
        let pause = retry.next_pause();
        if !error.is_failover() || Instant::now() + pause > until {
            return Err(error);
        }
        sleep(pause).await;
    }
}
