//! The nodes of a quorum: which of them vote now, what time it is on them, and how fast they answer.

mod clock;
mod home;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use self::clock::{NodeClock, median, median_now};
use super::round::majority;
use crate::backend::redis::voter::{Admitted, TimeSample, Voter};
use crate::error::{Error, Result};
use crate::runtime::clock::{BootInstant, Clock};
use crate::runtime::sync::Mutex;

/// How long the first call waits for the other nodes when a majority is connected.
const FIRST_CONTACT: Duration = Duration::from_millis(100);
/// The shortest time for which contenders wait for a node: less would be noise.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(5);

/// All nodes of a quorum, in the order in which they were given.
pub(crate) struct Members {
    all: Vec<Member>,
    clock: Clock,
    /// Whether all nodes have been tried once.
    contacted: Mutex<bool>,
}

/// One node.
pub(crate) struct Member {
    pub voter: Voter,
    pub address: String,
    clock: Mutex<NodeClock>,
    /// The connection by which the clock was measured.
    seen: Mutex<u64>,
}

/// Whether a node may be asked.
pub(crate) enum Standing {
    Votes(Arc<Admitted>),
    /// It may have forgotten what it accepted.
    Quarantined(Arc<Admitted>),
    Away,
}

impl Members {
    pub fn new(voters: Vec<Voter>, clock: Clock) -> Self {
        let member = |voter: Voter| {
            let address = voter.address();
            Member { voter, address, clock: Mutex::default(), seen: Mutex::new(0) }
        };
        Self { all: voters.into_iter().map(member).collect(), clock, contacted: Mutex::new(false) }
    }

    /// All of them.
    pub fn all(&self) -> &[Member] {
        &self.all
    }

    /// How many must grant a lease.
    pub fn need(&self) -> usize {
        majority(self.all.len())
    }

    /// Whether each node may be asked now. Connects those that are away, in the background.
    fn standings(&self) -> Vec<Standing> {
        let now = self.clock.boot();
        let standing = |member: &Member| match member.voter.admitted() {
            None => {
                member.voter.admit_soon();
                Standing::Away
            }
            Some(admitted) => {
                member.meet(&admitted);
                if admitted.votes_from <= now {
                    Standing::Votes(admitted)
                } else {
                    Standing::Quarantined(admitted)
                }
            }
        };
        self.all.iter().map(standing).collect()
    }

    /// As [`Self::standings`], once a majority may be asked, or it is clear that it may not.
    pub async fn assembled(&self) -> Result<Vec<Standing>> {
        let standings = self.standings();
        let contacted = *self.contacted.lock();
        if contacted && count_voting(&standings) >= self.need() {
            return self.check(standings);
        }
        self.connect_majority(!contacted).await;
        *self.contacted.lock() = true;
        self.check(self.standings())
    }

    /// Connects until a majority votes, or all have been tried. `all`: also waits a moment for the rest.
    async fn connect_majority(&self, all: bool) {
        let mut attempts: FuturesUnordered<_> = self.all.iter().map(|member| member.voter.admit()).collect();
        let longest = self.all.iter().map(|member| member.voter.connect_timeout()).max();
        let mut due = Instant::now() + longest.unwrap_or_default();
        let mut voting = 0;
        while let Ok(Some(admitted)) = timeout_at(due, attempts.next()).await {
            let now = self.clock.boot();
            voting += usize::from(admitted.is_ok_and(|admitted| admitted.votes_from <= now));
            if voting == self.need() {
                if !all {
                    return;
                }
                due = due.min(Instant::now() + FIRST_CONTACT);
            }
        }
    }

    /// Refuses nodes that are not independent, or that never can vote.
    fn check(&self, standings: Vec<Standing>) -> Result<Vec<Standing>> {
        let run_ids: Vec<_> = standings.iter().map(Standing::run_id).collect();
        for (at, run_id) in run_ids.iter().enumerate() {
            let Some(run_id) = run_id else { continue };
            if let Some(other) = run_ids[..at].iter().position(|other| *other == Some(run_id)) {
                return Err(Error::invalid(format!(
                    "quorum.nodes has one server twice: {} and {} are the same, so its vote would count twice",
                    self.all[other].address, self.all[at].address
                )));
            }
        }
        for (member, standing) in self.all.iter().zip(&standings) {
            let unusable = |error: &Error| matches!(error, Error::Unsupported(_) | Error::InvalidOption(_));
            // One that became unusable later is away like others that fail.
            if let (Standing::Away, true, Some(error)) =
                (standing, *member.seen.lock() == 0, member.voter.last_error())
                && unusable(&error)
            {
                return Err(error);
            }
        }
        Ok(standings)
    }

