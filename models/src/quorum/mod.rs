//! The quorum strategy for one resource: clients, nodes, and a network that delays forever, loses and, unless
//! configured otherwise, reorders. A token is in the unit of the clocks, as in the product.

mod canonical;
mod client;
mod config;
mod network;
pub mod node;
mod rounds;
mod rows;
mod state;

use crate::check::Model;
use crate::invariant::Invariant;

pub use self::config::{Checks, Clients, Config, Memory, Quorum, Without};
pub use self::rows::ROWS;
pub use self::state::{Action, State};
use self::state::{Client, Link, Node, Phase};

impl<const CLIENTS: usize, const NODES: usize> Quorum<CLIENTS, NODES> {
    /// Whether there will be no lease any more.
    fn is_over(&self, state: &State<CLIENTS, NODES>) -> bool {
        let used_up = state.started() == self.0.total;
        state
            .clients
            .iter()
            .all(|client| client.phase == Phase::Idle && (client.started == self.0.attempts || used_up))
    }

    /// Whether a node is locked that no client will release.
    fn is_left_behind(state: &State<CLIENTS, NODES>) -> bool {
        state.clients.iter().all(|client| client.phase == Phase::Idle)
            && state.nodes.iter().all(|node| node.links.iter().all(|link| link.requests == 0))
            && state.nodes.iter().any(|node| node.lock != 0)
    }
}

impl<const CLIENTS: usize, const NODES: usize> Model for Quorum<CLIENTS, NODES> {
    type State = State<CLIENTS, NODES>;
    type Action = Action;

    fn init_states(&self) -> Vec<Self::State> {
        let mut states = Vec::new();
        for clients in &self.0.client_skews {
            for nodes in &self.0.node_skews {
                let mut state = State {
                    now: 0,
                    nodes: std::array::from_fn(|index| Node {
                        lock: 0,
                        until: 0,
                        fence: self.0.first_fence,
                        restarted: 0,
                        skew: nodes[index],
                        home: index == 0 && self.0.is_exact(),
                        links: [Link::default(); CLIENTS],
                    }),
                    clients: std::array::from_fn(|index| Client {
                        skew: clients[index],
                        ..Client::default()
                    }),
                    tokens: 0,
                    highest: 0,
                    crashes: 0,
                    broken: None,
                };
                self.canonicalise(&mut state);
                states.push(state);
            }
        }
        states
    }

    fn actions(&self, state: &Self::State, actions: &mut Vec<Action>) {
        if self.is_over(state) && !self.0.checks_release {
            return;
        }
        if state.now < self.0.horizon {
            actions.push(Action::Tick);
        }
        for client in 0..CLIENTS {
            self.client_actions(state, client, actions);
            self.message_actions(state, client, actions);
        }
        self.node_actions(state, actions);
    }

    fn next_state(&self, state: &Self::State, action: Action) -> Self::State {
        let mut next = state.clone();
        match action {
            Action::Tick => self.tick(&mut next),
            Action::Start(index) => self.start(&mut next, index),
            Action::ProposeAgain(index) => self.propose_again(&mut next, index),
            Action::LosePatience(index) => self.act(&mut next, index, true),
            Action::Fail(index) => self.fail(&mut next, index),
            Action::Release(index) => Self::end(&mut next, index, true),
            Action::Extend(index) => self.extend(&mut next, index),
            Action::Deliver { client, node, request } => self.deliver(&mut next, client, node, request),
            Action::Answer { client, node, round } => self.receive(&mut next, client, node, round),
            Action::ExtensionAnswer { client, node } => self.receive_extension(&mut next, client, node),
            Action::Crash { node, fence } => self.crash(&mut next, node, fence),
            Action::EndEarly(node) => next.nodes[node].free(),
        }
        self.canonicalise(&mut next);
        next
    }

    fn broken(&self, state: &Self::State) -> Option<Invariant> {
        if state.broken.is_some() {
            return state.broken;
        }
        if self.0.checks_exclusion() {
            let valid = || state.clients.iter().filter(|client| client.has_valid_lease(state.now));
            if valid().count() > 1 {
                return Some(Invariant::Exclusion);
            }
            if self.0.checks_tokens() && valid().any(|client| client.token < state.highest) {
                return Some(Invariant::Order);
            }
        }
        (self.0.checks_release && Self::is_left_behind(state)).then_some(Invariant::Released)
    }

    fn show(&self, state: &Self::State) -> String {
        state.line()
    }
}
