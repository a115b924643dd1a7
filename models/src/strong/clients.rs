//! What clients do: they ask for a lease, release it, and give up.

use super::config::{Checks, Strong, Without};
use super::servers::write;
use super::state::{Action, Client, Data, Extension, Phase, SERVERS, State};
use crate::invariant::Invariant;
use crate::ticks::{deadline, next_token};

impl<const CLIENTS: usize> Strong<CLIENTS> {
    pub(super) fn client_actions(&self, state: &State<CLIENTS>, index: usize, actions: &mut Vec<Action>) {
        let client = &state.clients[index];
        let primaries = || (0..SERVERS).filter(|&at| state.servers[at].takes_requests(state.now));
        if self.may_start(state, index) {
            actions.extend(primaries().map(|to| Action::Send { client: index, to }));
            if state.ticket != 0 {
                actions.extend(primaries().map(|to| Action::Adopt { client: index, to }));
            }
        }
        for attempt in 0..client.started {
            if client.requests[attempt as usize] != 0 {
                actions.push(Action::Execute { client: index, attempt });
            }
            let deletions = client.deletions[attempt as usize];
            let at = || (0..SERVERS).filter(|&at| deletions[at]);
            actions.extend(at().map(|at| Action::Delete { client: index, attempt, at }));
            if client.adopted[attempt as usize] != 0 {
                actions.extend(at().map(|at| Action::GiveBack { client: index, attempt, at }));
            }
        }
        let waited = state.now > client.sent;
        match client.phase {
            Phase::Sent if waited => actions.push(Action::Fail(index)),
            Phase::Idle | Phase::Sent => {}
            Phase::Locked => {
                actions.extend(primaries().map(|at| Action::FetchToken { client: index, at }));
                if waited {
                    actions.push(Action::Fail(index));
                }
            }
            Phase::Granted => {
                if self.is_proved(state, client.server.into(), client.offset) {
                    actions.push(Action::Prove(index));
                }
                if waited {
                    actions.push(Action::TooFew(index));
                }
            }
            Phase::Proved => actions.push(Action::Receive(index)),
            Phase::Holding => {
                actions.push(Action::Release(index));
                if self.0.hands_over && state.ticket == 0 && client.extension == Extension::Idle {
                    actions.push(Action::HandOver(index));
                }
                self.extension_actions(state, index, actions);
            }
        }
    }

    fn may_start(&self, state: &State<CLIENTS>, index: usize) -> bool {
        let client = &state.clients[index];
        client.phase == Phase::Idle
            && client.started < self.0.attempts
            && state.started() < self.0.total
            // Clients are alike, so they begin in their order.
            && (index == 0 || state.clients[index - 1].started > 0)
    }

    fn extension_actions(&self, state: &State<CLIENTS>, index: usize, actions: &mut Vec<Action>) {
        let client = &state.clients[index];
        match client.extension {
            Extension::Idle if client.extensions < self.0.extensions => {
                let primaries = (0..SERVERS).filter(|&at| state.servers[at].takes_requests(state.now));
                actions.extend(primaries.map(|to| Action::Extend { client: index, to }));
            }
            Extension::Idle => {}
            Extension::Sent => {
                if state.servers[client.extension_server as usize].alive {
                    actions.push(Action::ExecuteExtension(index));
                }
            }
            Extension::Done => {
                if self.is_proved(state, client.extension_server.into(), client.extension_offset) {
                    actions.push(Action::ProveExtension(index));
                }
            }
            Extension::Proved => actions.push(Action::ReceiveExtension(index)),
        }
    }

    pub(super) fn send(&self, state: &mut State<CLIENTS>, index: usize, to: usize) {
        let floor = if self.0.checks_exclusion() { 0 } else { state.highest };
        let client = &mut state.clients[index];
        client.requests[client.started as usize] = to as u8 + 1;
        client.started += 1;
        (client.phase, client.server, client.sent) = (Phase::Sent, to as u8, state.now);
        client.floor = floor;
    }

    pub(super) fn execute(&self, state: &mut State<CLIENTS>, index: usize, attempt: u8) {
        let client = &mut state.clients[index];
        let from = client.adopted[attempt as usize];
        let current = client.phase == Phase::Sent && client.attempt() == attempt;
        let at = client.requests[attempt as usize] as usize - 1;
        client.requests[attempt as usize] = 0;
        let server = state.servers[at];
        let clock = state.clock(at);
        let free = server.data.lock == 0 || clock >= server.data.until;
        let may_write = match from {
            0 => free,
            _ if self.0.lacks(Without::ComparedOwner) => !free,
            _ => !free && server.data.lock == from,
        };
        if server.primary && may_write {
            let two_commands = self.0.lacks(Without::OneCommand);
            let token = if two_commands { 0 } else { self.token(state, at) };
            let data = Data {
                lock: self.owner(index, attempt),
                until: clock + self.0.ttl,
                fence: server.data.fence.max(token),
            };
            let offset = write(state, at, data);
            if current {
                let client = &mut state.clients[index];
                client.phase = if two_commands { Phase::Locked } else { Phase::Granted };
                (client.offset, client.token) = (offset, token);
            }
        } else if current {
            state.clients[index].end(false);
        }
    }

