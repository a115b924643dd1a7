//! How do bytes travel? One pipelined connection: exchanges go in, and each gets every reply that was read,
//! and the reason why there are no more. [`connect`] makes one, [`handshake`] logs in, [`shared`] is the one
//! without WAIT.

pub(crate) mod connect;
mod errors;
mod handshake;
pub(crate) mod messages;
mod read_buffer;
pub(crate) mod route;
pub(crate) mod shared;
mod stranger;
#[cfg(test)]
mod tests;
pub(crate) mod timeout;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

pub(crate) use self::messages::Messages;
use self::read_buffer::ReadBuffer;
use self::route::{Membership, Retire, Route};
use self::stranger::{is_closed, not_redis};
use self::timeout::ResettableTimeout;
use super::protocol::decoder::{DecodeError, Decoder};
use super::protocol::expected::ExpectedReply;
use super::protocol::packer::Packer;
use super::protocol::refusals::is_wrong_server;
use super::protocol::values::error_text;
use crate::runtime::sync::Mutex;

/// What an unfinished reply may take unless its command is one that gets more. Those of scripts have at most
/// 65 short items.
const MAX_SHORT_REPLY: usize = 64 * 1024;
const TOO_LARGE: &str = "the server sent more than any reply can have";
/// A send buffer that grew beyond this in a burst is freed.
const KEEP_BUFFER: usize = 256 * 1024;

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

struct Shared {
    state: Mutex<State>,
    outbound: Notify,
    /// The time limit of the first pending exchange.
    timeout: ResettableTimeout,
}

struct State {
    packer: Packer,
    /// Packed and not yet given to the stream.
    outbound: Vec<u8>,
    /// Exchanges whose replies are still to come, in the order of their commands.
    pending: VecDeque<PendingExchange>,
    /// Bytes packed so far, and how many of them may have left.
    packed: u64,
    left: u64,
    /// Where published messages go; dropped when the connection breaks.
    messages: Option<Messages>,
    /// Whether the server has sent a reply yet.
    any_reply: bool,
    /// Until its generation is over.
    membership: Option<Membership>,
    /// Why the server is not the right one: nothing is sent any more.
    retired: Option<Arc<str>>,
    broken: Option<Arc<str>>,
    tasks: Vec<AbortHandle>,
}

struct PendingExchange {
    /// Position of its first byte in the stream of all bytes.
    start: u64,
    missing: usize,
    replies: Vec<Value>,
    /// How many of the last replies are errors in place of a script's reply. They have no echo, so a server
    /// may have sent them in addition to the replies.
    unproved: usize,
    /// All replies are there, and the missing one is an echo that proves the last of them.
    proving: bool,
    limit: ReplyLimit,
    done: oneshot::Sender<Response>,
}

/// How long the replies may take.
#[derive(Clone, Copy)]
struct ReplyLimit {
    time: Duration,
    due: Instant,
}

impl State {
    fn new(messages: Option<Messages>) -> Self {
        Self {
            packer: Packer::new(),
            outbound: Vec::new(),
            pending: VecDeque::new(),
            packed: 0,
            left: 0,
            messages,
            any_reply: false,
            membership: None,
            retired: None,
            broken: None,
            tasks: Vec::new(),
        }
    }
}

