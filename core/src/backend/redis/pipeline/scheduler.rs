//! Which requests form a batch, and when a worker is needed. Decisions only: no I/O, no clock.

use std::collections::VecDeque;

use super::batch::{BatchEntry, RequestBatch};
use crate::backend::redis::protocol::replies::proof::Proof;
use crate::lease::AckPolicy;

/// The most requests that share one WAIT. With more, the first of them would wait long for the last.
pub(crate) const MAX_BATCH: usize = 128;

/// A request with more resources than this gets a batch of its own, so that no batch becomes huge.
const LARGE: usize = 16;

/// How many workers there may be. Each class of requests gets its first one whatever the others do: a WAIT
/// that stalls on a lagging replica keeps its worker, and must not keep those with other requirements from
/// theirs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerLimits {
    /// A class gets a second worker only while fewer than half of these are busy. Workers beyond them exit
    /// when they are idle.
    pub workers: usize,
    /// For the requests of one class.
    pub per_class: usize,
}

/// Requests that share a WAIT: they need the same proof, and none of them allows twice the time of another
/// one, so none waits long behind another. There are at most 27 such classes for each proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitClass {
    /// If they need none, there is no WAIT.
    pub proof: Proof,
    magnitude: u32,
}

impl WaitClass {
    pub const fn of(acks: AckPolicy) -> Self {
        let proof = Proof::of(acks);
        let magnitude = match acks.timeout_ms.checked_ilog2() {
            Some(magnitude) if proof.is_needed() => magnitude,
            _ => 0,
        };
        Self { proof, magnitude }
    }
}

/// Requests that wait for a worker. Requests of one class share a WAIT, so they form a batch: batches grow
/// while workers are busy, and an idle worker takes a whole one. Nothing is ever delayed in order to grow a
/// batch.
pub(crate) struct Scheduler {
    limits: WorkerLimits,
    /// The classes with waiting or sent requests; the next one to serve comes first.
    groups: VecDeque<ClassGroup>,
    /// Workers that exist.
    workers: usize,
    /// Workers that have a batch.
    busy: usize,
    /// Callers that send their request themselves.
    entered: usize,
    closed: bool,
}

struct ClassGroup {
    class: WaitClass,
    batches: VecDeque<RequestBatch>,
    /// Workers that have batches of this class.
    workers: usize,
}

/// What to do about the number of workers after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Keep,
    /// Wake an idle worker.
    Wake,
    /// Start a worker, which is counted already.
    Spawn,
}

/// What a worker does next.
pub(crate) enum Assignment {
    Send(WaitClass, RequestBatch),
    Wait,
    Exit,
}

fn is_large(entry: &BatchEntry) -> bool {
    entry.lease.names() > LARGE
}

impl Scheduler {
    pub fn new(limits: WorkerLimits) -> Self {
        Self { limits, groups: VecDeque::new(), workers: 0, busy: 0, entered: 0, closed: false }
    }