    /// Now, by the median of the nodes' clocks.
    pub fn now_us(&self) -> Option<u64> {
        let offsets = self.all.iter().filter_map(|member| member.clock.lock().offset());
        median_now(offsets, self.clock.boot())
    }

    /// How far the clock of each node is ahead of the median, in microseconds, if it is known.
    pub fn skews(&self) -> Vec<Option<i64>> {
        let offsets: Vec<_> = self.all.iter().map(|member| member.clock.lock().offset()).collect();
        let median = median(offsets.iter().copied().flatten()).unwrap_or(0);
        offsets.iter().map(|offset| offset.map(|offset| offset.saturating_sub(median))).collect()
    }

    /// How long contenders wait for the nodes that have not answered: twice as long as the slowest of the
    /// fastest majority usually takes at most.
    pub fn patience(&self) -> Duration {
        let mut limits: Vec<_> =
            self.all.iter().filter_map(|member| member.clock.lock().usual_limit()).collect();
        limits.sort_unstable();
        let decides = limits.get(self.need() - 1).or(limits.last());
        decides.map_or(SHORTEST_PATIENCE, |&limit| (2 * limit).max(SHORTEST_PATIENCE))
    }

    /// The home of a resource: the first node in its order that votes, because only those are asked, and so
    /// queue waiters and settle split votes; without any, the first that is connected. Whether a node votes
    /// depends on its start, so clients agree about it but for a moment.
    pub fn home(&self, resource: &str, standings: &[Standing]) -> Option<usize> {
        let order = self.order(resource);
        let first = |may_be: fn(&Standing) -> bool| order.iter().copied().find(|&at| may_be(&standings[at]));
        first(Standing::votes).or_else(|| first(Standing::is_connected))
    }

    /// The nodes in the order in which they are home to a resource.
    pub fn order(&self, resource: &str) -> Vec<usize> {
        home::order(resource, self.all.iter().map(|member| &*member.address))
    }

    /// Why there are no answers of these nodes.
    pub fn silence(&self, nodes: &[usize]) -> impl Iterator<Item = String> {
        nodes.iter().map(|&node| format!("{}: it did not answer in time", self.all[node].address))
    }

    /// Accepts nothing more.
    pub fn stop_accepting(&self) {
        self.all.iter().for_each(|member| member.voter.stop_accepting());
    }
}

impl Member {
    /// A node answered.
    pub fn record(&self, time: Option<TimeSample>) {
        if let Some(TimeSample { sent, received, node_us }) = time {
            self.clock.lock().record(sent, received, node_us);
        }
    }

    /// How long an answer takes.
    pub fn round_trip(&self) -> Option<Duration> {
        self.clock.lock().round_trip()
    }

    /// The clock of another connection may be another clock.
    fn meet(&self, admitted: &Admitted) {
        let mut seen = self.seen.lock();
        if std::mem::replace(&mut *seen, admitted.serial) != admitted.serial {
            self.clock.lock().reset();
            self.record(admitted.time);
        }
    }

    /// An error of this node, in a list that names each node before it: with its end, which is the remedy.
    /// What it means for the lease, the other nodes decide, too.
    pub fn reason(&self, error: &Error) -> String {
        let message = error.what();
        let message = message.strip_prefix(&format!("redis at {}: ", self.address)).unwrap_or(&message);
        message.trim_end_matches('.').to_owned()
    }

    /// Why this node was not asked, or did not answer.
    pub fn absence(&self, standing: &Standing, now: BootInstant) -> String {
        match standing {
            Standing::Votes(_) => "it did not answer in time".to_owned(),
            Standing::Quarantined(admitted) => format!(
                "it does not vote for another {} ms, because {}, and may have forgotten what it granted",
                now.until(admitted.votes_from).as_millis(),
                admitted.why.unwrap_or("it may have been restarted")
            ),
            Standing::Away => self
                .voter
                .last_error()
                .map_or_else(|| "it is not connected yet".to_owned(), |error| self.reason(&error)),
        }
    }
}

impl Standing {
    pub const fn votes(&self) -> bool {
        matches!(self, Self::Votes(_))
    }

    /// Whether it can be sent anything.
    pub const fn is_connected(&self) -> bool {
        !matches!(self, Self::Away)
    }

    fn run_id(&self) -> Option<&str> {
        match self {
            Self::Votes(admitted) | Self::Quarantined(admitted) => admitted.run_id.as_deref(),
            Self::Away => None,
        }
    }
}

fn count_voting(standings: &[Standing]) -> usize {
    standings.iter().filter(|standing| standing.votes()).count()
}
