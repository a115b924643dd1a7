//! The guarantee of a deployment with several nodes: a lock may be on any of them, so the worst counts.

use crate::backend::guarantees::{FailureModes, Guarantee, Judgement, Verdict};

/// The worst judgement for every failure mode, and all warnings. Summary, replicas and server are those of
/// the worst node. `None` without any node.
pub(crate) fn merge(nodes: impl IntoIterator<Item = Guarantee>) -> Option<Guarantee> {
    nodes.into_iter().reduce(|one, other| {
        let (mut worst, other) = if badness(&other) > badness(&one) { (other, one) } else { (one, other) };
        worst.survives = merge_failure_modes(worst.survives, other.survives);
        for warning in other.warnings {
            if !worst.warnings.contains(&warning) {
                worst.warnings.push(warning);
            }
        }
        worst
    })
}

/// Orders nodes: first by replicas that are missing, then by warnings.
fn badness(node: &Guarantee) -> (u32, usize) {
    let declared = node.replicas_declared.unwrap_or(0);
    let missing = declared.saturating_sub(node.replicas_connected.unwrap_or(0));
    (missing, node.warnings.len())
}

fn merge_failure_modes(one: FailureModes, other: FailureModes) -> FailureModes {
    FailureModes {
        process_crash: worse(one.process_crash, other.process_crash),
        pause: worse(one.pause, other.pause),
        primary_crash: worse(one.primary_crash, other.primary_crash),
        failover: worse(one.failover, other.failover),
        partition: worse(one.partition, other.partition),
        clock_step: worse(one.clock_step, other.clock_step),
        power_loss: worse(one.power_loss, other.power_loss),
    }
}

fn worse(one: Judgement, other: Judgement) -> Judgement {
    let severity = |judgement: &Judgement| match judgement.verdict {
        Verdict::NotApplicable => 0,
        Verdict::Yes => 1,
        Verdict::WithGuard => 2,
    };
    if severity(&other) > severity(&one) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, connected: u32, primary_crash: Judgement, warnings: &[&str]) -> Guarantee {
        Guarantee {
            summary: name.to_owned(),
            replicas_declared: Some(2),
            replicas_connected: Some(connected),
            warnings: warnings.iter().map(ToString::to_string).collect(),
            survives: FailureModes { primary_crash, ..FailureModes::default() },
            ..Guarantee::default()
        }
    }

    #[test]
    fn the_worst_node_counts_for_every_failure_mode() {
        let safe = node("safe", 2, Judgement::yes("on disk"), &[]);
        let empty = node("empty", 2, Judgement::with_guard("empty"), &["persistence is off"]);
        let short = node("short", 1, Judgement::yes("on disk"), &["1 of 2", "persistence is off"]);
        for order in [[&safe, &empty, &short], [&short, &empty, &safe], [&empty, &short, &safe]] {
            let merged = merge(order.map(Clone::clone)).unwrap();
            assert_eq!((merged.summary.as_str(), merged.replicas_connected), ("short", Some(1)));
            assert_eq!(merged.survives.primary_crash, Judgement::with_guard("empty"));
            assert_eq!(merged.survives.pause.verdict, Verdict::NotApplicable);
            assert_eq!(merged.warnings, ["1 of 2", "persistence is off"]);
        }
        assert_eq!(merge([safe.clone()]), Some(safe), "a single node is not changed");
        assert_eq!(merge([]), None);
    }
}
