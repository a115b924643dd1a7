//! Undoes what an attempt may have written: on every node that was asked, those that did not answer included.

mod count;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::time::timeout;

pub(super) use self::count::UndoCount;
use super::QuorumBackend;
use super::leases::OpenCall;
use crate::backend::contract::Request;
use crate::backend::redis::voter::{Answered, Late, ProposalReply};

/// What one node was asked in the course of an attempt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// The connection on which it was asked; `None`: it was not.
    connection: Option<u64>,
    /// Proposals that are not answered.
    open: usize,
    /// Whether a proposal may still be executed although its connection broke.
    lost: bool,
    /// Whether it accepted a proposal.
    granted: bool,
}

impl Asked {
    pub const fn was_asked(&mut self, connection: u64) {
        self.connection = Some(connection);
        self.open += 1;
    }

    pub fn answered(&mut self, granted: bool) {
        self.open = self.open.saturating_sub(1);
        self.granted |= granted;
    }

    pub fn got_no_answer(&mut self, sent: bool) {
        self.answered(false);
        self.lost |= sent;
    }

    /// Whether it was asked, and how it answered does not rule out that it has the lock.
    const fn may_have_it(&self) -> bool {
        self.granted || self.open > 0 || self.lost
    }

    /// Whether it was asked.
    pub const fn is_asked(&self) -> bool {
        self.connection.is_some()
    }

    /// What it was asked and has not answered.
    pub fn open_call(&self) -> Option<OpenCall> {
        let connection = self.connection.filter(|_| !self.lost);
        self.may_be_late().then_some(OpenCall { connection, heals: false })
    }

    /// Whether what it was asked may be executed after a release.
    const fn may_be_late(&self) -> bool {
        self.lost || self.open > 0
    }
}

/// An undo under way.
pub(crate) struct Undoing {
    /// Whether all nodes have confirmed it.
    all: oneshot::Receiver<bool>,
    limit: Duration,
}

impl Undoing {
    /// Whether all nodes have confirmed it in time.
    pub async fn confirmed(self) -> bool {
        matches!(timeout(self.limit, self.all).await, Ok(Ok(true)))
    }
}

type Pending = FuturesUnordered<BoxFuture<'static, (usize, u64, Answered<ProposalReply>)>>;

impl QuorumBackend {
    /// Releases on all nodes that may have it; goes on in the background.
    pub(super) fn undo(&self, request: &Request, mut asked: Vec<Asked>, mut pending: Pending) -> Undoing {
        let members = Arc::clone(&self.members);
        let (resources, owner, ttl) = (request.resources.clone(), request.owner, request.lasts());
        // Sent now, so that a proposal of the same client that follows finds the nodes free.
        let releases: Vec<_> = asked
            .iter()
            .enumerate()
            .filter(|(_, asked)| asked.may_have_it())
            .map(|(node, _)| (node, members.all()[node].voter.release(&resources, owner, None)))
            .collect();
        let limit = members.patience().max(Duration::from_millis(50));
        let (done, confirmed) = oneshot::channel();
        let busy = self.undoing.begin();
        tokio::spawn(async move {
            let _busy = busy;
            let answers = releases.into_iter().map(|(node, release)| async move { (node, release.await) });
            let mut all = true;
            for (node, reply) in join_all(answers).await {
                // Its proposals were before it, so their answers are here, if they came.
                while let Some(Some((node, _, Answered { vote, .. }))) = pending.next().now_or_never() {
                    match vote {
                        Ok(reply) => asked[node].answered(matches!(reply, ProposalReply::Granted)),
                        Err(no_vote) => asked[node].got_no_answer(no_vote.sent),
                    }
                }
                let voter = &members.all()[node].voter;
                let deleted = reply.ok().and_then(|reply| voter.release_reply(reply).vote.ok());
                let late = asked[node].may_be_late();
                let is_over = deleted.is_some_and(|deleted| deleted > 0 || !late);
                if !is_over {
                    voter.release_later(
                        &resources,
                        owner,
                        ttl,
                        None,
                        if late { Late::Possible } else { Late::Impossible },
                    );
                }
                all &= is_over;
            }
            let _ = done.send(all);
        });
        Undoing { all: confirmed, limit }
    }
}
