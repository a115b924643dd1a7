//! One pipelined connection: exchanges go in, each gets every reply that was read, and why there are no more.

pub(crate) mod connect;
pub(crate) mod shared;
pub(crate) mod timeout;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use combine::stream::Decoder;
use redis::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::timeout::Alarm;
use super::protocol::scripts::Packer;
use super::protocol::values::error_text;

/// Replies are small; this many bytes are a few hundred of them.
const READ_BUFFER: usize = 16 * 1024;
/// A send buffer that grew beyond this in a burst is given back.
const KEEP_BUFFER: usize = 256 * 1024;

/// The reading half of whatever carries the bytes.
pub(crate) type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// The writing half.
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A stream that is connected.
pub(crate) struct Stream {
    pub reader: Reader,
    pub writer: Writer,
    /// Whether bytes that the stream has not accepted have certainly not left. Not so under TLS, where a failing
    /// write may have sent records before.
    pub accepts_exactly: bool,
}

/// The replies of one exchange.
#[derive(Debug)]
pub(crate) struct Answer {
    /// In the order of the commands. Fewer than asked for only if `broken`.
    pub replies: Vec<Value>,
    pub broken: Option<Break>,
}

/// Why a connection gives no more replies.
#[derive(Debug, Clone)]
pub(crate) struct Break {
    /// Whether any byte of this exchange may have reached the server.
    pub sent: bool,
    /// For people.
    pub why: Arc<str>,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Where the messages go that a server publishes.
pub(crate) type Messages = mpsc::UnboundedSender<Value>;

/// An exchange under way.
pub(crate) type Exchange = oneshot::Receiver<Answer>;

/// A connection to one server. Tasks own its halves, so that no caller that goes away leaves half a command or
/// half a reply behind. Dropping it closes it.
pub(crate) struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    // A std Mutex, not tokio's, because nothing awaits while it is held.
    state: Mutex<State>,
    outbound: Notify,
    /// When the exchange that waits first has waited too long.
    alarm: Alarm,
}

#[derive(Default)]
struct State {
    packer: Packer,
    /// Packed and not yet handed to the stream.
    outbound: Vec<u8>,
    /// Exchanges whose replies are still to come, in the order of their commands.
    waiting: VecDeque<Waiting>,
    /// Bytes ever packed, and bytes of them that may have left.
    packed: u64,
    left: u64,
    /// Where published messages go; gone when the connection is.
    messages: Option<Messages>,
    broken: Option<Arc<str>>,
    tasks: Vec<AbortHandle>,
}

struct Waiting {
    /// Where its first byte is in the stream of all bytes.
    start: u64,
    missing: usize,
    replies: Vec<Value>,
    limit: Limit,
    done: oneshot::Sender<Answer>,
}

/// How long an answer may take.
#[derive(Clone, Copy)]
struct Limit {
    time: Duration,
    due: Instant,
}

impl Connection {
    /// Starts its tasks. Without `messages` none are expected.
    pub fn start(stream: Stream, messages: Option<Messages>) -> Self {
        let state = Mutex::new(State { messages, ..State::default() });
        let shared = Shared { state, outbound: Notify::new(), alarm: Alarm::default() };
        let shared = Arc::new(shared);
        let reader = tokio::spawn(Arc::clone(&shared).read(stream.reader));
        let writer = tokio::spawn(Arc::clone(&shared).write(stream.writer, stream.accepts_exactly));
        let watch = tokio::spawn(Arc::clone(&shared).watch());
        {
            let mut state = shared.lock();
            state.tasks = [reader, writer, watch].map(|task| task.abort_handle()).into();
            if state.broken.is_some() {
                // On a runtime of several threads one of them may have failed already, and ends by itself.
                state.tasks.drain(..).for_each(|task| task.abort());
            }
        }
        Self { shared }
    }

    /// Whether it is usable, as far as is known. A server that went away while the connection was idle is noticed
    /// here, because the reader is always reading.
    pub fn is_open(&self) -> bool {
        self.shared.lock().broken.is_none()
    }

    /// Sends what `pack` appends, as exchanges that end after so many replies each, none perhaps. All bytes packed before the
    /// writer gets to run leave in one write. An error means that nothing was sent.
    ///
    /// If an answer takes longer than `limit`, the connection is closed and never used again: otherwise a late reply could
    /// be taken for the answer to another command.
    pub fn send<const N: usize>(
        &self,
        replies: [usize; N],
        limit: Duration,
        pack: impl FnOnce(&mut Packer, &mut Vec<u8>),
    ) -> Result<[Exchange; N], Break> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if let Some(why) = &state.broken {
            return Err(Break { sent: false, why: Arc::clone(why) });
        }
        let before = state.outbound.len();
        pack(&mut state.packer, &mut state.outbound);
        let start = state.packed;
        state.packed += (state.outbound.len() - before) as u64;
        let limit = Limit { time: limit, due: Instant::now() + limit };
        let first = state.waiting.is_empty();
        let exchanges = replies.map(|missing| {
            let (done, exchange) = oneshot::channel();
            let replies = Vec::with_capacity(missing);
            if missing == 0 {
                let _ = done.send(Answer { replies, broken: None });
            } else {
                state.waiting.push_back(Waiting { start, missing, replies, limit, done });
            }
            exchange
        });
        if first {
            self.shared.watch_over(state);
        }
        drop(guard);
        self.shared.outbound.notify_one();
        Ok(exchanges)
    }

    /// The answer to an exchange.
    pub async fn answer(&self, exchange: Exchange) -> Answer {
        exchange.await.unwrap_or_else(|_| Answer::gone())
    }

    /// Closes the connection; exchanges under way end with what they have got.
    pub fn close(&self, why: &str) {
        self.shared.break_off(why);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close("the connection was given up");
    }
}

