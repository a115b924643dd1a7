//! Extends and releases leases, and gives them back to nodes that have forgotten them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::QuorumBackend;
use super::leases::HeldVotes;
use super::members::Members;
use crate::backend::redis::voter::{Late, NoVote, Pending, Renewal, RenewalReply};
use crate::error::{Consequence, Error, Report, Result};
use crate::lease::{Owner, Resources, Ttl};
use crate::runtime::clock::BootInstant;

/// What the nodes have said to a renewal so far.
#[derive(Debug, Default)]
struct Count {
    extended: usize,
    /// The nodes where it is free, and the connections by which they said so.
    free: Vec<(usize, u64)>,
    taken: usize,
    /// How many may have extended it, or still may, although they did not say so.
    unknown: usize,
    reasons: Vec<String>,
}

impl QuorumBackend {
    /// Extends a lease: a majority must do so before its old deadline.
    pub(super) async fn extend_votes(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
    ) -> Result<BootInstant> {
        let sent = self.clock.boot();
        let Some(votes) = self.leases.get(owner) else { return Err(lost(resources)) };
        let renewal = |heal| Renewal { resources: resources.clone(), owner, ttl, token: votes.token, heal };
        let (need, nodes) = (self.members.need(), self.members.all().len());
        let mut count = Count::default();
        let mut pending = FuturesUnordered::new();
        let now = self.clock.boot();
        for (node, member) in self.members.all().iter().enumerate() {
            member.voter.keep_agreement();
            // Connects to a node that is away.
            let reply = member.voter.renew(renewal(None));
            pending.push(reply.map(move |reply| (node, reply)));
        }
        let limit = self.members.all().iter().map(|member| member.voter.command_timeout()).max();
        let due = Instant::now() + limit.unwrap_or_default().min(now.until(votes.deadline));
        while count.extended < need && count.free.len() + count.taken <= nodes - need {
            let Ok(Some((node, reply))) = timeout_at(due, pending.next()).await else { break };
            self.members.count(&mut count, node, reply);
        }
        if count.free.len() + count.taken > nodes - need {
            let held = self.leases.remove(owner).map(Arc::new);
            for node in 0..nodes {
                // Behind what was sent before, in the background.
                drop(self.release_at(node, resources, (owner, ttl, None), held.clone()));
            }
            return Err(lost(resources));
        }
        if count.extended < need {
            return Err(not_extended(&count, need, pending.len()));
        }
        // After the end of the lease the caller releases it.
        if self.clock.boot() < votes.deadline {
            self.leases.extended(owner, ttl.deadline(sent));
            self.heal(count, pending, renewal(None));
        }
        Ok(sent)
    }

    /// Gives the lease to the nodes where it is free: they were restarted, or missed the grant. Never counted
    /// as a vote: otherwise the next renewal would undo a release by force.
    fn heal(
        &self,
        mut count: Count,
        mut pending: FuturesUnordered<impl Future<Output = (usize, Reply)> + Send + 'static>,
        renewal: Renewal,
    ) {
        if count.free.is_empty() && pending.is_empty() {
            return;
        }
        let (members, leases, clock) =
            (Arc::clone(&self.members), Arc::clone(&self.leases), self.clock.clone());
        tokio::spawn(async move {
            let mut healing = FuturesUnordered::new();
            loop {
                for (node, connection) in std::mem::take(&mut count.free) {
                    // A lease that is being released must not be created again.
                    if leases.heal(renewal.owner, node, connection, clock.boot()) {
                        let reply = members.all()[node]
                            .voter
                            .renew(Renewal { heal: Some(connection), ..renewal.clone() });
                        healing.push(reply.map(move |reply| (node, connection, reply)));
                    }
                }
                tokio::select! {
                    Some((node, reply)) = pending.next() => members.count(&mut count, node, reply),
                    Some((node, connection, reply)) = healing.next() => {
                        let voter = &members.all()[node].voter;
                        let vote = reply.map(|reply| voter.renewal_reply(reply).vote);
                        let is_open = !matches!(vote, Ok(Ok(_) | Err(NoVote { sent: false, .. })));
                        leases.healed(renewal.owner, node, connection, !is_open);
                    }
                    else => return,
                }
            }
        });
    }

