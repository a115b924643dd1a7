//! Quorum locks: leases on a majority of independent Redis nodes, with one token for each.
//!
//! From the contract down; each part knows only those below it:
//!
//! ```text
//! mod       the contract (backend::contract)
//! attempt   one attempt: sends the proposals of a round, and does what its answers decide
//! renewal   extends, heals and releases leases
//! waiting   where waiters are queued
//! undo      releases what an attempt may have written
//! queries   who holds a resource; releases by force
//! listing   all locks, and who holds them
//! scans     finds the locks on each node
//! describe  what the quorum guarantees
//! config    the options, checked
//! members   the nodes: which of them vote now, what time it is on them, where contenders meet
//! leases    what this manager holds
//! places    who waits at which nodes
//! round     what the answers to a proposal decide
//! ```
//!
//! What one node does is in [`redis::voter`](super::redis::voter).

mod attempt;
mod config;
mod describe;
mod leases;
mod listing;
mod members;
mod places;
mod queries;
mod renewal;
pub mod round;
mod scans;
#[cfg(test)]
#[cfg(unix)] // for the signals that pause servers
mod tests;
mod undo;
mod waiting;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;

pub use self::config::{Config, DEFAULT_MAX_TTL_MS, Options};
use self::leases::Leases;
use self::members::Members;
use self::places::Places;
use self::scans::QuorumListing;
use self::undo::UndoCount;
use super::connections::Connections;
use super::contract::{Attempt, Grant, Info, LockBackend, Locks, Request};
use super::guarantees::Guarantee;
use super::waiter::Waiter;
use crate::error::{Error, Result};
use crate::lease::{AckPolicy, Holder, HolderId, Owner, Resources, Ttl};
use crate::runtime::clock::{BootInstant, Clock};
use crate::runtime::executor::Executor;

/// A majority of independent Redis nodes.
pub struct QuorumBackend {
    members: Arc<Members>,
    leases: Arc<Leases>,
    places: Places,
    undoing: UndoCount,
    max_ttl: Ttl,
    forgets: bool,
    clock: Clock,
    closed: AtomicBool,
    connections: Vec<Arc<Connections>>,
}

impl fmt::Debug for QuorumBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.members.all().iter().map(|member| &member.address);
        f.debug_list().entries(addresses).finish()
    }
}

impl QuorumBackend {
    /// No I/O.
    pub fn new(config: Config, clock: Clock) -> Self {
        let Config { members, max_ttl, forgets } = config;
        let connections = members.all().iter().map(|member| member.voter.connections()).collect();
        Self {
            members,
            leases: Arc::default(),
            places: Places::default(),
            undoing: UndoCount::default(),
            max_ttl,
            forgets,
            clock,
            closed: AtomicBool::new(false),
            connections,
        }
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    fn check_ttl(&self, ttl: Ttl) -> Result<()> {
        if ttl <= self.max_ttl {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "ttlMs of a quorum lock must be at most quorum.maxTtlMs ({}), got {}: a node that was restarted \
             does not vote for that long. Raise it for all clients, or renew the lock",
            self.max_ttl.as_millis(),
            ttl.as_millis()
        )))
    }

    fn check_minimum(&self, min_hold: Duration) -> Result<()> {
        if min_hold <= self.max_ttl.as_duration() {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "minHoldMs of a quorum lock must be at most quorum.maxTtlMs ({}), got {}: a node that was restarted \
             does not vote for that long, and then has forgotten the lease. Raise it for all clients",
            self.max_ttl.as_millis(),
            min_hold.as_millis()
        )))
    }
}

impl LockBackend for QuorumBackend {
    type Listing = QuorumListing;
    fn connections(&self) -> &[Arc<Connections>] {
        &self.connections
    }

    fn executor(&self) -> Result<Executor> {
        Executor::io().cloned()
    }