impl Connection {
    /// Starts its tasks. Without `messages`, published messages are not expected.
    pub fn start(transport: Transport, messages: Option<Messages>, decoder: Decoder) -> Self {
        let state = Mutex::new(State::new(messages));
        let shared = Shared { state, outbound: Notify::new(), timeout: ResettableTimeout::default() };
        let shared = Arc::new(shared);
        let reader = tokio::spawn(Arc::clone(&shared).read(transport.reader, decoder));
        let writer = tokio::spawn(Arc::clone(&shared).write(transport.writer, transport.accepts_exactly));
        let watch = tokio::spawn(Arc::clone(&shared).watch_limit());
        {
            let mut state = shared.state.lock();
            state.tasks = [reader, writer, watch].map(|task| task.abort_handle()).into();
            if state.broken.is_some() {
                // On a multi-threaded runtime one of them may have failed already, and ends by itself.
                state.tasks.drain(..).for_each(|task| task.abort());
            }
        }
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

impl Shared {
    async fn read(self: Arc<Self>, mut reader: ByteReader, mut decoder: Decoder) {
        let mut buffer = ReadBuffer::new();
        loop {
            match reader.read(buffer.space()).await {
                Ok(0) => return self.fail("the server closed the connection"),
                Ok(count) => buffer.filled(count),
                Err(error) if is_closed(&error) => return self.fail("the server closed the connection"),
                Err(error) => return self.fail(&format!("cannot read: {error}")),
            }
            let delivered = self.deliver_all(&mut decoder, &mut buffer);
            self.leave_wrong_server();
            if let Err(why) = delivered {
                return self.fail(&why);
            }
        }
    }

    /// Gives all replies that are there to their exchanges. Fails if the rest cannot be read.
    fn deliver_all(&self, decoder: &mut Decoder, buffer: &mut ReadBuffer) -> Result<(), String> {
        let mut state = self.state.lock();
        if state.broken.is_some() {
            // Closed by another thread meanwhile: no exchange is left.
            return Ok(());
        }
        let mut bytes = buffer.bytes();
        let before = bytes.len();
        loop {
            match decoder.decode(&mut bytes) {
                Ok(Some(value)) => {
                    state.any_reply = true;
                    self.deliver(&mut state, value)?;
                }
                Ok(None) => break,
                Err(DecodeError::TooLarge) => return Err(TOO_LARGE.to_owned()),
                Err(DecodeError::Malformed) if state.any_reply => {
                    return Err("the server sent bytes that are no reply".to_owned());
                }
                Err(DecodeError::Malformed) => return Err(not_redis(bytes)),
            }
        }
        let (used, left) = (before - bytes.len(), bytes.len());
        buffer.used(used);
        if decoder.cost() + left > MAX_SHORT_REPLY && !state.packer.expects_long_reply() {
            return Err(TOO_LARGE.to_owned());
        }
        Ok(())
    }

    /// Ends the generation of this connection if its server has said that it is not the right one.
    fn leave_wrong_server(&self) {
        let (why, membership) = {
            let mut state = self.state.lock();
            let Some(why) = state.retired.clone() else { return };
            (why, state.membership.take())
        };
        if let Some(membership) = membership {
            membership.leave(&why);
        }
        self.retire(&why);
    }

    /// Gives a reply to the first pending exchange. Fails if it cannot be for that: then it is not known
    /// which of the following replies belongs to which command.
    fn deliver(&self, state: &mut State, value: Value) -> Result<(), String> {
        let value = match &state.messages {
            Some(messages) => match messages.take(value) {
                Some(value) => value,
                None => return Ok(()),
            },
            None => value,
        };
        let Some(expected) = state.packer.next_expected() else {
            // A server that closes sometimes says why first, for example that it has too many clients.
            return Err(match value {
                Value::ServerError(error) => format!("the server said: {}", error_text(&error)),
                _ => "the server sent a reply without a request".to_owned(),
            });
        };
        let Some(reply) = expected.accept(value) else {
            return Err("the server sent a reply that is not the answer to the command".to_owned());
        };
        if state.membership.is_some() && state.retired.is_none() {
            state.retired = wrong_server(&reply);
        }
        let first = state.pending.front_mut().expect("an exchange expects this reply");
        first.missing -= 1;
        if first.proving {
            first.unproved = 0;
        } else {
            let unproved =
                matches!((expected, &reply), (ExpectedReply::Script { .. }, Value::ServerError(_)));
            first.unproved = if unproved { first.unproved + 1 } else { 0 };
            first.replies.push(reply);
        }
        if first.missing == 0 {
            let exchange = state.pending.pop_front().expect("front_mut found it above");
            if exchange.unproved > 0 {
                self.prove(state, exchange);
            } else {
                // The caller may be gone.
                let _ = exchange.done.send(Response { replies: exchange.replies, broken: None });
            }
            self.set_timeout(state);
        }
        Ok(())
    }

    /// Sends an echo behind everything that was sent, and keeps the exchange until it is back. If its last
    /// error was one reply too many, the script's reply comes instead: the connection breaks, and what the
    /// script did is unknown. Otherwise a grant could be taken for a refusal, and stay.
    fn prove(&self, state: &mut State, mut exchange: PendingExchange) {
        let before = state.outbound.len();
        state.packer.echo(&mut state.outbound);
        state.packed += (state.outbound.len() - before) as u64;
        (exchange.missing, exchange.proving) = (1, true);
        // Not before those in front of it, which may have more time.
        if let Some(last) = state.pending.back() {
            exchange.limit.due = exchange.limit.due.max(last.limit.due);
        }
        state.pending.push_back(exchange);
        self.outbound.notify_one();
    }

    /// Sets the timeout to the limit of the first pending exchange.
    fn set_timeout(&self, state: &State) {
        match state.pending.front() {
            Some(first) => self.timeout.set(first.limit.due),
            None => self.timeout.clear(),
        }
    }

    async fn watch_limit(self: Arc<Self>) {
        loop {
            self.timeout.elapsed().await;
            let first = self.state.lock().pending.front().map(|first| first.limit);
            // Its reply may have just come, and the next exchange has time left.
            if let Some(limit) = first.filter(|limit| limit.due <= Instant::now()) {
                return self.fail(&format!("no reply within {} ms", limit.time.as_millis()));
            }
        }
    }

    async fn write(self: Arc<Self>, mut writer: ByteWriter, accepts_exactly: bool) {
        let mut bytes = Vec::new();
        loop {
            self.outbound.notified().await;
            let mut from = 0;
            {
                let mut state = self.state.lock();
                std::mem::swap(&mut state.outbound, &mut bytes);
                if !accepts_exactly {
                    state.left += bytes.len() as u64;
                }
            }
            while from < bytes.len() {
                match writer.write(&bytes[from..]).await {
                    Ok(0) => return self.fail("the connection accepts no more bytes"),
                    Ok(count) => {
                        from += count;
                        if accepts_exactly {
                            self.state.lock().left += count as u64;
                        }
                    }
                    Err(error) => return self.fail(&format!("cannot write: {error}")),
                }
            }
            if let Err(error) = writer.flush().await {
                return self.fail(&format!("cannot write: {error}"));
            }
            bytes.clear();
            if bytes.capacity() > KEEP_BUFFER {
                bytes = Vec::new();
            }
        }
    }

    /// It broke, which may mean that the server was replaced.
    fn fail(&self, why: &str) {
        let membership = self.state.lock().membership.take();
        if let Some(membership) = membership {
            membership.route.doubt(why);
        }
        self.break_off(why);
    }

    fn break_off(&self, why: &str) {
        let (pending, tasks, left, why) = {
            let mut state = self.state.lock();
            if state.broken.is_some() {
                return;
            }
            let why: Arc<str> = why.into();
            state.broken = Some(Arc::clone(&why));
            state.outbound = Vec::new();
            state.messages = None;
            (std::mem::take(&mut state.pending), std::mem::take(&mut state.tasks), state.left, why)
        };
        // Closes both halves; the calling task ends by itself or at its next await.
        tasks.iter().for_each(AbortHandle::abort);
        for PendingExchange { start, mut replies, unproved, done, .. } in pending {
            replies.truncate(replies.len() - unproved);
            let broken = Some(Break { sent: left > start, why: Arc::clone(&why) });
            let _ = done.send(Response { replies, broken });
        }
    }
}

impl Retire for Shared {
    fn retire(&self, why: &Arc<str>) {
        let idle = {
            let mut state = self.state.lock();
            state.retired.get_or_insert_with(|| Arc::clone(why));
            state.pending.is_empty()
        };
        if idle {
            self.break_off(why);
        }
    }

    fn cut(&self, why: &Arc<str>) {
        self.state.lock().retired.get_or_insert_with(|| Arc::clone(why));
        self.break_off(why);
    }
}

/// Why a reply means that its server is not the right one.
fn wrong_server(reply: &Value) -> Option<Arc<str>> {
    let said = match reply {
        Value::ServerError(error) => Some(error).filter(|error| is_wrong_server(error)),
        Value::Array(items) => items.iter().find_map(|item| match item {
            Value::ServerError(error) if is_wrong_server(error) => Some(error),
            _ => None,
        }),
        _ => None,
    };
    said.map(|error| format!("this is not the right server any more: {}", error_text(error)).into())
}
