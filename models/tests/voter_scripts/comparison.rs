//! Does a real node do what is expected? Operations are sent to it one after the other; each reply, and all
//! that it has stored then, must be what the model says.

use std::collections::BTreeMap;

use fencelock_models::quorum::node::{Extension, Proposal, Rules};
use redis::Value;

use crate::call::{Call, key, process, read};
use crate::check::{check_reply, check_stored, numbers};
use crate::expected::{Node, Proposed, Renewed};
use crate::operation::{Ask, Operation, Prolong, Token, Waits};
use crate::server::{RealNode, clock_us};

/// Short enough that a token far ahead has a fence that lasts longer.
const FENCE_MS: u64 = 10_000;
/// Redis rounds to milliseconds: when something is written, and when it is read.
const ROUNDED_US: u64 = 2_000;
/// Waiters count as dead after 1.5 s without a heartbeat; a sequence that takes longer is not compared.
const LONGEST_US: u64 = 1_000_000;

/// What was compared so far, by the kind of reply.
pub type Counts = BTreeMap<&'static str, u32>;

/// Sends these operations to a node that has nothing. An error: it did not do what was expected.
pub fn compare(real: &mut RealNode, operations: &[Operation], counts: &mut Counts) -> Result<(), String> {
    real.exchange(redis::pipe().cmd("FLUSHALL"));
    let mut comparison = Comparison { real, node: Node::default(), slack: 0, counts };
    let began = clock_us();
    for (step, operation) in operations.iter().enumerate() {
        let result = comparison.step(operation);
        if clock_us() - began > LONGEST_US {
            break;
        }
        result.map_err(|why| format!("step {step}, {operation:?}: {why}"))?;
    }
    Ok(())
}

struct Comparison<'a> {
    real: &'a mut RealNode,
    node: Node,
    /// By how much the clocks of a call may have been apart (µs).
    slack: u64,
    counts: &'a mut Counts,
}

impl Comparison<'_> {
    fn step(&mut self, operation: &Operation) -> Result<(), String> {
        let call = match operation {
            Operation::Pass(ms) => {
                std::thread::sleep(std::time::Duration::from_millis(*ms));
                return Ok(());
            }
            Operation::Restart { older_us } => {
                self.restart(*older_us);
                return Ok(());
            }
            Operation::Propose(asks) => Call::Propose(asks.iter().map(|ask| self.proposed(ask)).collect()),
            Operation::Renew(renewals) => {
                Call::Renew(renewals.iter().map(|renewal| self.renewed(renewal)).collect())
            }
            Operation::Release(leases) => Call::Release(leases.clone()),
            Operation::ForceRelease(name) => Call::ForceRelease(*name),
            Operation::Agree { client, ttl_ms } => Call::Agree(*client, *ttl_ms),
        };
        let mut pipeline = redis::pipe();
        pipeline.add_command(call.command(&self.real.scripts));
        read(&mut pipeline);
        let sent = clock_us();
        let mut replies = self.real.exchange(&pipeline).into_iter();
        self.slack = self.slack.max(self.real.took_us);
        let reply = numbers(replies.next().expect("the call has a reply"));
        let stored: Vec<_> = replies.collect();
        let now = match call {
            Call::Propose(_) | Call::Renew(_) => reply[0].unwrap_or_default(),
            _ => sent,
        };
        self.settle(&call, now, &reply, &stored)
            .map_err(|why| format!("{why}\nto {call:?}\nat {now}, when it had {:?}", self.node))
    }

    /// Takes what fits to the replies: of what ends at this moment it is not known whether it has.
    fn settle(
        &mut self,
        call: &Call,
        now: u64,
        reply: &[Option<u64>],
        stored: &[Value],
    ) -> Result<(), String> {
        let tolerance = 2 * self.slack + ROUNDED_US;
        let ending = self.node.ending(now, tolerance);
        let mut why = Vec::new();
        for subset in 0..1_usize << ending.len() {
            let mut node = self.node.clone();
            for (index, &ending) in ending.iter().enumerate() {
                node.decide(now, ending, subset >> index & 1 == 1);
            }
            let mut counts = Counts::new();
            let fits = check_reply(&mut node, call, now, reply, tolerance, &mut counts)
                .and_then(|()| check_stored(&node, now, stored, tolerance));
            match fits {
                Ok(()) => {
                    self.node = node;
                    for (kind, count) in counts {
                        *self.counts.entry(kind).or_default() += count;
                    }
                    return Ok(());
                }
                Err(different) => why.push(different),
            }
        }
        Err(why.join("\n  or "))
    }

    fn restart(&mut self, older_us: Option<u64>) {
        self.real.restart();
        let fences = self.node.names.map(|stored| stored.fence);
        self.node = Node::default();
        let Some(older) = older_us else { return };
        for (name, fence) in fences.into_iter().enumerate().filter(|&(_, fence)| fence > 0) {
            let fence = fence.saturating_sub(older).max(1);
            self.node.names[name].fence = fence;
            self.node.fences_until[name] = clock_us() + FENCE_MS * 1_000;
            let mut pipeline = redis::pipe();
            pipeline.cmd("SET").arg(key(name, "fence")).arg(fence).arg("PX").arg(FENCE_MS);
            self.real.exchange(&pipeline);
            self.slack = self.slack.max(self.real.took_us);
        }
    }

    fn proposed(&self, ask: &Ask) -> Proposed {
        let known = ask.known.map_or(0, |known| from(clock_us(), known));
        let token = self.token(ask.token, &ask.names, known);
        let waiter = |kind| format!("{}:1:{kind}", process(ask.owner));
        let waiter = match ask.waits {
            Waits::Not => None,
            Waits::Fair(place) => Some((waiter("f"), Some(from(clock_us(), place)))),
            Waits::Unfair => Some((waiter("u"), None)),
        };
        let proposal = Proposal { owner: ask.owner, ttl: ask.ttl_ms * 1_000, token, known };
        Proposed { names: ask.names.clone(), proposal, waiter, fence_us: FENCE_MS * 1_000 }
    }

    fn renewed(&self, renewal: &Prolong) -> Renewed {
        let token = self.token(renewal.token, &renewal.names, 0);
        let (owner, ttl) = (renewal.owner, renewal.ttl_ms * 1_000);
        let extension = Extension { owner, ttl, token, heal: renewal.heal };
        Renewed { names: renewal.names.clone(), extension, fence_us: FENCE_MS * 1_000 }
    }

    fn token(&self, token: Token, names: &[usize], known: u64) -> u64 {
        let last = names.iter().map(|&name| self.node.names[name].fence).max().unwrap_or(0);
        match token {
            Token::Clock(by) => from(clock_us(), by),
            Token::Last(by) => from(last, by),
            Token::Most(by) => from(last.max(known).max(clock_us()), by) + Rules::PRODUCT.ahead.unwrap_or(0),
        }
    }
}

fn from(moment: u64, by: i64) -> u64 {
    moment.saturating_add_signed(by)
}