    async fn connect(&self) -> Result<()> {
        self.check_open()?;
        let connected = join_all(self.members.all().iter().map(|member| member.voter.admit())).await;
        let standings = self.members.assembled().await?;
        let away = connected.into_iter().filter_map(Result::err);
        let up = standings.iter().filter(|standing| standing.is_connected()).count();
        match away.last() {
            Some(error) if up < self.members.need() => Err(error),
            _ => Ok(()),
        }
    }

    async fn acquire(&self, request: &Request) -> Result<Attempt> {
        self.check_open()?;
        self.check_ttl(request.ttl)?;
        self.check_minimum(request.min_hold)?;
        // Apart from the rest: the futures of common calls are moved around, so they are kept small.
        Box::pin(async {
            let standings = self.members.assembled().await?;
            if let Some(waiter) = &request.waiter {
                self.wait_at(&request.resources, waiter, &standings).await?;
            }
            self.attempt(request, standings).await
        })
        .await
    }

    async fn join_queue(&self, resources: &Resources, waiter: &Waiter) -> Result<()> {
        self.check_open()?;
        Box::pin(self.start_waiting(resources, waiter)).await
    }

    async fn leave_queue(&self, resources: &Resources, waiter: &Waiter) {
        Box::pin(self.stop_waiting(resources, waiter)).await;
    }

    async fn extend(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        _acks: AckPolicy,
    ) -> Result<BootInstant> {
        self.check_open()?;
        self.check_ttl(ttl)?;
        Box::pin(self.extend_votes(resources, owner, ttl)).await
    }

    async fn release(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        stands_until: Option<BootInstant>,
    ) -> Result<bool> {
        Box::pin(self.release_votes(resources, owner, ttl, stands_until)).await
    }

    async fn hand_over(&self, _resources: &Resources, _owner: Owner) -> Result<()> {
        Err(cannot_hand_over())
    }

    async fn adopt(&self, _request: &Request, _from: Owner) -> Result<Grant> {
        Err(cannot_hand_over())
    }

    async fn inspect(&self, resource: &str) -> Result<Option<Info>> {
        let resources = Resources::one(resource)?;
        self.check_open()?;
        Box::pin(self.find_owner(&resources)).await
    }

    fn list(&self, prefix: &str) -> QuorumListing {
        QuorumListing::new(&self.members, prefix)
    }

    async fn next_page(&self, listing: &mut QuorumListing) -> Result<Option<Locks>> {
        Box::pin(self.next_locks(listing)).await
    }

    async fn announce(&self, id: HolderId, holder: &Holder, lasts: Duration) -> Result<()> {
        self.check_open()?;
        Box::pin(self.write_holder(&id.to_string(), holder, lasts)).await
    }

    async fn look_up_holder(&self, id: HolderId) -> Option<Holder> {
        self.check_open().ok()?;
        Box::pin(self.read_holder(&id.to_string())).await
    }

    async fn force_release(&self, resource: &str) -> Result<bool> {
        let resources = Resources::one(resource)?;
        self.check_open()?;
        Box::pin(self.release_by_force(&resources)).await
    }

    async fn describe(&self, _acks: AckPolicy, _ttl: Ttl) -> Result<Guarantee> {
        self.check_open()?;
        Box::pin(self.assess()).await
    }

    fn pending_cleanups(&self) -> usize {
        let later: usize = self.members.all().iter().map(|member| member.voter.pending_rollbacks()).sum();
        self.undoing.count() + later
    }

    fn abandon_connects(&self) {
        self.members.all().iter().for_each(|member| member.voter.abandon_connects());
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.undoing.ended(self.members.patience()).await;
        join_all(self.members.all().iter().map(|member| member.voter.close())).await;
    }
}

impl Drop for QuorumBackend {
    fn drop(&mut self) {
        self.members.stop_accepting();
    }
}

/// No model covers it yet.
fn cannot_hand_over() -> Error {
    Error::unsupported(
        "quorum locks cannot be handed over. Use strong or local locks, or release the lock and acquire it anew",
    )
}
