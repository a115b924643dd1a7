//! Is a reply, and what a node has stored, as expected?

use std::collections::BTreeMap;

use fencelock_models::quorum::node::Extended;
use redis::Value;

use crate::call::{Call, ECHO};
use crate::comparison::Counts;
use crate::expected::{Answer, Node};

const UNKNOWN_MS: u64 = (1 << 40) - 1;

/// A reply as numbers; a list within it is flat. What is no number, or is negative, is none.
pub fn numbers(reply: Value) -> Vec<Option<u64>> {
    match reply {
        Value::Array(values) => values.into_iter().flat_map(numbers).collect(),
        Value::Int(number) => vec![u64::try_from(number).ok()],
        Value::BulkString(text) => vec![String::from_utf8_lossy(&text).parse().ok()],
        _ => vec![None],
    }
}

/// Carries out a call, and compares its reply.
pub fn check_reply(
    node: &mut Node,
    call: &Call,
    now: u64,
    reply: &[Option<u64>],
    tolerance: u64,
    counts: &mut Counts,
) -> Result<(), String> {
    let mut count = |kind: &'static str| *counts.entry(kind).or_default() += 1;
    let mut expected = Vec::new();
    match call {
        Call::Propose(all) => {
            expected.push(Some(now));
            for proposed in all {
                let answer = node.propose(now, proposed);
                let told = reply.get(expected.len() + 1).copied().flatten().unwrap_or_default();
                let (kind, numbers) = proposal_reply(answer, told, tolerance);
                count(kind);
                expected.extend(numbers.map(Some));
            }
        }
        Call::Renew(all) => {
            expected.push(Some(now));
            for renewed in all {
                let (kind, number) = match (node.renew(now, renewed), renewed.extension.heal) {
                    (Extended::Extended, _) => ("extended", 1),
                    (Extended::Free, true) => ("healed", 2),
                    (Extended::Free, false) => ("free", 2),
                    (Extended::Held, _) => ("taken", 3),
                };
                count(kind);
                expected.push(Some(number));
            }
        }
        Call::Release(leases) => {
            for (owner, names) in leases {
                let deleted = node.release(now, *owner, names);
                count(if deleted > 0 { "released" } else { "not released" });
                expected.push(Some(deleted));
            }
        }
        Call::ForceRelease(name) => {
            let held = node.force_release(now, *name);
            count(if held { "forced" } else { "nothing to force" });
            expected.push(Some(held.into()));
        }
        Call::Agree(client, ttl_ms) => {
            if let Some((noted, left)) = node.agree(now, *client, ttl_ms * 1_000) {
                count("disagreed");
                let told = reply.get(1).copied().flatten().unwrap_or_default();
                let fits = left.abs_diff(told * 1_000) <= tolerance;
                expected.extend([Some(noted.into()), Some(if fits { told } else { left / 1_000 })]);
            } else {
                count("agreed");
                expected.push(None);
            }
        }
    }
    expected.push(Some(ECHO));
    if reply == expected { Ok(()) } else { Err(format!("replied {reply:?} instead of {expected:?}")) }
}

/// The kind of an answer, and the numbers of the reply. `told`: the second of them, which may have a time
/// that is compared within a tolerance.
fn proposal_reply(answer: Answer, told: u64, tolerance: u64) -> (&'static str, [u64; 3]) {
    match answer {
        Answer::Granted => ("granted", [1, 0, 0]),
        Answer::Low(last) => ("low", [3, last, 0]),
        Answer::High(most) => ("high", [4, most, 0]),
        Answer::Behind { place, token } => {
            let place = u64::try_from(place).expect("there are few names");
            ("behind", [2, UNKNOWN_MS + (place << 40), token])
        }
        Answer::Held { left, token } => {
            let left_us = (told & UNKNOWN_MS) * 1_000;
            let place = usize::try_from(told >> 40).unwrap_or(usize::MAX);
            let longest = left.iter().flatten().max().copied().unwrap_or_default();
            let named = left.get(place).copied().flatten();
            // Without a millisecond left the first one is named.
            let fits = longest.abs_diff(left_us) <= tolerance
                && (named.is_some_and(|left| left.abs_diff(left_us) <= tolerance)
                    || (left_us, place) == (0, 0));
            ("held", [2, if fits { told } else { longest / 1_000 }, token])
        }
    }
}

/// Compares what is stored.
pub fn check_stored(node: &Node, now: u64, stored: &[Value], tolerance: u64) -> Result<(), String> {
    for (name, values) in stored.chunks(5).enumerate() {
        let texts: Vec<_> = values.iter().cloned().map(numbers).collect();
        let number = |index: usize| texts[index].first().copied().flatten();
        let (owner, left) = (number(0), number(1).unwrap_or_default());
        let lease = node.lease(name, now);
        let differs = |what: &str| Err(format!("name {name}: {what}, stored is {texts:?}"));
        match (lease, owner) {
            (None, None) => {}
            // It ended since.
            (Some(lease), None) if lease.until - now <= tolerance => {}
            (Some(lease), Some(owner)) if lease.owner == owner => {
                if (lease.until - now).abs_diff(left * 1_000) > tolerance {
                    return differs(&format!("the lease has {} µs left", lease.until - now));
                }
            }
            (lease, _) => return differs(&format!("the lease is {lease:?}")),
        }
        let fence = node.names[name].fence;
        if number(2).unwrap_or_default() != fence {
            return differs(&format!("the fence is {fence}"));
        }
        let left = node.fences_until[name].saturating_sub(now);
        if fence > 0 && left.abs_diff(number(3).unwrap_or_default() * 1_000) > tolerance {
            return differs(&format!("the fence has {left} µs left"));
        }
        check_queue(node, name, &values[4])?;
    }
    Ok(())
}

fn check_queue(node: &Node, name: usize, stored: &Value) -> Result<(), String> {
    let Value::Array(entries) = stored else { return Err(format!("name {name}: its queue is {stored:?}")) };
    let text = |value: &Value| match value {
        Value::BulkString(text) => String::from_utf8_lossy(text).into_owned(),
        other => format!("{other:?}"),
    };
    let queued: BTreeMap<_, _> = entries
        .chunks(2)
        .map(|entry| (text(&entry[0]), text(&entry[1]).parse::<u64>().unwrap_or_default()))
        .collect();
    let expected: BTreeMap<_, _> = node.queues[name]
        .iter()
        .filter_map(|(waiter, place)| place.map(|place| (waiter.clone(), place)))
        .collect();
    if queued == expected {
        Ok(())
    } else {
        Err(format!("name {name}: {queued:?} are queued, not {expected:?}"))
    }
}
