//! The waiters of this process for leases in one lock file.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::backend::Waiter;
use crate::backend::sqlite::store::transaction::Tx;
use crate::lease::Resources;
use crate::runtime::sync::Mutex;

/// How many handoffs of a resource in a row may stay within this process, where they are faster than to any
/// other.
const MAX_LOCAL_HANDOFFS: u32 = 16;
/// How long its waiters then let other processes go first, if there are any: long enough for those to notice
/// and attempt.
const YIELD_TIME: Duration = Duration::from_millis(15);
/// The most resources whose handoffs are counted. Forgetting them costs no more than a few additional
/// handoffs in a row.
const MAX_COUNTED: usize = 64;

/// The waiters, and what the [poller](super::poller) needs to know about them.
#[derive(Debug, Default)]
pub struct LocalWaiters {
    state: Mutex<State>,
    /// Notified when this process has ended something.
    ended: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// By number.
    waiting: HashMap<u64, LocalWaiter>,
    /// The lines in which they wait, by what they wait for: those that wait for the same may get it at the
    /// same time. Numbers rise, so the first of a line came first. No line is empty.
    lines: HashMap<Resources, BTreeSet<u64>>,
    /// How many wait for each resource without a place in the fair queue. None is zero.
    without_place: HashMap<Arc<str>, u32>,
    /// How many may have entries in the fair queue.
    queued: usize,
    /// Waiters whose queue entries could not be removed yet.
    leaving: Vec<(Waiter, Resources)>,
    handoffs: HashMap<Arc<str>, Handoffs>,
    /// Whether the poller runs.
    is_polled: bool,
}

/// How often in a row waiters of this process got a resource.
#[derive(Debug, Default)]
struct Handoffs {
    count: u32,
    yields_until: Option<Instant>,
}

/// One waiter of this process.
#[derive(Debug)]
struct LocalWaiter {
    waiter: Waiter,
    resources: Resources,
    /// Whether it may have entries in the fair queue.
    may_be_queued: bool,
}

/// The waiters for the same resources.
#[derive(Debug, Clone)]
pub struct Line {
    /// What they wait for.
    pub resources: Resources,
    /// The number of the one that came first.
    pub first: u64,
}

impl LocalWaiters {
    /// Reports that this process has ended something that waiters may be waiting for.
    pub fn notify_ended(&self) {
        self.ended.notify_one();
    }

    /// What [`Self::notify_ended`] notifies. Separate, so that a task that waits for it does not keep the
    /// waiters.
    pub fn ended(&self) -> Arc<Notify> {
        Arc::clone(&self.ended)
    }

    /// Has all of them attempt, because what was known of the file is outdated. Those of a line in its order.
    pub fn wake_all(&self) {
        let state = self.state.lock();
        state.lines.values().flatten().for_each(|number| state.wake(*number));
    }

    /// Has the first of each line attempt.
    pub fn wake_first(&self) {
        let state = self.state.lock();
        state.lines.values().filter_map(BTreeSet::first).for_each(|number| state.wake(*number));
    }

    /// How many wait for a resource without a place in the queue.
    pub fn without_place(&self, resource: &str) -> u32 {
        self.state.lock().without_place.get(resource).copied().unwrap_or(0)
    }

    /// Has this one attempt, if it still waits.
    pub fn wake(&self, number: u64) {
        self.state.lock().wake(number);
    }

    /// Adds a waiter, unless it waits already. Returns whether the poller must be started.
    pub fn add(&self, waiter: &Waiter, resources: &Resources) -> bool {
        let mut state = self.state.lock();
        let number = waiter.number();
        if let Entry::Vacant(vacant) = state.waiting.entry(number) {
            let (waiter, resources) = (waiter.clone(), resources.clone());
            let is_fair = waiter.is_fair();
            vacant.insert(LocalWaiter { waiter, resources: resources.clone(), may_be_queued: false });
            for name in resources.as_slice().iter().filter(|_| !is_fair) {
                *state.without_place.entry(Arc::clone(name)).or_default() += 1;
            }
            state.lines.entry(resources).or_default().insert(number);
        }
        !std::mem::replace(&mut state.is_polled, true)
    }

    /// Records that a fair waiter may have entered the queue.
    pub fn record_queued(&self, waiter: &Waiter) {
        let State { waiting, queued, .. } = &mut *self.state.lock();
        if let Some(entry) = waiting.get_mut(&waiter.number())
            && !std::mem::replace(&mut entry.may_be_queued, true)
        {
            *queued += 1;
        }
    }

