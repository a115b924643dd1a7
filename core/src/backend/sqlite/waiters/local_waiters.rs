//! The waiters of this process for leases in one lock file.

use std::collections::HashMap;
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
    /// In the order in which they came.
    waiting: Vec<LocalWaiter>,
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
#[derive(Debug, Clone)]
pub struct LocalWaiter {
    pub waiter: Waiter,
    pub resources: Resources,
    /// Whether it may have entries in the fair queue.
    may_be_queued: bool,
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

    /// Has all of them attempt, because what was known of the file is outdated.
    pub fn wake_all(&self) {
        self.state.lock().waiting.iter().for_each(|entry| entry.waiter.wake());
    }

    /// Adds a waiter, unless it waits already. Returns whether the poller must be started.
    pub fn add(&self, waiter: &Waiter, resources: &Resources) -> bool {
        let mut state = self.state.lock();
        if state.position(waiter).is_none() {
            let (waiter, resources) = (waiter.clone(), resources.clone());
            state.waiting.push(LocalWaiter { waiter, resources, may_be_queued: false });
        }
        !std::mem::replace(&mut state.is_polled, true)
    }

    /// Records that a fair waiter may have entered the queue.
    pub fn record_queued(&self, waiter: &Waiter) {
        let mut state = self.state.lock();
        if let Some(at) = state.position(waiter) {
            state.waiting[at].may_be_queued = true;
        }
    }

    /// Records that a waiter was granted its lease.
    pub fn record_granted(&self, waiter: &Waiter) {
        let mut state = self.state.lock();
        let Some(at) = state.position(waiter) else { return };
        let granted = state.waiting.remove(at);
        if state.handoffs.len() >= MAX_COUNTED {
            state.handoffs.clear();
        }
        for resource in granted.resources.as_slice() {
            state.handoffs.entry(resource.clone()).or_default().count += 1;
        }
    }

    /// Removes a waiter. Returns whether it may have entries in the fair queue; `None` if it was not waiting.
    pub fn remove(&self, waiter: &Waiter) -> Option<bool> {
        let mut state = self.state.lock();
        let at = state.position(waiter)?;
        Some(state.waiting.remove(at).may_be_queued)
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

    /// All of them, in the order in which they came.
    pub fn snapshot(&self) -> Vec<LocalWaiter> {
        self.state.lock().waiting.clone()
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
        self.state.lock().waiting.iter().any(|entry| entry.may_be_queued)
    }

    /// Has those attempt that may have entries in the fair queue.
    pub fn wake_queued(&self) {
        let state = self.state.lock();
        state.waiting.iter().filter(|entry| entry.may_be_queued).for_each(|entry| entry.waiter.wake());
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
    fn position(&self, waiter: &Waiter) -> Option<usize> {
        self.waiting.iter().position(|entry| entry.waiter.number() == waiter.number())
    }
}
