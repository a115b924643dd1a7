//! Leases that are handed over: the ticket, its adoption, and how one that was not proved is undone.

use super::config::{Strong, Without};
use super::servers::write;
use super::state::{Data, State};

impl<const CLIENTS: usize> Strong<CLIENTS> {
    /// Nothing is sent: the lease lives by what is left of its TTL.
    pub(super) fn hand_over(&self, state: &mut State<CLIENTS>, index: usize) {
        state.ticket = self.owner(index, state.clients[index].attempt());
        if !self.0.lacks(Without::EndedHandle) {
            state.clients[index].end(false);
        }
    }

    pub(super) fn send_adoption(&self, state: &mut State<CLIENTS>, index: usize, to: usize) {
        let ticket = state.ticket;
        self.send(state, index, to);
        let client = &mut state.clients[index];
        client.adopted[client.attempt() as usize] = ticket;
    }

    /// The old owner gets the lease back, until when it is.
    pub(super) fn give_back(&self, state: &mut State<CLIENTS>, index: usize, attempt: u8, at: usize) {
        let client = &mut state.clients[index];
        client.deletions[attempt as usize][at] = false;
        let lock = client.adopted[attempt as usize];
        let data = state.servers[at].data;
        let matches = data.lock == self.owner(index, attempt)
            || (self.0.lacks(Without::ComparedGiveBack) && data.lock != 0);
        if state.servers[at].primary && matches {
            write(state, at, Data { lock, ..data });
        }
    }
}