    pub(super) fn fetch_token(&self, state: &mut State<CLIENTS>, index: usize, at: usize) {
        let fence = self.token(state, at);
        let data = Data { fence, ..state.servers[at].data };
        let offset = write(state, at, data);
        let client = &mut state.clients[index];
        (client.phase, client.server) = (Phase::Granted, at as u8);
        (client.offset, client.token) = (offset, fence);
    }

    pub(super) fn delete(&self, state: &mut State<CLIENTS>, index: usize, attempt: u8, at: usize) {
        state.clients[index].deletions[attempt as usize][at] = false;
        let Data { lock, fence, .. } = state.servers[at].data;
        let matches =
            lock == self.owner(index, attempt) || (self.0.lacks(Without::ComparedDelete) && lock != 0);
        if state.servers[at].primary && matches {
            write(state, at, Data { lock: 0, until: 0, fence });
        }
    }

    pub(super) fn receive(&self, state: &mut State<CLIENTS>, index: usize) {
        let client = state.clients[index];
        let from_reply = self.0.lacks(Without::DeadlineFromSending);
        let deadline = self.deadline(if from_reply { state.now } else { client.sent });
        if state.now >= deadline && !self.0.lacks(Without::DiscardedLateGrants) {
            return state.clients[index].end(true);
        }
        state.broken = self.misgranted(state, index, &client);
        state.tokens |= 1 << client.token;
        state.highest = state.highest.max(client.token);
        let client = &mut state.clients[index];
        (client.phase, client.deadline) = (Phase::Holding, deadline);
        (client.server, client.offset, client.sent) = (0, 0, 0);
    }

    /// What is wrong with a grant.
    fn misgranted(&self, state: &State<CLIENTS>, index: usize, client: &Client) -> Option<Invariant> {
        if self.0.checks == Checks::Fenced {
            return self.fences_out_the_holder(state, index).then_some(Invariant::Fenced);
        }
        if !self.0.checks_tokens() {
            None
        } else if state.tokens >> client.token & 1 == 1 {
            Some(Invariant::Unique)
        } else if client.token <= client.floor {
            Some(Invariant::Rising)
        } else if self.0.checks_exclusion() && client.token <= state.highest {
            Some(Invariant::Sorted)
        } else {
            None
        }
    }

    /// Whether a primary has another client's valid lease, which has a lower token, and none has this one's.
    fn fences_out_the_holder(&self, state: &State<CLIENTS>, index: usize) -> bool {
        let is_stored = |of: usize| {
            let owner = self.owner(of, state.clients[of].attempt());
            state.servers.iter().any(|server| server.alive && server.primary && server.data.lock == owner)
        };
        (0..CLIENTS).any(|other| {
            let client = &state.clients[other];
            other != index
                && client.has_valid_lease(state.now)
                && client.token < state.clients[index].token
                && is_stored(other)
                && !is_stored(index)
        })
    }

    pub(super) fn extend(state: &mut State<CLIENTS>, index: usize, to: usize) {
        let client = &mut state.clients[index];
        client.extensions += 1;
        (client.extension, client.extension_server) = (Extension::Sent, to as u8);
        client.extension_sent = state.now;
    }

    pub(super) fn execute_extension(&self, state: &mut State<CLIENTS>, index: usize) {
        let client = state.clients[index];
        let at = client.extension_server as usize;
        let server = state.servers[at];
        let clock = state.clock(at);
        let mine = server.data.lock == self.owner(index, client.attempt()) && clock < server.data.until;
        if !server.primary || !mine {
            // The lease is lost.
            return state.clients[index].end(true);
        }
        let until = server.data.until.max(clock + self.0.ttl);
        let offset = write(state, at, Data { until, ..server.data });
        let unproved = self.0.lacks(Without::ProvedExtension);
        let client = &mut state.clients[index];
        client.extension_offset = offset;
        client.extension = if unproved { Extension::Proved } else { Extension::Done };
    }

    pub(super) fn receive_extension(&self, state: &mut State<CLIENTS>, index: usize) {
        let client = &mut state.clients[index];
        client.deadline = client.deadline.max(self.deadline(client.extension_sent));
        client.extension = Extension::Idle;
        (client.extension_server, client.extension_offset, client.extension_sent) = (0, 0, 0);
    }

    fn deadline(&self, sent: u8) -> u8 {
        deadline(sent, self.0.ttl) - self.0.drift
    }

    /// The next token of a primary.
    fn token(&self, state: &State<CLIENTS>, at: usize) -> u8 {
        let clock = if self.0.lacks(Without::Clock) { 0 } else { state.clock(at) };
        next_token(state.servers[at].data.fence, clock)
    }
}
