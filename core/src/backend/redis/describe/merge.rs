//! The guarantee of a deployment with several nodes: a lock may be on any of them, so the worst counts.

use crate::backend::guarantees::{FailureModes, Guarantee, Judgement, Verdict};
use crate::error::Result;

/// The guarantee of a cluster, by that of each primary and its address. Fails if none can be asked.
pub(crate) fn merge_shards(shards: Vec<(String, Result<Guarantee>)>) -> Result<Guarantee> {
    let count = shards.len();
    let (mut guarantees, mut failed, mut unreachable) = (Vec::new(), None, Vec::new());
    for (address, shard) in shards {
        match shard {
            Ok(guarantee) => guarantees.push((address, guarantee)),
            Err(error) => {
                unreachable.push(format!("the shard at {address} cannot be asked: {error}"));
                failed = Some(error);
            }
        }
    }
    let all = guarantees.len();
    let warned = |warning: &String| guarantees.iter().filter(|(_, it)| it.warnings.contains(warning)).count();
    let mut named: Vec<_> = guarantees.clone();
    for (address, guarantee) in &mut named {
        for warning in guarantee.warnings.iter_mut().filter(|warning| warned(warning) < all) {
            *warning = format!("the shard at {address}: {warning}");
        }
    }
    let Some(mut merged) = merge(named.into_iter().map(|(_, guarantee)| guarantee)) else {
        return Err(failed.expect("a cluster has at least one primary"));
    };
    merged.summary = format!(
        "A Redis Cluster with {count} primaries, each of which has the locks of some slots. A lease that moves \
         with its slot is acknowledged by the new shard's replicas only from its next extension on. Of the \
         primary that guarantees least: {}",
        merged.summary
    );
    merged.warnings.splice(0..0, unreachable);
    Ok(merged)
}

/// The worst judgement for every failure mode, and all warnings. Summary, replicas and server are those of
/// the worst node. `None` without any node.
fn merge(nodes: impl IntoIterator<Item = Guarantee>) -> Option<Guarantee> {
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
    fn a_cluster_names_the_shards_that_differ_and_those_that_cannot_be_asked() {
        let one = node("one", 2, Judgement::yes("on disk"), &["no persistence"]);
        let two = node("two", 1, Judgement::yes("on disk"), &["no persistence", "1 of 2"]);
        let gone = Err(crate::error::Error::unavailable("it is down"));
        let shards = vec![("a:1".into(), Ok(one)), ("b:2".into(), Ok(two)), ("c:3".into(), gone.clone())];
        let merged = merge_shards(shards).unwrap();
        assert!(merged.summary.starts_with("A Redis Cluster with 3 primaries"), "{}", merged.summary);
        assert!(merged.summary.ends_with("two"), "{}", merged.summary);
        assert_eq!(
            merged.warnings,
            ["the shard at c:3 cannot be asked: it is down", "no persistence", "the shard at b:2: 1 of 2"]
        );
        assert_eq!(merge_shards(vec![("c:3".into(), gone.clone())]), gone);
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
