//! One attempt to get a lease: sends the proposals of each round, and does what its answers decide.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, sleep_until};

use super::members::{Members, Standing};
use super::round::{Answer, Decision, Failure, Limits, Round};
use super::undo::{Asked, Undoing};
use super::{QuorumBackend, leases::HeldVotes};
use crate::backend::contract::{Attempt, Busy, Grant, Request};
use crate::backend::redis::voter::{Answered, NoVote, Proposal, ProposalReply};
use crate::backend::waiter::Waiter;
use crate::error::{Consequence, Error, Report, Result};
use crate::lease::{Acks, token};
use crate::runtime::backoff::random_below;
use crate::runtime::clock::BootInstant;

/// The shortest pause before a proposal is repeated for a split vote.
const SHORTEST_KEEP: Duration = Duration::from_micros(200);

/// The state of one attempt.
struct Attempting<'a> {
    backend: &'a QuorumBackend,
    request: &'a Request,
    standings: Vec<Standing>,
    round: Round,
    /// The tokens of earlier rounds: an answer is told by its token, so no two rounds have the same.
    proposed: Vec<u64>,
    home: Option<usize>,
    /// Answers that are still to come, of all rounds.
    pending: FuturesUnordered<BoxFuture<'static, (usize, u64, Answered<ProposalReply>)>>,
    /// What each node was asked.
    asked: Vec<Asked>,
    /// Why a node gave no vote.
    errors: Vec<Option<Error>>,
    /// Which of the resources a node said is held.
    held: Vec<usize>,
}

impl QuorumBackend {
    /// Makes one attempt. The waiter of the request has joined the queues.
    pub(super) async fn attempt(&self, request: &Request, standings: Vec<Standing>) -> Result<Attempt> {
        let members = &*self.members;
        let home = members.home(request.resources.first(), &standings);
        let known = request.min_token;
        let sent = self.clock.boot();
        let votes = standings.iter().map(Standing::votes);
        let Some(round) = Round::start(votes, home, known, self.next_token(known, request)?, sent) else {
            return Err(too_few_vote(members, &standings, sent));
        };
        let count = standings.len();
        let mut attempting = Attempting {
            backend: self,
            request,
            standings,
            round,
            proposed: Vec::new(),
            home,
            pending: FuturesUnordered::new(),
            asked: vec![Asked::default(); count],
            errors: vec![None; count],
            held: vec![0; count],
        };
        attempting.propose();
        attempting.run(sent).await
    }

    /// The token of the next proposal.
    fn next_token(&self, known: u64, request: &Request) -> Result<u64> {
        // Without any clock there is no node that votes.
        let now_us = self.members.now_us().unwrap_or(0);
        token::next(known, now_us, request.min_token).ok_or_else(|| {
            Error::unavailable(token::cannot_rise(
                format!("a node of the quorum has the token {known}, and its clock is at {now_us} µs"),
                "Set the clocks of the nodes, or lower minToken",
            ))
        })
    }
}

