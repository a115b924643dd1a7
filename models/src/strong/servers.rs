//! What servers do among themselves: they replicate, fail over and restart.

use super::config::{Acks, Strong, Without};
use super::state::{Action, Client, Data, NEVER, SERVERS, Server, State};

impl<const CLIENTS: usize> Strong<CLIENTS> {
    pub(super) fn server_actions(&self, state: &State<CLIENTS>, index: usize, actions: &mut Vec<Action>) {
        let server = &state.servers[index];
        if !server.alive {
            return;
        }
        if server.queued > 0 {
            actions.push(Action::Copy(index));
        }
        if server.follows > 0 && state.failovers < self.0.failovers {
            for (old_lives, other_stays) in [(false, false), (true, false), (true, true)] {
                if !old_lives || self.0.split {
                    actions.push(Action::Promote { server: index, old_lives, other_stays });
                }
            }
        }
        if server.primary && index == 0 && state.failovers > 0 && new_primary(state).is_some() {
            actions.push(Action::Demote(index));
        }
        if server.primary && state.restarts < self.0.restarts {
            actions.push(Action::Restart(index));
        }
    }

    /// Whether enough replicas have this write.
    pub(super) fn is_proved(&self, state: &State<CLIENTS>, server: usize, offset: u8) -> bool {
        if !state.servers[server].alive || !state.servers[server].primary {
            return false;
        }
        let acknowledged = |offset: u8| {
            let has = |other: &&Server| other.alive && other.is_replica_of(server) && other.copied >= offset;
            state.servers.iter().filter(has).count()
        };
        match self.0.acks {
            Acks::Declared(acks) if self.0.lacks(Without::SameConnection) => acknowledged(0) >= acks.into(),
            Acks::Declared(acks) => acknowledged(offset) >= acks.into(),
            Acks::Observed => acknowledged(offset) >= acknowledged(0),
        }
    }

    pub(super) fn promote(
        &self,
        state: &mut State<CLIENTS>,
        index: usize,
        old_lives: bool,
        other_stays: bool,
    ) {
        let old = state.servers[index].follows as usize - 1;
        let other = SERVERS - index - old;
        state.failovers += 1;
        let ready = state.now + self.0.failover_ticks;
        let server = &mut state.servers[index];
        // It goes on counting from the last write that it has.
        (server.primary, server.follows, server.ready) = (true, 0, ready);
        (server.written, server.copied) = (server.copied, 0);
        server.drop_queue();
        let (data, written) = (server.data, server.written);
        if !old_lives {
            state.servers[old].alive = false;
        }
        let other = &mut state.servers[other];
        if !other_stays && other.alive {
            *other = Server::synchronised(index, data, written, other.skew);
        }
    }

    pub(super) fn restart(&self, state: &mut State<CLIENTS>, index: usize) {
        state.restarts += 1;
        let ready = state.now + self.0.restart_ticks;
        let server = &mut state.servers[index];
        (server.data, server.ready) = (Data::default(), ready);
        server.written += 1;
        let written = server.written;
        for replica in state.servers.iter_mut().filter(|other| other.is_replica_of(index)) {
            (replica.data, replica.copied) = (Data::default(), written);
            replica.drop_queue();
        }
        for client in &mut state.clients {
            disconnect(client, index);
        }
    }
}

/// Makes a write at a primary, and sends it to its replicas. Returns its offset.
pub(super) fn write<const CLIENTS: usize>(state: &mut State<CLIENTS>, primary: usize, data: Data) -> u8 {
    state.servers[primary].data = data;
    state.servers[primary].written += 1;
    for replica in state.servers.iter_mut().filter(|other| other.is_replica_of(primary)) {
        replica.enqueue(data);
    }
    state.servers[primary].written
}

/// Makes an old primary, and its replicas, replicas of the new one.
pub(super) fn demote<const CLIENTS: usize>(state: &mut State<CLIENTS>, old: usize) {
    let new = new_primary(state).expect("only then an old primary learns of it");
    let Server { data, written, .. } = state.servers[new];
    for index in 0..SERVERS {
        let server = &mut state.servers[index];
        if index == old || server.is_replica_of(old) {
            *server = Server::synchronised(new, data, written, server.skew);
        }
    }
}

fn new_primary<const CLIENTS: usize>(state: &State<CLIENTS>) -> Option<usize> {
    (1..SERVERS).find(|&index| state.servers[index].primary && state.servers[index].alive)
}

/// A server restarts: no request of before is carried out, and no proof of before arrives.
fn disconnect(client: &mut Client, server: usize) {
    if client.awaits_proof(server) {
        client.offset = NEVER;
    }
    if client.awaits_extension(server) {
        client.extension_offset = NEVER;
    }
    for request in &mut client.requests {
        if *request as usize == server + 1 {
            *request = 0;
        }
    }
}
