//! Which requests travel together, and when a lane is needed for them. Decisions only: no I/O, no time.

use std::collections::VecDeque;
use std::ops::Range;

use tokio::sync::oneshot;

use super::lanes::Outcome;
use super::scripts::Packer;
use crate::backend::AckPolicy;

/// The most requests that share one WAIT. More would make the first of them wait long for the last.
pub(super) const MAX_BATCH: usize = 512;

/// How many lanes there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// In all.
    pub lanes: usize,
    /// For requests of one policy, so that one that stalls on a lagging replica leaves lanes for the others. Beyond
    /// its first lane a policy gets one only while fewer than half of all lanes are busy.
    pub per_policy: usize,
}

/// Requests that wait for a lane. Those with one policy share a WAIT, so they travel in one batch: while lanes are
/// busy batches grow, and an idle lane takes a whole one. Nothing is ever delayed in order to grow a batch.
pub(super) struct Queue {
    limits: Limits,
    /// The policies that have requests waiting or under way; whose turn it is comes first.
    groups: VecDeque<Group>,
    packer: Packer,
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

/// Packed requests, in the order in which they came.
#[derive(Default)]
pub(super) struct Batch {
    pub bytes: Vec<u8>,
    pub entries: Vec<Entry>,
}

/// One request of a batch.
pub(super) struct Entry {
    /// Where its bytes end.
    end: usize,
    pub done: oneshot::Sender<Outcome>,
}

/// What to do about lanes after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Staffing {
    /// As it is.
    Enough,
    /// A lane has nothing to do: wake it.
    Wake,
    /// All lanes are busy: start one, it is counted already.
    Hire,
}

/// What a lane does next.
pub(super) enum Next {
    Carry(AckPolicy, Batch),
    Wait,
    End,
}

impl Batch {
    /// Appends a packed request.
    pub fn push(&mut self, done: oneshot::Sender<Outcome>, pack: impl FnOnce(&mut Vec<u8>)) {
        pack(&mut self.bytes);
        self.entries.push(Entry { end: self.bytes.len(), done });
    }

    /// Takes it apart: the bytes, and each request with its range of them.
    pub fn into_parts(self) -> (Vec<u8>, impl Iterator<Item = (Entry, Range<usize>)>) {
        let mut start = 0;
        let parts = self.entries.into_iter().map(move |entry| {
            let own = start..entry.end;
            start = entry.end;
            (entry, own)
        });
        (self.bytes, parts)
    }
}

impl Queue {
    pub fn new(limits: Limits) -> Self {
        Self { limits, groups: VecDeque::new(), packer: Packer::default(), lanes: 0, busy: 0, closed: false }
    }

    /// Adds a request, unless the queue is closed.
    pub fn push(
        &mut self,
        policy: AckPolicy,
        done: oneshot::Sender<Outcome>,
        pack: impl FnOnce(&mut Packer, &mut Vec<u8>),
    ) -> Option<Staffing> {
        if self.closed {
            return None;
        }
        // There are a handful of policies in a process, so a search is cheapest.
        let at = self.groups.iter().position(|group| group.policy == policy).unwrap_or_else(|| {
            self.groups.push_back(Group { policy, batches: VecDeque::new(), lanes: 0 });
            self.groups.len() - 1
        });
        let batches = &mut self.groups[at].batches;
        if batches.back().is_none_or(|batch| batch.entries.len() >= MAX_BATCH) {
            batches.push_back(Batch::default());
        }
        let packer = &mut self.packer;
        if let Some(batch) = batches.back_mut() {
            batch.push(done, |bytes| pack(packer, bytes));
        }
        Some(self.staffing())
    }

    /// What an idle lane does next. After [`Next::Carry`] it is busy until [`Self::done`].
    pub fn next(&mut self) -> (Next, Staffing) {
        let Some(at) = self.groups.iter().position(|group| self.may_take(group)) else {
            return (if self.closed { Next::End } else { Next::Wait }, Staffing::Enough);
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

    /// A lane ends.
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

    const LIMITS: Limits = Limits { lanes: 4, per_policy: 2 };

    fn policy(required: u32) -> AckPolicy {
        AckPolicy { required, timeout_ms: 50 }
    }

    fn push(queue: &mut Queue, required: u32) -> Staffing {
        let (done, _) = oneshot::channel();
        queue.push(policy(required), done, |_, out| out.push(b'x')).unwrap()
    }

    /// What the next lane carries: policy and number of requests.
    fn carry(queue: &mut Queue) -> Option<(u32, usize)> {
        match queue.next().0 {
            Next::Carry(policy, batch) => Some((policy.required, batch.entries.len())),
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
        let (Next::Carry(_, batch), staffing) = queue.next() else { panic!("no batch") };
        assert_eq!((batch.entries.len(), batch.bytes.len()), (MAX_BATCH, MAX_BATCH));
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
            let (done, _) = oneshot::channel();
            let one_off = AckPolicy { required: 1, timeout_ms };
            queue.push(one_off, done, |_, _| ()).unwrap();
            assert!(matches!(queue.next().0, Next::Carry(policy, _) if policy == one_off));
            queue.done(one_off);
        }
        assert!(queue.groups.is_empty());
        assert_eq!(queue.lanes(), 1);
    }

    #[test]
    fn a_batch_comes_apart_where_its_requests_end() {
        let mut batch = Batch::default();
        for bytes in [&b"ab"[..], b"", b"cde"] {
            batch.push(oneshot::channel().0, |out| out.extend_from_slice(bytes));
        }
        let (bytes, parts) = batch.into_parts();
        let parts: Vec<&[u8]> = parts.map(|(_, own)| &bytes[own]).collect();
        assert_eq!(parts, [&b"ab"[..], b"", b"cde"]);
    }

    #[test]
    fn a_closed_queue_takes_nothing_and_gives_back_what_waits() {
        let mut queue = Queue::new(LIMITS);
        push(&mut queue, 1);
        assert_eq!(queue.close().len(), 1);
        assert!(queue.push(policy(1), oneshot::channel().0, |_, _| ()).is_none());
        assert!(matches!(queue.next().0, Next::End));
    }
}