    /// Ends a lease on all nodes; returns whether a majority had it.
    pub(super) async fn release_votes(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        stands_until: Option<BootInstant>,
    ) -> Result<bool> {
        let held = self.leases.remove(owner).map(Arc::new);
        let (need, nodes) = (self.members.need(), self.members.all().len());
        let names = resources.as_slice().len() as u64;
        let (mut deleted, mut missing, mut reasons, mut silent) = (0, 0, Vec::new(), Vec::new());
        let mut pending = FuturesUnordered::new();
        for node in 0..nodes {
            match self.release_at(node, resources, (owner, ttl, stands_until), held.clone()) {
                Some(release) => {
                    pending.push(release);
                    silent.push(node);
                }
                None => missing += 1,
            }
        }
        let limit = self.members.all().iter().map(|member| member.voter.command_timeout()).max();
        let due = Instant::now() + limit.unwrap_or_default();
        while deleted < need && missing <= nodes - need {
            let Ok(Some(Ok((node, vote)))) = timeout_at(due, pending.next()).await else { break };
            silent.retain(|&other| other != node);
            match vote {
                Ok(count) if count == names => deleted += 1,
                Ok(_) => missing += 1,
                Err(error) => {
                    let member = &self.members.all()[node];
                    reasons.push(format!("{}: {}", member.address, member.reason(&error)));
                }
            }
        }
        if deleted >= need || missing > nodes - need {
            return Ok(deleted >= need);
        }
        reasons.extend(self.members.silence(&silent));
        Err(Error::BackendUnavailable(
            Report::new(format!(
                "{} of the {need} nodes of the quorum that must answer a release did: {}",
                deleted + missing,
                reasons.join("; ")
            ))
            .with_consequence(Consequence::NotReleased),
        ))
    }

    /// Ends a lease at one node. A task, so that it goes on when a majority has answered before. `None`: the
    /// node was not asked for the lease, and is away.
    fn release_at(
        &self,
        node: usize,
        resources: &Resources,
        (owner, ttl, stands_until): (Owner, Ttl, Option<BootInstant>),
        held: Option<Arc<HeldVotes>>,
    ) -> Option<JoinHandle<(usize, Result<u64>)>> {
        let voter = &self.members.all()[node].voter;
        let held = held.filter(|held| held.asked[node]);
        if held.is_none() && voter.admitted().is_none() {
            return None;
        }
        let (members, resources) = (Arc::clone(&self.members), resources.clone());
        let reply = voter.release(&resources, owner, stands_until);
        let busy = self.undoing.begin();
        Some(tokio::spawn(async move {
            let _busy = busy;
            let voter = &members.all()[node].voter;
            let (connection, vote) = match reply.await.map(|reply| voter.release_reply(reply)) {
                Ok(answered) => (answered.connection, answered.vote.map_err(|no_vote| no_vote.error)),
                Err(_) => (None, Err(Error::Closed)),
            };
            if let Some(held) = held {
                let deleted = vote.as_ref().is_ok_and(|&count| count > 0);
                let may_be_late = held.may_be_late(node, connection.filter(|_| vote.is_ok()), deleted);
                if may_be_late || vote.is_err() {
                    let late = if may_be_late { Late::Possible } else { Late::Impossible };
                    voter.release_later(&resources, owner, ttl, stands_until, late);
                }
            }
            (node, vote)
        }))
    }
}

type Reply = <Pending as Future>::Output;

impl Members {
    fn count(&self, count: &mut Count, node: usize, reply: Reply) {
        let member = &self.all()[node];
        let Ok(reply) = reply else { return };
        let answered = member.voter.renewal_reply(reply);
        member.record(answered.time);
        match answered.vote {
            Ok(RenewalReply::Extended) => count.extended += 1,
            Ok(RenewalReply::Free) => {
                count.free.extend(answered.connection.map(|connection| (node, connection)));
            }
            Ok(RenewalReply::Taken) => count.taken += 1,
            Err(no_vote) => {
                count.unknown += usize::from(no_vote.sent);
                count.reasons.push(format!("{}: {}", member.address, member.reason(&no_vote.error)));
            }
        }
    }
}

fn lost(resources: &Resources) -> Error {
    Error::lost(format!(
        "the lease of {:?} ended or was taken by another owner on a majority of the quorum; stop the work it \
         protects",
        resources.first()
    ))
}

fn not_extended(count: &Count, need: usize, unanswered: usize) -> Error {
    let message = format!(
        "{} of the {need} nodes of the quorum that must extend the lease did{}: {}",
        count.extended,
        if unanswered > 0 { format!(", and {unanswered} did not answer in time") } else { String::new() },
        count.reasons.join("; ")
    );
    let report = Report::new(message.trim_end_matches([':', ' ']));
    if count.extended + count.unknown + unanswered > 0 {
        return Error::OutcomeUnknown(report.with_consequence(Consequence::MayBeExtended));
    }
    Error::BackendUnavailable(report.with_consequence(Consequence::NotExtended))
}

/// The time that a majority may take to answer a question.
pub(super) fn question_limit(members: &Members) -> Duration {
    members.all().iter().map(|member| member.voter.command_timeout()).max().unwrap_or_default()
}