    /// Adds a request. Gives it back if the scheduler is closed.
    pub fn push(&mut self, entry: BatchEntry) -> Result<Scale, BatchEntry> {
        if self.closed {
            return Err(entry);
        }
        let class = WaitClass::of(entry.acks);
        // A process has only a few classes, so a linear search is cheapest.
        let at = self.groups.iter().position(|group| group.class == class).unwrap_or_else(|| {
            self.groups.push_back(ClassGroup { class, batches: VecDeque::new(), workers: 0 });
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
        Ok(self.scale())
    }

    /// What an idle worker does next. After [`Assignment::Send`] it is busy until [`Self::done`]. After
    /// [`Assignment::Exit`] it is no longer counted. A worker with a connection of its own `stays` when there
    /// is no work, unless there are too many.
    pub fn next(&mut self, stays: bool) -> (Assignment, Scale) {
        let Some(at) = self.groups.iter().position(|group| self.may_take(group)) else {
            if stays && !self.closed && self.workers <= self.limits.workers {
                return (Assignment::Wait, Scale::Keep);
            }
            self.workers -= 1;
            return (Assignment::Exit, Scale::Keep);
        };
        // Behind the other classes.
        let mut group = self.groups.remove(at).expect("its position was just found");
        let batch = group.batches.pop_front().expect("may_take checked for a batch");
        let class = group.class;
        group.workers += 1;
        self.groups.push_back(group);
        self.busy += 1;
        (Assignment::Send(class, batch), self.scale())
    }

    /// A worker is done with a batch of this class.
    pub fn done(&mut self, class: WaitClass) {
        self.busy -= 1;
        if let Some(at) = self.groups.iter().position(|group| group.class == class) {
            self.groups[at].workers -= 1;
            if self.groups[at].workers == 0 && self.groups[at].batches.is_empty() {
                self.groups.remove(at);
            }
        }
    }

    /// A request is sent by its caller. `false`: others are sent, or wait. It takes no worker's place,
    /// because its caller may be blocked.
    #[cfg(unix)]
    pub fn enter(&mut self) -> bool {
        let may = !self.closed && self.entered == 0 && self.groups.is_empty();
        self.entered += usize::from(may);
        may
    }

    /// The reverse of [`Self::enter`].
    #[cfg(unix)]
    pub fn leave(&mut self) {
        self.entered -= 1;
    }

    /// A worker ended without being told to exit.
    pub fn worker_failed(&mut self) {
        self.workers -= 1;
    }

    /// Accepts no more requests; returns those that no worker has taken.
    pub fn close(&mut self) -> Vec<RequestBatch> {
        self.closed = true;
        self.groups.iter_mut().flat_map(|group| std::mem::take(&mut group.batches)).collect()
    }

    /// The number of workers.
    #[cfg(test)]
    const fn workers(&self) -> usize {
        self.workers
    }

    /// Whether no worker and no caller can be sending.
    pub const fn is_over(&self) -> bool {
        self.workers == 0 && self.entered == 0
    }

    fn may_take(&self, group: &ClassGroup) -> bool {
        let spare = group.workers < self.limits.per_class && self.busy * 2 < self.limits.workers;
        !group.batches.is_empty() && (group.workers == 0 || spare)
    }

    fn scale(&mut self) -> Scale {
        if !self.groups.iter().any(|group| self.may_take(group)) {
            Scale::Keep
        } else if self.busy < self.workers {
            Scale::Wake
        } else {
            self.workers += 1;
            Scale::Spawn
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    use crate::backend::redis::protocol::lease_args::LeaseArgs;
    use crate::lease::{Owner, Resources};

    const LIMITS: WorkerLimits = WorkerLimits { workers: 4, per_class: 2 };

    fn policy(required: u32) -> AckPolicy {
        AckPolicy { required, timeout_ms: 50, fsync: false }
    }

    fn push(scheduler: &mut Scheduler, required: u32) -> Scale {
        scheduler.push(entry(policy(required))).ok().unwrap()
    }

    fn entry(acks: AckPolicy) -> BatchEntry {
        let lease = LeaseArgs::release(&Resources::one("r").unwrap(), Owner::random());
        BatchEntry { lease, acks, done: oneshot::channel().0 }
    }

    fn class(required: u32) -> WaitClass {
        WaitClass::of(policy(required))
    }

    /// What the next worker sends: the acknowledgements it needs, and the number of requests.
    fn take(scheduler: &mut Scheduler) -> Option<(u32, usize)> {
        match scheduler.next(true).0 {
            Assignment::Send(class, batch) => Some((class.proof.replicas, batch.len())),
            Assignment::Wait | Assignment::Exit => None,
        }
    }

    #[test]
    fn an_idle_scheduler_sends_immediately_and_a_busy_one_gathers() {
        let mut scheduler = Scheduler::new(LIMITS);
        assert_eq!(push(&mut scheduler, 2), Scale::Spawn);
        assert_eq!(push(&mut scheduler, 2), Scale::Wake, "the starting worker takes both");
        assert_eq!(take(&mut scheduler), Some((2, 2)));
        assert_eq!(push(&mut scheduler, 2), Scale::Spawn, "a second worker for the same class");
        assert_eq!(take(&mut scheduler), Some((2, 1)));
        for _ in 0..3 {
            assert_eq!(push(&mut scheduler, 2), Scale::Keep, "but no third");
        }
        assert_eq!(take(&mut scheduler), None);
        scheduler.done(class(2));
        assert_eq!(take(&mut scheduler), Some((2, 3)), "what gathered becomes one batch");
    }

    #[test]
    fn batches_are_bounded_and_keep_their_order() {
        let mut scheduler = Scheduler::new(LIMITS);
        for _ in 0..=MAX_BATCH {
            push(&mut scheduler, 1);
        }
        let (Assignment::Send(_, batch), scale) = scheduler.next(true) else { panic!("no batch") };
        assert_eq!(batch.len(), MAX_BATCH);
        assert_eq!(scale, Scale::Spawn, "the rest needs a worker too");
        assert_eq!(take(&mut scheduler), Some((1, 1)));
    }

    #[test]
    fn a_class_that_stalls_leaves_workers_for_the_others() {
        let mut scheduler = Scheduler::new(LIMITS);
        for required in [2, 2, 2] {
            push(&mut scheduler, required);
            take(&mut scheduler);
        }
        assert_eq!(take(&mut scheduler), None, "class 2 has its two workers");
        push(&mut scheduler, 2);
        assert_eq!(push(&mut scheduler, 1), Scale::Spawn);
        assert_eq!(
            take(&mut scheduler),
            Some((1, 1)),
            "overtakes requests that wait for a worker of class 2"
        );
        push(&mut scheduler, 1);
        assert_eq!(take(&mut scheduler), None, "half of the workers are busy, so no class gets a second one");
        assert_eq!(push(&mut scheduler, 3), Scale::Spawn);
        assert_eq!(take(&mut scheduler), Some((3, 1)));
        assert_eq!(push(&mut scheduler, 4), Scale::Spawn, "a fifth worker, for a class that has none");
        assert_eq!(take(&mut scheduler), Some((4, 1)));
        assert_eq!(scheduler.workers(), 5);
        assert_eq!(push(&mut scheduler, 4), Scale::Keep, "but no second one");
        for required in [1, 3, 4] {
            scheduler.done(class(required));
        }
        let turns = [take(&mut scheduler), take(&mut scheduler)];
        assert_eq!(turns, [Some((1, 1)), Some((4, 1))], "in the order of arrival, overtaking class 2");
        assert!(matches!(scheduler.next(true).0, Assignment::Exit), "one worker too many");
        assert!(matches!(scheduler.next(true).0, Assignment::Wait));
    }

    #[test]
    fn requests_without_acknowledgements_and_of_each_class_always_get_a_worker() {
        let mut scheduler = Scheduler::new(LIMITS);
        let mut lone = |required, timeout_ms| {
            scheduler.push(entry(AckPolicy { required, timeout_ms, fsync: false })).ok().unwrap();
            matches!(scheduler.next(true).0, Assignment::Send(class, _) if class.proof.replicas == required)
        };
        for magnitude in 0..26 {
            assert!(lone(2, 1 << magnitude), "{magnitude}");
        }
        assert!(lone(0, 0), "every other worker stalls");
        assert!(lone(1, 50));
    }

    #[test]
    fn requests_that_need_the_same_acknowledgements_within_a_similar_time_share_a_batch() {
        let mut scheduler = Scheduler::new(LIMITS);
        for timeout_ms in [4_096, 8_191, 5_000, 6_000] {
            scheduler.push(entry(AckPolicy { required: 1, timeout_ms, fsync: false })).ok().unwrap();
        }
        for timeout_ms in [4_095, 8_192] {
            scheduler.push(entry(AckPolicy { required: 1, timeout_ms, fsync: false })).ok().unwrap();
        }
        let sizes = [(); 3].map(|()| take(&mut scheduler).map(|(_, requests)| requests));
        assert_eq!(sizes, [Some(4), Some(1), Some(1)]);
        // Another command asks for their proof, also if no replica is required.
        let mut scheduler = Scheduler::new(LIMITS);
        for (required, fsync) in [(1, false), (1, true), (1, true), (0, false), (0, true)] {
            scheduler.push(entry(AckPolicy { required, timeout_ms: 50, fsync })).ok().unwrap();
        }
        let takes = [(); 4].map(|()| take(&mut scheduler));
        assert_eq!(takes, [Some((1, 1)), Some((1, 2)), Some((0, 1)), Some((0, 1))]);
    }

    #[test]
    fn finished_classes_leave_nothing_behind() {
        let mut scheduler = Scheduler::new(LIMITS);
        for timeout_ms in 1..100 {
            let one_off = AckPolicy { required: 1, timeout_ms, fsync: false };
            scheduler.push(entry(one_off)).ok().unwrap();
            let Assignment::Send(class, _) = scheduler.next(true).0 else { panic!("no batch") };
            assert_eq!(class, WaitClass::of(one_off));
            scheduler.done(class);
        }
        assert!(scheduler.groups.is_empty());
        assert_eq!(scheduler.workers(), 1);
    }

    #[test]
    fn a_worker_without_a_connection_exits_when_nothing_waits() {
        let mut scheduler = Scheduler::new(LIMITS);
        assert_eq!(push(&mut scheduler, 0), Scale::Spawn);
        assert!(matches!(scheduler.next(false).0, Assignment::Send(..)));
        scheduler.done(class(0));
        assert!(matches!(scheduler.next(false).0, Assignment::Exit));
        assert_eq!(scheduler.workers(), 0);
        assert_eq!(push(&mut scheduler, 0), Scale::Spawn, "the next request starts another worker");
    }

    #[test]
    #[cfg(unix)]
    fn a_caller_sends_its_request_only_if_it_is_alone_and_others_need_not_wait_for_it() {
        let mut scheduler = Scheduler::new(WorkerLimits { workers: 1, per_class: 1 });
        assert!(scheduler.enter());
        assert!(!scheduler.enter());
        assert_eq!(push(&mut scheduler, 2), Scale::Spawn, "its caller may be blocked");
        scheduler.leave();
        assert!(!scheduler.enter(), "others wait");
        assert_eq!(take(&mut scheduler), Some((2, 1)));
        assert!(!scheduler.enter(), "others are sent");
        scheduler.done(class(2));
        assert!(scheduler.enter() && matches!(scheduler.next(false).0, Assignment::Exit));
        assert!(!scheduler.is_over());
        scheduler.leave();
        assert!(scheduler.is_over());
        scheduler.close();
        assert!(!scheduler.enter());
    }

    #[test]
    fn a_closed_scheduler_accepts_nothing_and_returns_what_waits() {
        let mut scheduler = Scheduler::new(LIMITS);
        push(&mut scheduler, 1);
        assert_eq!(scheduler.close().len(), 1);
        assert!(scheduler.push(entry(policy(1))).is_err());
        assert!(matches!(scheduler.next(true).0, Assignment::Exit));
    }
}
