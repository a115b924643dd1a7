//! Which requests travel together, and when a lane is needed for them. Decisions only: no I/O, no time.

use std::collections::VecDeque;

use super::batch::{Batch, Entry};
use crate::lease::AckPolicy;

/// The most requests that share one WAIT. More would make the first of them wait long for the last.
pub(crate) const MAX_BATCH: usize = 128;

/// A request with more names than this travels in a batch of its own, so that no batch becomes huge.
const LARGE: usize = 16;

/// How many lanes there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// In all.
    pub lanes: usize,
    /// For requests of one policy, so that one that stalls on a lagging replica leaves lanes for the others. Beyond
    /// its first lane a policy gets one only while fewer than half of all lanes are busy.
    pub per_policy: usize,
}

/// Requests that wait for a lane. Those with one policy share a WAIT, so they travel in one batch: while lanes are
/// busy batches grow, and an idle lane takes a whole one. Nothing is ever delayed in order to grow a batch.
pub(crate) struct Queue {
    limits: Limits,
    /// The policies that have requests waiting or under way; whose turn it is comes first.
    groups: VecDeque<Group>,
    /// Lanes that exist.
    lanes: usize,
    /// Lanes of these that carry a batch.
    busy: usize,
    closed: bool,
}

struct Group {
    policy: AckPolicy,
    batches: VecDeque<Batch>,
    /// Lanes that carry batches of this group.
    lanes: usize,
}

/// What to do about lanes after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Staffing {
    /// As it is.
    Enough,
    /// A lane has nothing to do: wake it.
    Wake,
    /// All lanes are busy: start one, it is counted already.
    Hire,
}

/// What a lane does next.
pub(crate) enum Next {
    Carry(AckPolicy, Batch),
    Wait,
    End,
}

fn is_large(entry: &Entry) -> bool {
    entry.item.names() > LARGE
}

impl Queue {
    pub fn new(limits: Limits) -> Self {
        Self { limits, groups: VecDeque::new(), lanes: 0, busy: 0, closed: false }
    }

    /// Adds a request, unless the queue is closed.
    pub fn push(&mut self, policy: AckPolicy, entry: Entry) -> Option<Staffing> {
        if self.closed {
            return None;
        }
        // There are a handful of policies in a process, so a search is cheapest.
        let at = self.groups.iter().position(|group| group.policy == policy).unwrap_or_else(|| {
            self.groups.push_back(Group { policy, batches: VecDeque::new(), lanes: 0 });
            self.groups.len() - 1
        });
        let batches = &mut self.groups[at].batches;
        match batches.back_mut() {
            Some(batch)
                if batch.len() < MAX_BATCH && !is_large(&entry) && !batch.last().is_some_and(is_large) =>
            {
                batch.push(entry);
            }
            _ => batches.push_back(vec![entry]),
        }
        Some(self.staffing())
    }

    /// What an idle lane does next. After [`Next::Carry`] it is busy until [`Self::done`]. After [`Next::End`] it is no
    /// longer counted; one that has a connection to keep `stays`.
    pub fn next(&mut self, stays: bool) -> (Next, Staffing) {
        let Some(at) = self.groups.iter().position(|group| self.may_take(group)) else {
            if stays && !self.closed {
                return (Next::Wait, Staffing::Enough);
            }
            self.lanes -= 1;
            return (Next::End, Staffing::Enough);
        };
        // To the back of the line.
        let mut group = self.groups.remove(at).expect("its position was just found");
        let batch = group.batches.pop_front().expect("a group that may be taken has a batch");
        let policy = group.policy;
        group.lanes += 1;
        self.groups.push_back(group);
        self.busy += 1;
        (Next::Carry(policy, batch), self.staffing())
    }

    /// A lane is through with a batch of this policy.
    pub fn done(&mut self, policy: AckPolicy) {
        self.busy -= 1;
        if let Some(at) = self.groups.iter().position(|group| group.policy == policy) {
            self.groups[at].lanes -= 1;
            if self.groups[at].lanes == 0 && self.groups[at].batches.is_empty() {
                self.groups.remove(at);
            }
        }
    }

    /// A lane ended in another way.
    pub fn leave(&mut self) {
        self.lanes -= 1;
    }

    /// Takes no more requests; gives back those that no lane has taken.
    pub fn close(&mut self) -> Vec<Batch> {
        self.closed = true;
        self.groups.iter_mut().flat_map(|group| std::mem::take(&mut group.batches)).collect()
    }

    /// Lanes that exist.
    pub const fn lanes(&self) -> usize {
        self.lanes
    }

    fn may_take(&self, group: &Group) -> bool {
        let spare = group.lanes < self.limits.per_policy && self.busy * 2 < self.limits.lanes;
        !group.batches.is_empty() && (group.lanes == 0 || spare)
    }

