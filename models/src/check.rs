//! A small explicit-state model checker: breadth first, so that a counterexample is a shortest one.

use std::collections::hash_map::Entry;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::fingerprint::{FingerprintMap, fingerprint};
use crate::invariant::Invariant;

/// A system with discrete steps. The methods are those of stateright's trait of this name, but for
/// invariants: what a step does wrong is kept in the state, and returned by [`Model::broken`].
pub trait Model {
    /// A state of the whole system.
    type State: Clone + Hash + Debug;
    /// A step.
    type Action: Copy + Debug;

    /// Where the system starts.
    fn init_states(&self) -> Vec<Self::State>;
    /// Adds every step that is possible in this state.
    fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>);
    /// The state after this step.
    fn next_state(&self, state: &Self::State, action: Self::Action) -> Self::State;
    /// The invariant that does not hold in this state.
    fn broken(&self, state: &Self::State) -> Option<Invariant>;
    /// One line about the state, for a counterexample.
    fn show(&self, state: &Self::State) -> String {
        format!("{state:?}")
    }
}

/// The result of a search.
#[derive(Debug)]
pub struct Report {
    /// How many states were reached.
    pub states: u64,
    /// How many steps were taken out of them.
    pub transitions: u64,
    /// How many steps the longest of the shortest ways to a state has.
    pub depth: u32,
    /// How long the search took.
    pub time: Duration,
    /// The shortest way to a state in which an invariant does not hold. `None`: every state was reached, and
    /// all invariants hold in all of them.
    pub counterexample: Option<Counterexample>,
}

/// The shortest way to a state in which an invariant does not hold.
#[derive(Debug)]
pub struct Counterexample {
    /// What does not hold.
    pub broken: Invariant,
    /// The first state, then every step with the state after it.
    pub steps: Vec<String>,
}

/// Goes through all states of a model, until an invariant does not hold or there are no more.
pub fn explore<M: Model>(model: &M) -> Report {
    let start = Instant::now();
    let mut search = Search { model, parents: FingerprintMap::default(), transitions: 0 };
    let mut depth = 0;
    let mut found = None;
    let mut level = Vec::new();
    for state in model.init_states() {
        let own = fingerprint(&state);
        // A state without a parent is its own.
        if search.parents.insert(own, own).is_none() {
            level.push((own, state));
        }
    }
    while !level.is_empty() && found.is_none() {
        let mut next = Vec::new();
        found = search.expand(&level, &mut next);
        level = next;
        depth += 1;
    }
    Report {
        states: search.parents.len() as u64,
        transitions: search.transitions,
        depth,
        time: start.elapsed(),
        counterexample: found.map(|(broken, last)| Counterexample { broken, steps: search.steps_to(last) }),
    }
}

struct Search<'a, M: Model> {
    model: &'a M,
    /// Each state that was reached, with the one from which it was reached first.
    parents: FingerprintMap<u64>,
    transitions: u64,
}

impl<M: Model> Search<'_, M> {
    /// Takes all steps out of the states of one depth, and adds the new states to `next`. Returns the first
    /// state in which an invariant does not hold.
    fn expand(
        &mut self,
        level: &[(u64, M::State)],
        next: &mut Vec<(u64, M::State)>,
    ) -> Option<(Invariant, u64)> {
        let mut actions = Vec::new();
        for (from, state) in level {
            actions.clear();
            self.model.actions(state, &mut actions);
            for &action in &actions {
                self.transitions += 1;
                let reached = self.model.next_state(state, action);
                let own = fingerprint(&reached);
                if let Entry::Vacant(entry) = self.parents.entry(own) {
                    entry.insert(*from);
                    if let Some(broken) = self.model.broken(&reached) {
                        return Some((broken, own));
                    }
                    next.push((own, reached));
                }
            }
        }
        None
    }

    /// Goes the way to a state again, for which only fingerprints were kept.
    fn steps_to(&self, last: u64) -> Vec<String> {
        let mut path = vec![last];
        while let Some(&parent) = self.parents.get(&path[path.len() - 1])
            && parent != path[path.len() - 1]
        {
            path.push(parent);
        }
        let first = path.pop().expect("a way has a first state");
        let mut state = self
            .model
            .init_states()
            .into_iter()
            .find(|state| fingerprint(state) == first)
            .expect("every way begins at an initial state");
        let mut steps = vec![self.model.show(&state)];
        let mut actions = Vec::new();
        for &own in path.iter().rev() {
            actions.clear();
            self.model.actions(&state, &mut actions);
            let (action, reached) = actions
                .iter()
                .map(|&action| (action, self.model.next_state(&state, action)))
                .find(|(_, reached)| fingerprint(reached) == own)
                .expect("a step led to each state");
            steps.push(format!("{action:?}\n    {}", self.model.show(&reached)));
            state = reached;
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two counters that are stepped to 3 each.
    struct Counters {
        sum: u8,
    }

    impl Model for Counters {
        type State = [u8; 2];
        type Action = usize;

        fn init_states(&self) -> Vec<[u8; 2]> {
            vec![[0, 0]]
        }

        fn actions(&self, state: &[u8; 2], actions: &mut Vec<usize>) {
            actions.extend((0..2).filter(|&index| state[index] < 3));
        }

        fn next_state(&self, state: &[u8; 2], action: usize) -> [u8; 2] {
            let mut next = *state;
            next[action] += 1;
            next
        }

        fn broken(&self, state: &[u8; 2]) -> Option<Invariant> {
            (state[0] + state[1] == self.sum).then_some(Invariant::Updates)
        }
    }

    #[test]
    fn reaches_every_state_once() {
        let report = explore(&Counters { sum: 7 });
        assert!(report.counterexample.is_none());
        assert_eq!((report.states, report.transitions), (16, 24));
        assert_eq!(report.depth, 7, "six steps, and a look for a seventh");
    }

    #[test]
    fn finds_a_shortest_counterexample() {
        let found = explore(&Counters { sum: 4 }).counterexample.unwrap();
        assert_eq!(found.broken, Invariant::Updates);
        assert_eq!(found.steps.len(), 5, "{:?}", found.steps);
        assert_eq!(found.steps[0], "[0, 0]");
    }
}