impl Answer {
    /// Of an exchange whose connection's tasks ended without a word, as when a runtime is shut down.
    pub fn gone() -> Self {
        Self { replies: Vec::new(), broken: Some(Break { sent: true, why: "the connection is gone".into() }) }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics half-way through a change of the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(self: Arc<Self>, reader: Reader) {
        // The decoder reads in pieces as small as 64 bytes; the buffer makes them cheap.
        let mut reader = BufReader::with_capacity(READ_BUFFER, reader);
        let mut decoder = Decoder::new();
        loop {
            match redis::parse_redis_value_async(&mut decoder, &mut reader).await {
                Ok(value) => {
                    if let Err(unasked) = self.deliver(value) {
                        // A server that closes sometimes says why first, e.g. that it has too many clients.
                        return self.break_off(&match unasked {
                            Value::ServerError(error) => format!("the server said: {}", error_text(&error)),
                            _ => "the server sent a reply that nobody asked for".to_owned(),
                        });
                    }
                }
                Err(error) if error.is_io_error() => return self.break_off(&io_message(&error)),
                Err(error) => {
                    return self.break_off(&format!("the server does not speak the Redis protocol: {error}"));
                }
            }
        }
    }

    /// Gives a reply to the exchange whose turn it is; gives it back if there is none.
    fn deliver(&self, value: Value) -> Result<(), Value> {
        let mut state = self.lock();
        if let Some(messages) = &state.messages
            && is_message(&value)
        {
            // Whoever listened may have gone.
            let _ = messages.send(value);
            return Ok(());
        }
        let Some(waiting) = state.waiting.front_mut() else { return Err(value) };
        waiting.replies.push(value);
        waiting.missing -= 1;
        if waiting.missing == 0 {
            let Waiting { replies, done, .. } =
                state.waiting.pop_front().expect("the front was looked at above");
            self.watch_over(&state);
            // Whoever asked may have lost interest.
            let _ = done.send(Answer { replies, broken: None });
        }
        Ok(())
    }

    /// Sets the alarm for the exchange that waits first.
    fn watch_over(&self, state: &State) {
        match state.waiting.front() {
            Some(first) => self.alarm.set(first.limit.due),
            None => self.alarm.clear(),
        }
    }

    async fn watch(self: Arc<Self>) {
        loop {
            self.alarm.passed().await;
            let late = self.lock().waiting.front().map(|first| first.limit);
            // It may have been answered just now, and the next one has time left.
            if let Some(limit) = late.filter(|limit| limit.due <= Instant::now()) {
                return self.break_off(&format!("no answer within {} ms", limit.time.as_millis()));
            }
        }
    }

    async fn write(self: Arc<Self>, mut writer: Writer, accepts_exactly: bool) {
        let mut bytes = Vec::new();
        loop {
            self.outbound.notified().await;
            let mut from = 0;
            {
                let mut state = self.lock();
                std::mem::swap(&mut state.outbound, &mut bytes);
                if !accepts_exactly {
                    state.left += bytes.len() as u64;
                }
            }
            while from < bytes.len() {
                match writer.write(&bytes[from..]).await {
                    Ok(0) => return self.break_off("the connection takes no more bytes"),
                    Ok(count) => {
                        from += count;
                        if accepts_exactly {
                            self.lock().left += count as u64;
                        }
                    }
                    Err(error) => return self.break_off(&format!("cannot write: {error}")),
                }
            }
            if let Err(error) = writer.flush().await {
                return self.break_off(&format!("cannot write: {error}"));
            }
            bytes.clear();
            if bytes.capacity() > KEEP_BUFFER {
                bytes = Vec::new();
            }
        }
    }

    fn break_off(&self, why: &str) {
        let (waiting, tasks, left, why) = {
            let mut state = self.lock();
            if state.broken.is_some() {
                return;
            }
            let why: Arc<str> = why.into();
            state.broken = Some(Arc::clone(&why));
            state.outbound = Vec::new();
            state.messages = None;
            (std::mem::take(&mut state.waiting), std::mem::take(&mut state.tasks), state.left, why)
        };
        // Closes both halves; the task that came here ends by itself or at its next await.
        tasks.iter().for_each(AbortHandle::abort);
        for Waiting { start, replies, done, .. } in waiting {
            let broken = Some(Break { sent: left > start, why: Arc::clone(&why) });
            let _ = done.send(Answer { replies, broken });
        }
    }
}

/// Whether it is what a subscriber is sent, and no reply.
fn is_message(value: &Value) -> bool {
    matches!(value, Value::Array(fields) if matches!(fields.first(), Some(Value::BulkString(kind)) if kind == b"message"))
}

fn io_message(error: &redis::RedisError) -> String {
    if error.is_connection_dropped() {
        return "the server closed the connection".to_owned();
    }
    format!("cannot read: {error}")
}

#[cfg(test)]
mod tests;