    fn staffing(&mut self) -> Staffing {
        if !self.groups.iter().any(|group| self.may_take(group)) {
            Staffing::Enough
        } else if self.busy < self.lanes {
            Staffing::Wake
        } else if self.lanes < self.limits.lanes {
            self.lanes += 1;
            Staffing::Hire
        } else {
            Staffing::Enough
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    use crate::backend::redis::protocol::scripts::Item;
    use crate::lease::{Owner, Resources};

    const LIMITS: Limits = Limits { lanes: 4, per_policy: 2 };

    fn policy(required: u32) -> AckPolicy {
        AckPolicy { required, timeout_ms: 50 }
    }

    fn push(queue: &mut Queue, required: u32) -> Staffing {
        queue.push(policy(required), entry()).unwrap()
    }

    fn entry() -> Entry {
        let item = Item::release(&Resources::one("r").unwrap(), Owner::random());
        Entry { item, done: oneshot::channel().0 }
    }

    /// What the next lane carries: policy and number of requests.
    fn carry(queue: &mut Queue) -> Option<(u32, usize)> {
        match queue.next(true).0 {
            Next::Carry(policy, batch) => Some((policy.required, batch.len())),
            Next::Wait | Next::End => None,
        }
    }

    #[test]
    fn an_idle_queue_starts_at_once_and_a_busy_one_gathers() {
        let mut queue = Queue::new(LIMITS);
        assert_eq!(push(&mut queue, 2), Staffing::Hire);
        assert_eq!(push(&mut queue, 2), Staffing::Wake, "the one that starts takes both");
        assert_eq!(carry(&mut queue), Some((2, 2)));
        assert_eq!(push(&mut queue, 2), Staffing::Hire, "a second lane for the same policy");
        assert_eq!(carry(&mut queue), Some((2, 1)));
        for _ in 0..3 {
            assert_eq!(push(&mut queue, 2), Staffing::Enough, "but no third");
        }
        assert_eq!(carry(&mut queue), None);
        queue.done(policy(2));
        assert_eq!(carry(&mut queue), Some((2, 3)), "what gathered travels together");
    }

    #[test]
    fn batches_are_bounded_and_keep_their_order() {
        let mut queue = Queue::new(LIMITS);
        for _ in 0..=MAX_BATCH {
            push(&mut queue, 1);
        }
        let (Next::Carry(_, batch), staffing) = queue.next(true) else { panic!("no batch") };
        assert_eq!(batch.len(), MAX_BATCH);
        assert_eq!(staffing, Staffing::Hire, "the rest needs a lane too");
        assert_eq!(carry(&mut queue), Some((1, 1)));
    }

    #[test]
    fn a_policy_that_stalls_leaves_lanes_for_others_and_all_get_their_turn() {
        let mut queue = Queue::new(LIMITS);
        for required in [2, 2, 2] {
            push(&mut queue, required);
            carry(&mut queue);
        }
        assert_eq!(carry(&mut queue), None, "policy 2 has its two lanes");
        push(&mut queue, 2);
        assert_eq!(push(&mut queue, 1), Staffing::Hire);
        assert_eq!(carry(&mut queue), Some((1, 1)), "goes past what waits for a lane of policy 2");
        push(&mut queue, 1);
        assert_eq!(carry(&mut queue), None, "half of the lanes are busy, so no policy gets a second one");
        assert_eq!(push(&mut queue, 3), Staffing::Hire);
        assert_eq!(carry(&mut queue), Some((3, 1)));
        assert_eq!(push(&mut queue, 4), Staffing::Enough, "all four lanes are busy");
        queue.done(policy(1));
        queue.done(policy(3));
        let turns = [carry(&mut queue), carry(&mut queue)];
        assert_eq!(turns, [Some((1, 1)), Some((4, 1))], "in the order in which they came, past policy 2");
    }

    #[test]
    fn policies_that_are_done_leave_nothing_behind() {
        let mut queue = Queue::new(LIMITS);
        for timeout_ms in 1..100 {
            let one_off = AckPolicy { required: 1, timeout_ms };
            queue.push(one_off, entry()).unwrap();
            assert!(matches!(queue.next(true).0, Next::Carry(policy, _) if policy == one_off));
            queue.done(one_off);
        }
        assert!(queue.groups.is_empty());
        assert_eq!(queue.lanes(), 1);
    }

    #[test]
    fn a_lane_with_nothing_to_keep_ends_when_nothing_waits() {
        let mut queue = Queue::new(LIMITS);
        assert_eq!(push(&mut queue, 0), Staffing::Hire);
        assert!(matches!(queue.next(false).0, Next::Carry(..)));
        queue.done(policy(0));
        assert!(matches!(queue.next(false).0, Next::End));
        assert_eq!(queue.lanes(), 0);
        assert_eq!(push(&mut queue, 0), Staffing::Hire, "the next request starts another");
    }

    #[test]
    fn a_closed_queue_takes_nothing_and_gives_back_what_waits() {
        let mut queue = Queue::new(LIMITS);
        push(&mut queue, 1);
        assert_eq!(queue.close().len(), 1);
        assert!(queue.push(policy(1), entry()).is_none());
        assert!(matches!(queue.next(true).0, Next::End));
    }
}
