//! Extends and releases leases, and gives them back to nodes that have forgotten them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::QuorumBackend;
use super::members::{Members, reason};
use crate::backend::redis::voter::{Late, Pending, Renewal, RenewalReply};
use crate::error::{Consequence, Error, Report, Result};
use crate::lease::{Owner, Resources, Ttl};
use crate::runtime::clock::BootInstant;

/// What the nodes have said to a renewal so far.
#[derive(Debug, Default)]
struct Count {
    extended: usize,
    /// The nodes where it is free.
    free: Vec<usize>,
    taken: usize,
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
        for (node, standing) in self.members.standings().iter().enumerate() {
            let member = &self.members.all()[node];
            if standing.is_connected() {
                member.voter.keep_agreement();
                let reply = member.voter.renew(renewal(false));
                pending.push(reply.map(move |reply| (node, reply)));
            } else {
                count.reasons.push(format!("{}: {}", member.address, member.absence(standing, now)));
            }
        }
        let limit = self.members.all().iter().map(|member| member.voter.command_timeout()).max();
        let due = Instant::now() + limit.unwrap_or_default().min(now.until(votes.deadline));
        while count.extended < need && count.free.len() + count.taken <= nodes - need {
            let Ok(Some((node, reply))) = timeout_at(due, pending.next()).await else { break };
            self.members.count(&mut count, node, reply);
        }
        if count.free.len() + count.taken > nodes - need {
            self.leases.remove(owner);
            self.release_everywhere(resources, owner, ttl);
            return Err(lost(resources));
        }
        if count.extended < need {
            return Err(not_extended(&count, need, pending.len()));
        }
        // After the end of the lease the caller releases it.
        if self.clock.boot() < votes.deadline {
            self.leases.extended(owner, ttl.deadline(sent));
            self.heal(count, pending, renewal(true));
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
            loop {
                for node in std::mem::take(&mut count.free) {
                    // A lease that is being released must not be created again. The release is behind this on
                    // the same connection.
                    if leases.heal(renewal.owner, node, clock.boot()) {
                        drop(members.all()[node].voter.renew(renewal.clone()));
                    }
                }
                let Some((node, reply)) = pending.next().await else { return };
                members.count(&mut count, node, reply);
            }
        });
    }

    /// Ends a lease on all nodes; returns whether a majority had it.
    pub(super) async fn release_votes(&self, resources: &Resources, owner: Owner, ttl: Ttl) -> Result<bool> {
        let held = self.leases.remove(owner);
        let (need, nodes) = (self.members.need(), self.members.all().len());
        let names = resources.as_slice().len() as u64;
        let (mut deleted, mut missing, mut reasons) = (0, 0, Vec::new());
        let mut pending = FuturesUnordered::new();
        for (node, member) in self.members.all().iter().enumerate() {
            let may_be_late = held.as_ref().is_some_and(|held| held.unanswered.contains(&node));
            let is_asked = held.as_ref().is_some_and(|held| held.asked[node]);
            if !is_asked && member.voter.admitted().is_none() {
                missing += 1;
                continue;
            }
            let (members, resources) = (Arc::clone(&self.members), resources.clone());
            let reply = member.voter.release(&resources, owner);
            let busy = self.undoing.begin();
            // A task, so that the undo goes on if a majority has answered before.
            pending.push(tokio::spawn(async move {
                let _busy = busy;
                let voter = &members.all()[node].voter;
                let vote = match reply.await {
                    Ok(reply) => voter.release_reply(reply).vote.map_err(|no_vote| no_vote.error),
                    Err(_) => Err(Error::Closed),
                };
                let is_over = vote.as_ref().is_ok_and(|&deleted| deleted > 0 || !may_be_late);
                if !is_over && is_asked {
                    let late = if may_be_late { Late::Possible } else { Late::Impossible };
                    voter.release_later(&resources, owner, ttl, late);
                }
                (node, vote)
            }));
        }
        let limit = self.members.all().iter().map(|member| member.voter.command_timeout()).max();
        let due = Instant::now() + limit.unwrap_or_default();
        while deleted < need && missing <= nodes - need {
            let Ok(Some(Ok((node, vote)))) = timeout_at(due, pending.next()).await else { break };
            match vote {
                Ok(count) if count == names => deleted += 1,
                Ok(_) => missing += 1,
                Err(error) => {
                    reasons.push(format!("{}: {}", self.members.all()[node].address, reason(&error)));
                }
            }
        }
        if deleted >= need || missing > nodes - need {
            return Ok(deleted >= need);
        }
        Err(Error::BackendUnavailable(
            Report::new(format!(
                "{} of the {need} nodes of the quorum that must answer a release did: {}",
                deleted + missing,
                reasons.join("; ")
            ))
            .with_consequence(Consequence::NotReleased),
        ))
    }

    /// Ends what is left of a lease that was lost, in the background.
    fn release_everywhere(&self, resources: &Resources, owner: Owner, ttl: Ttl) {
        for member in self.members.all() {
            // Behind what was sent before, if it is connected.
            drop(member.voter.release(resources, owner));
            member.voter.release_later(resources, owner, ttl, Late::Impossible);
        }
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
            Ok(RenewalReply::Free) => count.free.push(node),
            Ok(RenewalReply::Taken) => count.taken += 1,
            Err(no_vote) => count.reasons.push(format!("{}: {}", member.address, reason(&no_vote.error))),
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
    if count.extended > 0 || unanswered > 0 {
        return Error::OutcomeUnknown(report.with_consequence(Consequence::MayBeExtended));
    }
    Error::BackendUnavailable(report.with_consequence(Consequence::NotExtended))
}

/// The time that a majority may take to answer a question.
pub(super) fn question_limit(members: &Members) -> Duration {
    members.all().iter().map(|member| member.voter.command_timeout()).max().unwrap_or_default()
}