impl Attempting<'_> {
    async fn run(mut self, first_sent: BootInstant) -> Result<Attempt> {
        let ttl = self.request.ttl;
        let keep_until = first_sent + ttl.as_duration() / 4;
        loop {
            let out_of_patience = self.collect(keep_until).await;
            let deadline = ttl.deadline(self.round.sent());
            let limits = Limits { deadline, keep_until, out_of_patience };
            match self.round.decide(self.backend.clock.boot(), limits) {
                Decision::Wait => {}
                Decision::Granted => return Ok(self.granted(deadline)),
                Decision::Correct => self.again(Decision::Correct)?,
                Decision::Keep => {
                    let round_trip = self.home.and_then(|home| self.members().all()[home].round_trip());
                    sleep((round_trip.unwrap_or_default() / 2).max(SHORTEST_KEEP)).await;
                    self.again(Decision::Keep)?;
                }
                Decision::GiveUp(Failure::Busy(_)) if !out_of_patience && self.is_waker_awaited() => {}
                Decision::GiveUp(failure) => return self.give_up(failure).await,
            }
        }
    }

    const fn members(&self) -> &Arc<Members> {
        &self.backend.members
    }

    /// Whether this is a waiter, and a node may still tell what wakes it: its home, once it has queued it, or
    /// nodes of the lease.
    fn is_waker_awaited(&self) -> bool {
        let at_home = self.home.map(|home| self.round.answers()[home]);
        self.request.waiter.is_some() && (at_home == Some(Answer::Asked) || self.round.may_be_leased())
    }

    /// Sends the proposal of this round to all nodes that vote.
    fn propose(&mut self) {
        let request = self.request;
        let places = &self.backend.places;
        let waiting = request.waiter.as_ref().map(|waiter| places.place_of(waiter));
        let also_at = request.waiter.as_ref().map(|waiter| places.also_at(waiter)).unwrap_or_default();
        let (token, known) = (self.round.token(), self.round.known());
        for (node, standing) in self.standings.iter().enumerate() {
            let Standing::Votes(admitted) = standing else { continue };
            // A waiter is queued at its home, or everywhere if the order of all waiters matters.
            let is_one_of_few = self.home == Some(node) || also_at.contains(&node);
            let queued = waiting.as_ref().filter(|place| place.is_some() || is_one_of_few);
            let waiter = queued.and_then(|place| Some((request.waiter.clone()?, *place)));
            let voter = &self.backend.members.all()[node].voter;
            voter.keep_agreement();
            let pending = voter.propose(Proposal {
                connection: admitted.serial,
                resources: request.resources.clone(),
                owner: request.owner,
                ttl: request.lasts(),
                token,
                known,
                waiter,
            });
            self.asked[node].was_asked(admitted.serial);
            let (members, resources) = (Arc::clone(self.members()), request.resources.clone());
            self.pending.push(Box::pin(async move {
                let member = &members.all()[node];
                let answered = match pending.await {
                    Ok(reply) => member.voter.proposal_reply(&resources, reply),
                    Err(_) => Answered {
                        connection: None,
                        time: None,
                        vote: Err(NoVote { sent: true, error: Error::unavailable("it is closed") }),
                    },
                };
                (node, token, answered)
            }));
        }
    }

    fn again(&mut self, after: Decision) -> Result<()> {
        self.proposed.push(self.round.token());
        let token = match self.backend.next_token(self.round.known(), self.request) {
            // It may be the same one: a token that was told, or `minToken`, may be ahead of all clocks.
            Ok(token) => {
                let next = token..=token + self.proposed.len() as u64;
                next.into_iter().find(|token| !self.proposed.contains(token)).unwrap_or(token)
            }
            Err(error) => {
                self.undo();
                return Err(error);
            }
        };
        self.round.again(after, token, self.backend.clock.boot());
        self.propose();
        Ok(())
    }

    /// Waits for the next answer. Returns whether it is time to decide without more of them.
    async fn collect(&mut self, keep_until: BootInstant) -> bool {
        let members = Arc::clone(self.members());
        let now = self.backend.clock.boot();
        let limits = members.all().iter().map(|member| member.voter.command_timeout());
        let limit = limits.max().unwrap_or_default();
        let sent = self.round.sent();
        // A node that hangs keeps only this caller waiting, unless others want the same.
        let mut until = (sent + limit).min(keep_until.max(sent + Duration::from_millis(1)));
        if self.round.is_contended() {
            until = until.min(sent + members.patience());
        }
        let mut due = pin!(sleep_until(Instant::now() + now.until(until)));
        loop {
            tokio::select! {
                biased;
                next = self.pending.next() => match next {
                    None => return true,
                    Some((node, token, answered)) => {
                        if self.take(node, token, answered) {
                            return false;
                        }
                    }
                },
                () = &mut due => return true,
            }
        }
    }

    /// Takes an answer. Returns whether it is of this round.
    fn take(
        &mut self,
        node: usize,
        token: u64,
        Answered { time, vote, .. }: Answered<ProposalReply>,
    ) -> bool {
        self.members().all()[node].record(time);
        let answer = match vote {
            Ok(ProposalReply::Granted) => Answer::Granted,
            Ok(ProposalReply::Held { resource, left, token }) => {
                self.held[node] = resource;
                Answer::Held { left, token }
            }
            Ok(ProposalReply::Low(last)) => Answer::Low(last),
            Ok(ProposalReply::High(most)) => Answer::High(most),
            Err(NoVote { sent, error }) => {
                self.asked[node].got_no_answer(sent);
                self.errors[node] = Some(error);
                self.round.answer(node, token, Answer::Gone);
                return token == self.round.token();
            }
        };
        self.asked[node].answered(answer == Answer::Granted);
        self.round.answer(node, token, answer);
        token == self.round.token()
    }

    fn granted(&self, deadline: BootInstant) -> Attempt {
        let (token, sent) = (self.round.token(), self.round.sent());
        let received = self.round.answers().iter().filter(|&&answer| answer == Answer::Granted).count();
        let open = self.asked.iter().map(|asked| asked.open_call().into_iter().collect()).collect();
        let asked = self.asked.iter().map(Asked::is_asked).collect();
        let votes = HeldVotes { token, deadline, asked, open };
        self.backend.leases.granted(self.request.owner, votes, self.backend.clock.boot());
        let count = |nodes: usize| u32::try_from(nodes).unwrap_or(u32::MAX);
        let acks = Acks { required: count(self.round.need()), received: count(received) };
        Attempt::Granted(Grant { token, sent, acks: Some(acks) })
    }

    async fn give_up(mut self, failure: Failure) -> Result<Attempt> {
        match failure {
            Failure::Busy(left) => {
                self.undo();
                let patience = self.members().patience();
                let after = Duration::from_millis(2) + random_below(patience / 2);
                let left = left.map(|left| left + after);
                let held = |node: &usize| matches!(self.round.answers()[*node], Answer::Held { .. });
                let says = self.home.filter(held).or_else(|| (0..self.held.len()).find(held));
                let resource = says.map_or(0, |node| self.held[node]);
                let waiter = self.request.waiter.as_ref();
                let soon = waiter.and_then(|waiter| {
                    let also_at = self.unaware(waiter)?;
                    self.backend.places.wait_also_at(waiter, also_at);
                    Some(random_below(patience / 2))
                });
                let remaining = [left, soon].into_iter().flatten().min();
                Ok(Attempt::Busy(Busy { resource, remaining }))
            }
            Failure::Late => {
                self.undo();
                let ttl_ms = self.request.ttl.as_millis();
                Err(Error::lost(format!(
                    "a majority of the quorum granted the lease of {ttl_ms} ms too late, so it is being \
                     released. Use a longer ttlMs, or find what delays the nodes"
                )))
            }
            Failure::TooFew => {
                self.undo();
                Err(self.too_few().of_failover())
            }
            Failure::Undecided => {
                let error = self.too_few();
                let undoing = self.undo();
                if undoing.confirmed().await {
                    return Err(error.of_failover());
                }
                let Error::BackendUnavailable(report) = error else { return Err(error) };
                let report = Report { consequence: Consequence::InMessage, ..report };
                Err(Error::OutcomeUnknown(report.with_consequence(Consequence::MayBeGranted)))
            }
        }
    }

    /// Where this waiter must wait, besides its home, before it can rely on being woken. `None`: whichever
    /// owner has the lease, one of its nodes knows of the waiter. Its home alone is not enough: it may still
    /// have a contender that died, while the lease is on the others.
    fn unaware(&self, waiter: &Waiter) -> Option<Vec<usize>> {
        let also_at = self.backend.places.also_at(waiter);
        let is_home = |node: usize| self.home == Some(node);
        let is_queued = |node: usize| waiter.is_fair() || is_home(node) || also_at.contains(&node);
        let order = self.members().order(self.request.resources.first());
        let with = |is_wanted: &dyn Fn(u64) -> bool| -> Vec<usize> {
            let has = |answer| matches!(answer, Answer::Held { token, .. } if is_wanted(token));
            order.iter().copied().filter(|&node| has(self.round.answers()[node])).collect()
        };
        let possible = self.round.possible_tokens();
        let mut owners: Vec<_> = possible.iter().map(|&token| with(&|other| other == token)).collect();
        if owners.is_empty() {
            // None of these contenders has a majority, so each of them gives way soon.
            owners.push(with(&|_| true));
        }
        let is_known = |nodes: &Vec<usize>| nodes.iter().any(|&node| is_queued(node));
        if owners.iter().all(is_known) {
            return None;
        }
        let one_of = |nodes: &Vec<usize>| {
            nodes.iter().find(|&&node| is_queued(node)).or_else(|| nodes.first()).copied()
        };
        Some(owners.iter().filter_map(one_of).filter(|&node| !is_home(node)).collect())
    }

    /// Releases on all nodes that were asked.
    fn undo(&mut self) -> Undoing {
        let asked = std::mem::take(&mut self.asked);
        let pending = std::mem::take(&mut self.pending);
        self.backend.undo(self.request, asked, pending)
    }

    /// Why no majority granted it, node by node.
    fn too_few(&self) -> Error {
        let now = self.backend.clock.boot();
        let skews = self.members().skews();
        let granted = self.round.answers().iter().filter(|&&answer| answer == Answer::Granted).count();
        let clock = |node: usize| match skews[node] {
            Some(ahead) => format!("its clock is {} ms off the median of the nodes", ahead / 1_000),
            None => "its clock is not known".to_owned(),
        };
        let reasons = self.round.answers().iter().enumerate().filter_map(|(node, answer)| {
            let member = &self.members().all()[node];
            let why = match answer {
                Answer::Granted => return None,
                Answer::Held { .. } => "another owner has it".to_owned(),
                Answer::Low(_) | Answer::High(_) => format!("it refused the token: {}", clock(node)),
                Answer::Gone => match &self.errors[node] {
                    Some(error) => member.reason(error),
                    None => "it did not answer".to_owned(),
                },
                Answer::NotSent | Answer::Asked => member.absence(&self.standings[node], now),
            };
            Some(format!("{}: {why}", member.address))
        });
        too_few_nodes(granted, self.round.need(), reasons)
    }
}

/// Too few nodes may be asked, so nothing was sent.
pub(super) fn too_few_vote(members: &Members, standings: &[Standing], now: BootInstant) -> Error {
    let voting = standings.iter().filter(|standing| standing.votes()).count();
    let reasons = members.all().iter().zip(standings).filter(|(_, standing)| !standing.votes());
    let reasons =
        reasons.map(|(member, standing)| format!("{}: {}", member.address, member.absence(standing, now)));
    too_few_nodes(voting, members.need(), reasons).of_failover()
}

fn too_few_nodes(voting: usize, need: usize, reasons: impl Iterator<Item = String>) -> Error {
    let reasons: Vec<_> = reasons.collect();
    Error::BackendUnavailable(
        Report::new(format!(
            "{voting} {} of the quorum agreed, and {need} must: {}",
            if voting == 1 { "node" } else { "nodes" },
            reasons.join("; ")
        ))
        .with_consequence(Consequence::NotGranted),
    )
}
