//! The strong strategy: one primary, two replicas that copy it asynchronously, WAIT, failovers.

mod canonical;
mod clients;
mod config;
mod hand_over;
mod rows;
mod servers;
mod state;

use crate::check::Model;
use crate::invariant::Invariant;

pub use self::config::{Acks, Checks, Config, Strong, Without};
pub use self::rows::ROWS;
use self::servers::demote;
pub use self::state::{Action, State};
use self::state::{Client, Data, Extension, Phase, SERVERS, Server};

impl<const CLIENTS: usize> Strong<CLIENTS> {
    fn is_over(&self, state: &State<CLIENTS>) -> bool {
        let used_up = state.started() == self.0.total;
        state
            .clients
            .iter()
            .all(|client| client.phase == Phase::Idle && (client.started == self.0.attempts || used_up))
    }

    fn tick(state: &mut State<CLIENTS>) {
        state.now += 1;
        for client in &mut state.clients {
            if client.phase == Phase::Holding && state.now >= client.deadline {
                client.end(true);
            }
        }
    }

    fn apply(&self, next: &mut State<CLIENTS>, action: Action) {
        match action {
            Action::Tick => Self::tick(next),
            Action::Send { client, to } => self.send(next, client, to),
            Action::HandOver(index) => self.hand_over(next, index),
            Action::Adopt { client, to } => self.send_adoption(next, client, to),
            Action::GiveBack { client, attempt, at } => self.give_back(next, client, attempt, at),
            Action::Execute { client, attempt } => self.execute(next, client, attempt),
            Action::FetchToken { client, at } => self.fetch_token(next, client, at),
            Action::Delete { client, attempt, at } => self.delete(next, client, attempt, at),
            Action::Prove(index) => {
                let client = &mut next.clients[index];
                (client.phase, client.offset, client.server) = (Phase::Proved, 0, 0);
            }
            Action::Receive(index) => self.receive(next, index),
            Action::TooFew(index) | Action::Fail(index) | Action::Release(index) => {
                next.clients[index].end(true);
            }
            Action::Extend { client, to } => Self::extend(next, client, to),
            Action::ExecuteExtension(index) => self.execute_extension(next, index),
            Action::ProveExtension(index) => next.clients[index].extension = Extension::Proved,
            Action::ReceiveExtension(index) => self.receive_extension(next, index),
            Action::Copy(server) => next.servers[server].copy_next(),
            Action::Promote { server, old_lives, other_stays } => {
                self.promote(next, server, old_lives, other_stays);
            }
            Action::Demote(server) => demote(next, server),
            Action::Restart(server) => self.restart(next, server),
        }
    }
}

impl<const CLIENTS: usize> Model for Strong<CLIENTS> {
    type State = State<CLIENTS>;
    type Action = Action;

    fn init_states(&self) -> Vec<Self::State> {
        let server = |index: usize, skew: u8| Server {
            alive: true,
            primary: index == 0,
            follows: u8::from(index > 0),
            data: Data { fence: self.0.first_fence, ..Data::default() },
            skew,
            ..Server::default()
        };
        self.0
            .skews
            .iter()
            .map(|skews| State {
                now: 0,
                servers: std::array::from_fn::<_, SERVERS, _>(|index| server(index, skews[index])),
                clients: [Client::default(); CLIENTS],
                ticket: 0,
                tokens: 0,
                highest: 0,
                failovers: 0,
                restarts: 0,
                broken: None,
            })
            .collect()
    }

    fn actions(&self, state: &Self::State, actions: &mut Vec<Action>) {
        if self.is_over(state) {
            return;
        }
        if state.now < self.0.horizon {
            actions.push(Action::Tick);
        }
        for client in 0..CLIENTS {
            self.client_actions(state, client, actions);
        }
        for server in 0..SERVERS {
            self.server_actions(state, server, actions);
        }
    }

    fn next_state(&self, state: &Self::State, action: Action) -> Self::State {
        let mut next = state.clone();
        self.apply(&mut next, action);
        self.canonicalise(&mut next);
        next
    }

    fn broken(&self, state: &Self::State) -> Option<Invariant> {
        if state.broken.is_some() || !self.0.checks_exclusion() {
            return state.broken;
        }
        let valid = || state.clients.iter().filter(|client| client.has_valid_lease(state.now));
        if valid().count() > 1 {
            return Some(Invariant::Exclusion);
        }
        let overtaken = valid().any(|client| client.token < state.highest);
        (self.0.checks_tokens() && overtaken).then_some(Invariant::Order)
    }

    fn show(&self, state: &Self::State) -> String {
        state.line()
    }
}
