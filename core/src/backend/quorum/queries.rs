//! Who holds a resource, and releases by force.

use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::QuorumBackend;
use super::renewal::question_limit;
use crate::backend::contract::Info;
use crate::error::{Consequence, Error, Result};
use crate::lease::Resources;

impl QuorumBackend {
    /// The owner that a majority has.
    pub(super) async fn find_owner(&self, resources: &Resources) -> Result<Option<Info>> {
        let answers = self.ask_all(|node| self.members.all()[node].voter.inspect(resources)).await?;
        Ok(holder(answers.into_iter().flatten(), self.members.need()))
    }

    /// As [`Self::find_owner`], of a name that was found on a node. It is not held where another application
    /// has a key of another type in its place.
    pub(super) async fn find_listed(&self, resources: &Resources) -> Result<Option<Info>> {
        let answers = self.ask_all(|node| async move {
            let inspected = self.members.all()[node].voter.inspect(resources).await;
            inspected.or_else(|error| if error.is_of_key_type() { Ok(None) } else { Err(error) })
        });
        Ok(holder(answers.await?.into_iter().flatten(), self.members.need()))
    }

    /// Deletes it on all nodes; returns whether any had it.
    pub(super) async fn release_by_force(&self, resources: &Resources) -> Result<bool> {
        let answers = self.ask_all(|node| self.members.all()[node].voter.force_release(resources)).await;
        match answers {
            Ok(answers) => Ok(answers.into_iter().any(|deleted| deleted)),
            Err(Error::BackendUnavailable(report)) => {
                Err(Error::OutcomeUnknown(report.with_consequence(Consequence::MayBeForced)))
            }
            Err(error) => Err(error),
        }
    }

    /// The answers of all nodes that answer in time; an error if they are fewer than a majority.
    pub(super) async fn ask_all<T, F>(&self, ask: impl Fn(usize) -> F) -> Result<Vec<T>>
    where
        F: Future<Output = Result<T>>,
    {
        self.members.assembled().await?;
        let need = self.members.need();
        let mut pending: FuturesUnordered<_> =
            (0..self.members.all().len()).map(|node| ask(node).map(move |answer| (node, answer))).collect();
        let mut due = Instant::now() + question_limit(&self.members);
        let (mut answers, mut reasons) = (Vec::new(), Vec::new());
        let mut silent: Vec<_> = (0..self.members.all().len()).collect();
        while let Ok(Some((node, answer))) = timeout_at(due, pending.next()).await {
            silent.retain(|&other| other != node);
            match answer {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    let member = &self.members.all()[node];
                    reasons.push(format!("{}: {}", member.address, member.reason(&error)));
                }
            }
            if answers.len() == need {
                // The others have a moment: they may know more.
                due = due.min(Instant::now() + self.members.patience().max(Duration::from_millis(50)));
            }
        }
        if answers.len() >= need {
            return Ok(answers);
        }
        reasons.extend(self.members.silence(&silent));
        Err(Error::untouched(format!(
            "{} of the {need} nodes of the quorum that must answer did: {}",
            answers.len(),
            reasons.join("; ")
        )))
    }
}

/// The owner that at least `need` of these nodes have: it keeps the lease for as long as so many of them do.
fn holder(infos: impl Iterator<Item = Info>, need: usize) -> Option<Info> {
    let mut infos: Vec<_> = infos.collect();
    // Those that keep it longest first.
    infos.sort_by_key(|info| std::cmp::Reverse(info.remaining));
    let of = |owner: &str| infos.iter().filter(|info| info.owner == owner).collect::<Vec<_>>();
    infos.iter().map(|info| of(&info.owner)).find(|same| same.len() >= need).map(|same| Info {
        owner: same[0].owner.clone(),
        token: same.iter().map(|info| info.token).max().unwrap_or(0),
        remaining: same[need - 1].remaining,
        // Those that are not fair wait at one or two of them.
        waiters: infos.iter().map(|info| info.waiters).max().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(owner: &str, token: u64, left_ms: u64) -> Info {
        Info { owner: owner.to_owned(), token, remaining: Duration::from_millis(left_ms), waiters: 0 }
    }

    #[test]
    fn a_holder_has_a_majority_for_as_long_as_that_lasts() {
        let nodes = [info("a", 7, 50), info("b", 9, 900), info("a", 7, 30), info("a", 8, 40)];
        assert_eq!(holder(nodes.into_iter(), 3), Some(info("a", 8, 30)));
        let split = [info("a", 7, 50), info("b", 9, 900), info("c", 7, 30)];
        assert_eq!(holder(split.into_iter(), 2), None);
    }
}
