//! How do bytes travel? One pipelined connection: exchanges go in, and each gets every reply that was read,
//! and the reason why there are no more ([`exchanges`]). [`connect`] makes one and logs in,
//! [`tasks`] read and write, or its callers and their event loop do ([`inline`]). [`shared`] is the one
//! without WAIT.

pub(crate) mod connect;
mod exchanges;
#[cfg(unix)]
mod inline;
mod login;
mod login_watch;
pub(crate) mod messages;
mod retirement;
pub(crate) mod route;
pub(crate) mod server_clocks;
pub(crate) mod shared;
mod tasks;
#[cfg(test)]
mod tests;
pub(crate) mod timeout;

use std::sync::Arc;
use std::time::Duration;

use self::exchanges::Shared;
pub(crate) use self::exchanges::{Break, Exchange, Response};
#[cfg(unix)]
pub(crate) use self::inline::socket::Socket;
pub(crate) use self::messages::Messages;
use self::route::{Membership, Route};
pub(crate) use self::tasks::Transport;
use super::protocol::decoder::Decoder;
use super::protocol::packer::Packer;
use crate::backend::connections::{Change, Connections, Server};

/// A connection to one server. Tasks own its halves, so that a dropped caller never leaves half a command or
/// half a reply behind. Dropping it closes it.
pub(crate) struct Connection {
    shared: Arc<Shared>,
}

impl Connection {
    /// Starts its tasks. Without `messages`, published messages are not expected.
    pub fn start(transport: Transport, messages: Option<Messages>, decoder: Decoder) -> Self {
        let shared = Arc::new(Shared::new(messages));
        shared.start_tasks(transport, decoder);
        Self { shared }
    }

    /// Whether it is usable, as far as is known. A server that went away while the connection was idle is
    /// noticed, because the reader is always reading.
    pub fn is_open(&self) -> bool {
        let state = self.shared.state.lock();
        state.broken.is_none() && state.retired.is_none()
    }

    /// Joins the connections of a generation. `false`: it is over.
    pub fn join(&self, route: &Arc<Route>, generation: u64, run_id: Option<Arc<str>>) -> bool {
        let Some(generation) = route.add(&self.shared, generation, run_id) else { return false };
        let membership = Membership { route: Arc::clone(route), generation };
        self.shared.state.lock().membership = Some(membership);
        true
    }

    /// Is counted among these connections until it ends.
    pub fn count(&self, connections: &Arc<Connections>, server: Server, has_all: bool) {
        if !self.is_open() {
            return;
        }
        let counted = connections.opened(server, has_all);
        let mut state = self.shared.state.lock();
        match state.broken.clone() {
            None => state.counted = Some(counted),
            // Meanwhile.
            Some(why) => {
                drop(state);
                counted.end(Change::Broken, &why);
            }
        }
    }

    /// The server is not the right one: sends nothing to it any more, on any connection.
    pub fn leave_server(&self, why: &str) {
        self.shared.state.lock().retired.get_or_insert_with(|| why.into());
        self.shared.leave_wrong_server();
    }

    /// Why replies of this server prove nothing any more; `None` as long as it is the right one.
    pub fn retired(&self) -> Option<Arc<str>> {
        self.shared.state.lock().retired.clone()
    }

    /// Sends what `pack` appends, as one exchange for each number of replies, which may be 0. All bytes
    /// packed before the writer gets to run leave in one write. An error means that nothing was sent.
    ///
    /// If the replies take longer than `limit`, the connection is closed and never used again: otherwise a
    /// late reply could be taken for the reply to another command.
    pub fn send<const N: usize>(
        &self,
        replies: [usize; N],
        limit: Duration,
        pack: impl FnOnce(&mut Packer, &mut Vec<u8>),
    ) -> Result<[Exchange; N], Break> {
        self.shared.send(replies, limit, pack)
    }

    /// The replies of an exchange.
    pub async fn receive(&self, exchange: Exchange) -> Response {
        exchange.await.unwrap_or_else(|_| Response::lost())
    }

    /// Closes the connection; exchanges in flight end with the replies they have.
    pub fn close(&self, why: &str) {
        self.shared.break_off(why);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close("the connection was dropped");
    }
}