    /// Records that a waiter was granted its lease.
    pub fn record_granted(&self, waiter: &Waiter) {
        let mut state = self.state.lock();
        let Some(granted) = state.remove(waiter) else { return };
        if state.handoffs.len() >= MAX_COUNTED {
            state.handoffs.clear();
        }
        for resource in granted.resources.as_slice() {
            state.handoffs.entry(resource.clone()).or_default().count += 1;
        }
    }

    /// Removes a waiter. Returns whether it may have entries in the fair queue; `None` if it was not waiting.
    pub fn remove(&self, waiter: &Waiter) -> Option<bool> {
        self.state.lock().remove(waiter).map(|removed| removed.may_be_queued)
    }

    /// Whether waiters of other processes should go first now.
    pub fn should_yield(&self, tx: &Tx<'_>, resource: &str) -> bool {
        let mut state = self.state.lock();
        let Some(handoffs) = state.handoffs.get_mut(resource) else { return false };
        if handoffs.yields_until.is_none()
            && handoffs.count >= MAX_LOCAL_HANDOFFS
            && tx.may_have_other_users()
        {
            handoffs.yields_until = Some(Instant::now() + YIELD_TIME);
        }
        if handoffs.yields_until.is_some_and(|until| Instant::now() < until) {
            return true;
        }
        if handoffs.count >= MAX_LOCAL_HANDOFFS {
            state.handoffs.remove(resource);
        }
        false
    }

    /// All lines, in the order in which the first of each came.
    pub fn lines(&self) -> Vec<Line> {
        let state = self.state.lock();
        let mut lines: Vec<Line> = state
            .lines
            .iter()
            .filter_map(|(resources, line)| {
                line.first().map(|&first| Line { resources: resources.clone(), first })
            })
            .collect();
        drop(state);
        lines.sort_unstable_by_key(|line| line.first);
        lines
    }

    /// Whether this one is a fair waiter for these resources.
    pub fn is_in_line(&self, number: u64, resources: &Resources) -> bool {
        let state = self.state.lock();
        state
            .waiting
            .get(&number)
            .is_some_and(|entry| entry.waiter.is_fair() && entry.resources == *resources)
    }

    /// Returns whether none is left; then the poller counts as stopped.
    pub fn stop_polling_if_empty(&self) -> bool {
        let mut state = self.state.lock();
        let is_empty = state.waiting.is_empty();
        if is_empty {
            state.is_polled = false;
        }
        is_empty
    }

    /// Records that the poller has stopped, so that the next waiter starts it again.
    pub fn record_stopped(&self) {
        self.state.lock().is_polled = false;
    }

    /// Whether any may have entries in the fair queue.
    pub fn may_be_queued(&self) -> bool {
        self.state.lock().queued > 0
    }

    /// Has those attempt that may have entries in the fair queue, except the ones that still have all of
    /// theirs. `entries`: how many each has.
    pub fn wake_without_entries(&self, entries: &HashMap<u64, usize>) {
        let state = self.state.lock();
        for number in state.lines.values().flatten() {
            let lacks_some = |entry: &LocalWaiter| {
                let expected = entry.resources.as_slice().len();
                entry.may_be_queued && entries.get(number).copied().unwrap_or(0) < expected
            };
            if state.waiting.get(number).is_some_and(lacks_some) {
                state.wake(*number);
            }
        }
    }

    /// Keeps waiters whose queue entries could not be removed.
    pub fn keep_leaving(&self, leaving: impl IntoIterator<Item = (Waiter, Resources)>) {
        self.state.lock().leaving.extend(leaving);
    }

    /// Takes the waiters whose queue entries could not be removed.
    pub fn take_leaving(&self) -> Vec<(Waiter, Resources)> {
        std::mem::take(&mut self.state.lock().leaving)
    }

    /// Whether the poller runs.
    #[cfg(test)]
    pub(crate) fn is_polled(&self) -> bool {
        self.state.lock().is_polled
    }
}

impl State {
    fn wake(&self, number: u64) {
        if let Some(entry) = self.waiting.get(&number) {
            entry.waiter.wake();
        }
    }

    fn remove(&mut self, waiter: &Waiter) -> Option<LocalWaiter> {
        let removed = self.waiting.remove(&waiter.number())?;
        self.queued -= usize::from(removed.may_be_queued);
        for name in removed.resources.as_slice().iter().filter(|_| !removed.waiter.is_fair()) {
            if let Entry::Occupied(mut count) = self.without_place.entry(Arc::clone(name)) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        if let Some(line) = self.lines.get_mut(&removed.resources) {
            line.remove(&waiter.number());
            if line.is_empty() {
                self.lines.remove(&removed.resources);
            }
        }
        Some(removed)
    }
}
