//! What all calls that close a manager share: one end, with one time limit.

use std::time::Duration;

use crate::runtime::clock::BootInstant;
use crate::runtime::sync::Mutex;

/// How far the end of a manager is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::manager) enum Phase {
    /// It was not closed.
    Open,
    /// Nothing is acquired any more, but leases are held, extended and released.
    Draining,
    /// What was left was taken away from its holders.
    Closed,
}

/// How many resources of leases that outlasted the drain are named.
const MAX_NAMED: usize = 10;

/// Leases that were still held when the time to drain was over.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct StillHeld {
    /// The first resource of some of them.
    pub named: Vec<String>,
    /// How many there were.
    pub count: usize,
}

impl StillHeld {
    /// One more.
    pub(in crate::manager) fn add(&mut self, resource: &str) {
        self.count += 1;
        if self.named.len() < MAX_NAMED {
            self.named.push(resource.to_owned());
        }
    }
}

type OnClosed = Box<dyn FnOnce(&StillHeld) + Send>;

/// What all calls that close a manager share.
#[derive(Default)]
pub(in crate::manager) struct Closing {
    state: Mutex<State>,
    /// Notified when a lease ended, and when the time limit was shortened. Only the draining task waits.
    changed: tokio::sync::Notify,
}

#[derive(Default)]
struct State {
    /// When what is left is released; `None` before the first call.
    limit: Option<BootInstant>,
    still_held: StillHeld,
    /// Whether holders had time to release their leases.
    drained: bool,
    closed: bool,
    /// The calls that wait for the end.
    calls: Vec<OnClosed>,
}

/// What a call that closes a manager finds.
pub(in crate::manager) enum Begun {
    /// It is the first, and so it has to close the manager.
    First,
    /// Another call does, or did.
    Earlier,
}

impl Closing {
    /// A lease ended.
    pub(in crate::manager) fn lease_ended(&self) {
        self.changed.notify_one();
    }

    /// Registers a call, unless the manager is closed already. A shorter limit holds for all of them.
    pub(in crate::manager) fn join(&self, limit: BootInstant, call: OnClosed) -> Begun {
        let mut state = self.state.lock();
        if state.closed {
            let still_held = state.still_held.clone();
            drop(state);
            call(&still_held);
            return Begun::Earlier;
        }
        state.calls.push(call);
        let begun = if state.limit.is_none() { Begun::First } else { Begun::Earlier };
        state.limit = Some(state.limit.map_or(limit, |earlier| earlier.min(limit)));
        drop(state);
        self.changed.notify_one();
        begun
    }

    /// When what is left is released.
    pub(in crate::manager) fn limit(&self) -> BootInstant {
        self.state.lock().limit.unwrap_or(BootInstant::from_micros(0))
    }

    /// What is left is taken away from its holders.
    pub(in crate::manager) fn end_leases(&self, drained: bool, still_held: StillHeld) {
        let mut state = self.state.lock();
        (state.drained, state.still_held) = (drained, still_held);
    }

    /// Whether holders had time to release their leases.
    pub(in crate::manager) fn has_drained(&self) -> bool {
        self.state.lock().drained
    }

    /// Returns after this long, or when a lease ended or the time limit was shortened.
    pub(in crate::manager) async fn pause(&self, at_most: Duration) {
        let _ = tokio::time::timeout(at_most, self.changed.notified()).await;
    }

    /// The manager is closed: all calls return.
    pub(in crate::manager) fn finish(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let (calls, still_held) = (std::mem::take(&mut state.calls), state.still_held.clone());
        drop(state);
        for call in calls {
            call(&still_held);
        }
    }
}
