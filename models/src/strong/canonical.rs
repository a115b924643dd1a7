//! Forgets what can make no difference any more, so that states that behave alike are one.

use super::config::{Checks, Strong, Without};
use super::state::{Data, NEVER, SERVERS, Server, State};
use crate::ticks::EPOCH;

impl<const CLIENTS: usize> Strong<CLIENTS> {
    pub(super) fn canonicalise(&self, state: &mut State<CLIENTS>) {
        self.forget_what_is_over(state);
        rebase_offsets(state);
        self.forget_idle_deletions(state);
        forget_used_tickets(state);
        forget_the_dead(state);
        if self.0.checks == Checks::All {
            // That tokens differ follows from their order.
            state.tokens = 0;
        }
    }

    /// A lease that is over by every clock, and a token that every clock is ahead of.
    fn forget_what_is_over(&self, state: &mut State<CLIENTS>) {
        let least = state.servers.iter().map(|server| server.skew).min().unwrap_or(0);
        let slowest = state.now + EPOCH + least;
        let counted = self.0.lacks(Without::Clock);
        let forget = |data: &mut Data| {
            if data.until <= slowest {
                (data.lock, data.until) = (0, 0);
            }
            if !counted && data.fence < slowest {
                data.fence = 0;
            }
        };
        for server in &mut state.servers {
            forget(&mut server.data);
            server.pending_mut().iter_mut().for_each(forget);
            if server.ready <= state.now {
                server.ready = 0;
            }
        }
    }

    /// A deletion of what is not there and cannot come any more.
    fn forget_idle_deletions(&self, state: &mut State<CLIENTS>) {
        let compared = !self.0.lacks(Without::ComparedDelete);
        for index in 0..CLIENTS {
            for attempt in 0..state.clients[index].started {
                let owner = self.owner(index, attempt);
                let pending = state.clients[index].requests[attempt as usize] != 0;
                let stored = state.servers.iter().any(|server| server.data.lock == owner);
                for at in 0..SERVERS {
                    let server = &state.servers[at];
                    let comes = stored || pending || server.pending().iter().any(|data| data.lock == owner);
                    if (!comes && compared) || !server.alive {
                        state.clients[index].deletions[attempt as usize][at] = false;
                    }
                }
            }
        }
    }
}

/// Counts writes from what all replicas have and no client waits for.
fn rebase_offsets<const CLIENTS: usize>(state: &mut State<CLIENTS>) {
    for primary in 0..SERVERS {
        if !state.servers[primary].primary {
            continue;
        }
        let replicas = state.servers.iter().filter(|server| server.alive && server.is_replica_of(primary));
        let grants = state.clients.iter().filter(|client| client.awaits_proof(primary));
        let extensions = state.clients.iter().filter(|client| client.awaits_extension(primary));
        let base = replicas
            .map(|server| server.copied)
            .chain(grants.map(|client| client.offset))
            .chain(extensions.map(|client| client.extension_offset))
            .fold(state.servers[primary].written, u8::min);
        if base == 0 {
            continue;
        }
        state.servers[primary].written -= base;
        for replica in state.servers.iter_mut().filter(|server| server.is_replica_of(primary)) {
            replica.copied -= base;
        }
        for client in &mut state.clients {
            if client.awaits_proof(primary) && client.offset != NEVER {
                client.offset -= base;
            }
            if client.awaits_extension(primary) && client.extension_offset != NEVER {
                client.extension_offset -= base;
            }
        }
    }
}

/// A ticket whose lease is nowhere, nor can come back.
fn forget_used_tickets<const CLIENTS: usize>(state: &mut State<CLIENTS>) {
    for client in &mut state.clients {
        for attempt in 0..client.adopted.len() {
            let over = client.requests[attempt] == 0 && client.deletions[attempt] == [false; SERVERS];
            if over && !client.is_under_way(attempt) {
                client.adopted[attempt] = 0;
            }
        }
    }
    let mut adopted = state.clients.iter().flat_map(|client| client.adopted);
    let is_stored = |server: &Server| {
        server.alive && server.pending().iter().chain([&server.data]).any(|data| data.lock == state.ticket)
    };
    if !adopted.any(|owner| owner == state.ticket) && !state.servers.iter().any(is_stored) {
        state.ticket = 0;
    }
}

fn forget_the_dead<const CLIENTS: usize>(state: &mut State<CLIENTS>) {
    for dead in 0..SERVERS {
        if state.servers[dead].alive {
            continue;
        }
        state.servers[dead] = Server::default();
        for request in state.clients.iter_mut().flat_map(|client| &mut client.requests) {
            if *request as usize == dead + 1 {
                *request = 0;
            }
        }
    }
}
