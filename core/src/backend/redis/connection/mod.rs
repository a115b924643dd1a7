//! How do bytes travel? One pipelined connection: exchanges go in, and each gets every reply that was read,
//! and the reason why there are no more ([`exchanges`]). [`connect`] makes one, [`handshake`] logs in,
//! [`tasks`] read and write, and [`shared`] is the one without WAIT.

pub(crate) mod connect;
mod errors;
mod exchanges;
mod handshake;
pub(crate) mod messages;
mod read_buffer;
pub(crate) mod route;
pub(crate) mod shared;
mod stranger;
mod tasks;
#[cfg(test)]
mod tests;
pub(crate) mod timeout;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::exchanges::{PendingExchange, ReplyLimit, Shared};
pub(crate) use self::messages::Messages;
use self::route::{Membership, Route};
use super::protocol::decoder::Decoder;
use super::protocol::packer::Packer;

type ByteReader = Box<dyn AsyncRead + Send + Unpin>;
type ByteWriter = Box<dyn AsyncWrite + Send + Unpin>;

/// A connected stream of bytes.
pub(crate) struct Transport {
    pub reader: ByteReader,
    pub writer: ByteWriter,
    /// Whether bytes that the stream has not accepted have certainly not left. Not true of TLS, where a
    /// failing write may have sent records before.
    pub accepts_exactly: bool,
}

/// The replies of one exchange.
#[derive(Debug)]
pub(crate) struct Response {
    /// In the order of the commands. Fewer than expected only if `broken`. An error is the answer to its
    /// script: an echo has proved it.
    pub replies: Vec<Value>,
    pub broken: Option<Break>,
}

/// Why a connection gives no more replies.
#[derive(Debug, Clone)]
pub(crate) struct Break {
    /// Whether any byte of this exchange may have reached the server.
    pub sent: bool,
    /// For messages.
    pub why: Arc<str>,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// An exchange in flight.
pub(crate) type Exchange = oneshot::Receiver<Response>;

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
        let mut guard = self.shared.state.lock();
        let state = &mut *guard;
        if let Some(why) = state.broken.as_ref().or(state.retired.as_ref()) {
            return Err(Break { sent: false, why: Arc::clone(why) });
        }
        let before = state.outbound.len();
        let missing = state.packer.missing();
        pack(&mut state.packer, &mut state.outbound);
        debug_assert_eq!(missing + replies.iter().sum::<usize>(), state.packer.missing());
        let start = state.packed;
        state.packed += (state.outbound.len() - before) as u64;
        let limit = ReplyLimit { time: limit, due: Instant::now() + limit };
        let first = state.pending.is_empty();
        let exchanges = replies.map(|missing| {
            let (done, exchange) = oneshot::channel();
            let replies = Vec::with_capacity(missing);
            if missing == 0 {
                let _ = done.send(Response { replies, broken: None });
            } else {
                let (unproved, proving) = (0, false);
                state.pending.push_back(PendingExchange {
                    start,
                    missing,
                    replies,
                    unproved,
                    proving,
                    limit,
                    done,
                });
            }
            exchange
        });
        if first {
            self.shared.set_timeout(state);
        }
        drop(guard);
        self.shared.outbound.notify_one();
        Ok(exchanges)
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

impl Response {
    /// Of an exchange whose connection's tasks ended without a result, as when a runtime shuts down.
    fn lost() -> Self {
        Self {
            replies: Vec::new(),
            broken: Some(Break { sent: true, why: "the connection is closed".into() }),
        }
    }

    /// Of an exchange that was given up, on a connection that stays open.
    pub fn late(limit: Duration) -> Self {
        let why = format!("no reply within {} ms", limit.as_millis()).into();
        Self { replies: Vec::new(), broken: Some(Break { sent: true, why }) }
    }

    /// The only reply, or why there is none.
    pub fn single(self) -> Result<Value, Option<Break>> {
        self.replies.into_iter().next().ok_or(self.broken)
    }
}
