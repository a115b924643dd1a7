//! What does the quorum guarantee? Asks each node, and judges them together.

use futures_util::future::join_all;
use tokio::time::timeout;

use super::QuorumBackend;
use super::members::Standing;
use super::renewal::question_limit;
use crate::backend::guarantees::{FailureModes, Guarantee, Judgement, PAUSE, PROCESS_CRASH};
use crate::error::{Error, Result};

/// A larger difference between the clock of a node and the median of all is reported: half of what costs the
/// node its vote.
const MAX_SKEW_MICROS: u64 = 500_000;

impl QuorumBackend {
    /// What can be seen of the quorum now. Fails if no node can be asked.
    pub(super) async fn assess(&self) -> Result<Guarantee> {
        let standings = self.members.assembled().await?;
        let limit = question_limit(&self.members);
        let asked = self.members.all().iter().map(|member| async {
            let asked = timeout(limit, member.voter.describe()).await;
            asked.unwrap_or_else(|_| Err(Error::unavailable("it did not answer in time")))
        });
        let answers = join_all(asked).await;
        if let (true, Some(Err(error))) = (answers.iter().all(Result::is_err), answers.last()) {
            return Err(error.clone());
        }
        let (need, nodes) = (self.members.need(), self.members.all().len());
        let max_ttl_ms = self.max_ttl.as_millis();
        Ok(Guarantee {
            summary: format!(
                "A quorum of {nodes} independent Redis nodes, {need} of which must grant each lock. There is \
                 at most one holder while up to {} of them are down or cut off, if the clocks of the nodes do \
                 not step forward during a lease, no node loses its keys while it runs, and all clients have \
                 the same nodes and the same maxTtlMs ({max_ttl_ms} ms). Fencing tokens rise in the order of \
                 the leases. Data that must never be written twice needs a guard that checks the token.",
                nodes - need
            ),
            warnings: self.warnings(&standings, &answers),
            survives: self.failure_modes(&answers),
            ..Guarantee::default()
        })
    }

    fn warnings(&self, standings: &[Standing], answers: &[Result<Guarantee>]) -> Vec<String> {
        let (mut warnings, now) = (Vec::new(), self.clock.boot());
        if self.forgets {
            warnings.push(
                "quorum.restartDelayMs is shorter than a lease may last: a node that is restarted without its \
                 data can grant what others hold. Leave it out, except for development"
                    .to_owned(),
            );
        }
        let skews = self.members.skews();
        for (node, (member, answer)) in self.members.all().iter().zip(answers).enumerate() {
            let mut warn = |what: String| warnings.push(format!("the node at {}: {what}", member.address));
            let guarantee = match answer {
                Ok(guarantee) => guarantee,
                Err(error) => {
                    warn(format!("it cannot be asked: {}", member.reason(error)));
                    continue;
                }
            };
            if !standings[node].votes() {
                warn(member.absence(&standings[node], now));
            }
            if guarantee.replicas_connected.is_some_and(|replicas| replicas > 0) {
                warn(
                    "it has replicas: one that takes its place may not have its newest grants, and must not \
                     be reached at its address"
                        .to_owned(),
                );
            }
            if let Some(ahead) = skews[node].filter(|ahead| ahead.unsigned_abs() > MAX_SKEW_MICROS) {
                warn(format!(
                    "its clock is {:.1} s {} the median of the nodes; a second or more costs it its vote: \
                     synchronize them with the same time servers",
                    ahead.unsigned_abs() as f64 / 1e6,
                    if ahead > 0 { "ahead of" } else { "behind" }
                ));
            }
            guarantee.warnings.iter().for_each(|warning| warn(warning.clone()));
        }
        warnings
    }

    fn failure_modes(&self, answers: &[Result<Guarantee>]) -> FailureModes {
        let spare = answers.len() - self.members.need();
        let forgetting = || {
            Judgement::with_guard(
                "a node that is restarted without its data votes at once (quorum.restartDelayMs): leases it \
                 has forgotten can be granted again",
            )
        };
        let after_restart = |reason: &'static str| {
            if self.forgets { forgetting() } else { Judgement::yes(reason) }
        };
        FailureModes {
            process_crash: Judgement::yes(PROCESS_CRASH),
            pause: Judgement::with_guard(PAUSE),
            primary_crash: after_restart(
                "a node that is restarted does not vote before every lease that it may have forgotten is over",
            ),
            failover: after_restart(
                "a replica that takes the place of a node does not vote before every lease that it may lack is \
                 over",
            ),
            partition: Judgement::yes(format!(
                "only a client that reaches a majority gets a lock: {spare} nodes may be cut off, and the lease \
                 of a holder that is cut off ends on both sides"
            )),
            clock_step: Judgement::with_guard(
                "a node whose clock steps forward ends leases early; together with nodes that had not granted \
                 them, it can form a majority for a second holder. The clocks of the clients do not matter",
            ),
            power_loss: after_restart(
                "nodes that lost their data do not vote before every lease that they may have forgotten is over",
            ),
        }
    }
}
