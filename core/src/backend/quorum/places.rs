//! The waiters of this manager: at which nodes they wait, and at which place.

use std::collections::HashMap;

use crate::backend::waiter::Waiter;
use crate::runtime::sync::Mutex;

/// The waiters of this manager.
#[derive(Default)]
pub(crate) struct Places(Mutex<HashMap<u64, Place>>);

#[derive(Debug, Clone, Default)]
struct Place {
    /// The nodes at which it waits.
    nodes: Vec<usize>,
    /// Its place in the queues of all nodes, in microseconds since 1970; `None`: it is not fair.
    at: Option<u64>,
    /// The nodes at which it waits besides its home.
    also_at: Vec<usize>,
}

impl Places {
    /// Its place in the queues of all nodes, if it has one.
    pub fn place_of(&self, waiter: &Waiter) -> Option<u64> {
        self.0.lock().get(&waiter.number()).and_then(|place| place.at)
    }

    /// It waits from now on, at this place in the queues of all nodes, if it has one.
    pub fn enter(&self, waiter: &Waiter, at: Option<u64>) {
        let mut places = self.0.lock();
        let place = places.entry(waiter.number()).or_default();
        // A waiter that begins again keeps its place.
        place.at = place.at.or(at);
    }

    /// Its home may not hear of the release, so it waits at these nodes, too, from the next attempt on.
    pub fn wait_also_at(&self, waiter: &Waiter, nodes: Vec<usize>) {
        if let Some(place) = self.0.lock().get_mut(&waiter.number()) {
            place.also_at = nodes;
        }
    }

    /// The nodes at which it waits besides its home.
    pub fn also_at(&self, waiter: &Waiter) -> Vec<usize> {
        self.0.lock().get(&waiter.number()).map(|place| place.also_at.clone()).unwrap_or_default()
    }

    /// The waiter waits at this node from now on. `false`: it already does, or left.
    pub fn add(&self, waiter: &Waiter, node: usize) -> bool {
        let mut places = self.0.lock();
        let Some(place) = places.get_mut(&waiter.number()) else { return false };
        let is_new = !place.nodes.contains(&node);
        if is_new {
            place.nodes.push(node);
        }
        is_new
    }

    /// It does not wait any more; returns the nodes at which it waited.
    pub fn leave(&self, waiter: &Waiter) -> Vec<usize> {
        self.0.lock().remove(&waiter.number()).unwrap_or_default().nodes
    }
}
