//! The exchanges of a connection: which are pending, which reply is whose, and how they end when it breaks.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use redis::Value;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

#[cfg(unix)]
use super::inline::socket::InlineSocket;
use super::login_watch::LoginWatch;
use super::messages::Messages;
use super::route::{Membership, Retire as _};
use super::timeout::ResettableTimeout;
use crate::backend::connections::{Change, OpenConnection};
use crate::backend::redis::protocol::packer::Packer;
use crate::backend::redis::protocol::replies::expected::ExpectedReply;
use crate::backend::redis::protocol::replies::refusals::wrong_server;
use crate::backend::redis::protocol::values::error_text;
use crate::runtime::sync::Mutex;

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

impl Response {
    /// Of an exchange whose connection's tasks ended without a result, as when a runtime shuts down.
    pub fn lost() -> Self {
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

/// What a connection shares with its tasks.
pub(super) struct Shared {
    pub state: Mutex<State>,
    pub outbound: Notify,
    /// The time limit of the first pending exchange.
    pub timeout: ResettableTimeout,
    /// If no task reads and writes.
    #[cfg(unix)]
    pub inline: Option<InlineSocket>,
}

pub(super) struct State {
    pub packer: Packer,
    /// Packed and not yet given to the stream.
    pub outbound: Vec<u8>,
    /// On an inline connection: what its socket has not accepted yet, and whether a task writes it.
    #[cfg(unix)]
    pub rest: Vec<u8>,
    #[cfg(unix)]
    pub is_writing_rest: bool,
    /// Exchanges whose replies are still to come, in the order of their commands.
    pub pending: VecDeque<PendingExchange>,
    /// Bytes packed so far, and how many of them may have left.
    pub packed: u64,
    pub left: u64,
    /// Where published messages go; dropped when the connection breaks.
    pub messages: Option<Messages>,
    /// Whether the server has sent a reply yet.
    pub any_reply: bool,
    /// Until its generation is over.
    pub membership: Option<Membership>,
    /// If its server has leases.
    pub counted: Option<OpenConnection>,
    /// If there may be others than the credentials it logged in with.
    pub login: Option<Arc<LoginWatch>>,
    /// Why the server is not the right one: nothing is sent any more.
    pub retired: Option<Arc<str>>,
    pub broken: Option<Arc<str>>,
    pub tasks: Vec<AbortHandle>,
}

pub(super) struct PendingExchange {
    /// Position of its first byte in the stream of all bytes.
    pub start: u64,
    pub missing: usize,
    pub replies: Vec<Value>,
    /// How many of the last replies are errors in place of a script's reply. They have no echo, so a server
    /// may have sent them in addition to the replies.
    pub unproved: usize,
    /// All replies are there, and the missing one is an echo that proves the last of them.
    pub proving: bool,
    pub limit: ReplyLimit,
    pub done: oneshot::Sender<Response>,
}

/// How long the replies may take.
#[derive(Clone, Copy)]
pub(super) struct ReplyLimit {
    pub time: Duration,
    pub due: Instant,
}

impl State {
    fn new(messages: Option<Messages>) -> Self {
        Self {
            packer: Packer::new(),
            outbound: Vec::new(),
            #[cfg(unix)]
            rest: Vec::new(),
            #[cfg(unix)]
            is_writing_rest: false,
            pending: VecDeque::new(),
            packed: 0,
            left: 0,
            messages,
            any_reply: false,
            membership: None,
            counted: None,
            login: None,
            retired: None,
            broken: None,
            tasks: Vec::new(),
        }
    }
}

impl Shared {
    pub fn new(messages: Option<Messages>) -> Self {
        Self {
            state: Mutex::new(State::new(messages)),
            outbound: Notify::new(),
            timeout: ResettableTimeout::default(),
            #[cfg(unix)]
            inline: None,
        }
    }

    /// Of a connection without tasks that read and write.
    #[cfg(unix)]
    pub fn new_inline(socket: InlineSocket) -> Self {
        Self { inline: Some(socket), ..Self::new(None) }
    }

    /// See [`super::Connection::send`].
    pub fn send<const N: usize>(
        self: &Arc<Self>,
        replies: [usize; N],
        limit: Duration,
        pack: impl FnOnce(&mut Packer, &mut Vec<u8>),
    ) -> Result<[Exchange; N], Break> {
        let mut guard = self.state.lock();
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
        let mut limit = ReplyLimit { time: limit, due: Instant::now() + limit };
        // Not before those in front of it, which may have more time.
        if let Some(last) = state.pending.back() {
            limit.due = limit.due.max(last.limit.due);
        }
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
            self.set_timeout(state);
        }
        self.write_out(guard);
        Ok(exchanges)
    }

    /// Has what was packed written. If that fails, the exchanges end.
    fn write_out(
        self: &Arc<Self>,
        #[cfg_attr(not(unix), expect(unused_mut, reason = "written by a task"))] mut state: MutexGuard<
            '_,
            State,
        >,
    ) {
        #[cfg(unix)]
        if let Some(inline) = &self.inline {
            let written = self.write_inline(inline, &mut state);
            drop(state);
            if let Err(why) = written {
                self.fail(&why);
            }
            return;
        }
        drop(state);
        self.outbound.notify_one();
    }

    /// Gives a reply to the first pending exchange. Fails if it cannot be for that: then it is not known
    /// which of the following replies belongs to which command.
    pub fn deliver(&self, state: &mut State, value: Value) -> Result<(), String> {
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
        if let (Some(login), Value::ServerError(error)) = (&state.login, &reply) {
            login.hear(error);
        }
        #[cfg(unix)]
        if let Some(inline) = &self.inline {
            inline.replied();
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
    pub fn set_timeout(&self, state: &State) {
        match state.pending.front() {
            Some(first) => self.timeout.set(first.limit.due),
            None => self.timeout.clear(),
        }
    }

    /// Ends the generation of this connection if its server has said that it is not the right one.
    pub fn leave_wrong_server(&self) {
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

    /// It broke, which may mean that the server was replaced.
    pub fn fail(&self, why: &str) {
        let (membership, counted) = {
            let mut state = self.state.lock();
            (state.membership.take(), state.counted.take())
        };
        if let Some(membership) = membership {
            membership.route.broke(why);
        }
        self.break_off(why);
        if let Some(counted) = counted {
            counted.end(Change::Broken, why);
        }
    }

    pub fn break_off(&self, why: &str) {
        let (pending, tasks, counted, left, why) = {
            let mut state = self.state.lock();
            if state.broken.is_some() {
                return;
            }
            let why: Arc<str> = why.into();
            state.broken = Some(Arc::clone(&why));
            state.outbound = Vec::new();
            #[cfg(unix)]
            {
                state.rest = Vec::new();
            }
            state.messages = None;
            let (pending, tasks) = (std::mem::take(&mut state.pending), std::mem::take(&mut state.tasks));
            (pending, tasks, state.counted.take(), state.left, why)
        };
        if let Some(counted) = counted {
            counted.end(Change::Closed, &why);
        }
        // Closes both halves; the calling task ends by itself or at its next await.
        tasks.iter().for_each(AbortHandle::abort);
        #[cfg(unix)]
        if let Some(inline) = &self.inline {
            inline.shut_down();
        }
        for PendingExchange { start, mut replies, unproved, done, .. } in pending {
            replies.truncate(replies.len() - unproved);
            let broken = Some(Break { sent: left > start, why: Arc::clone(&why) });
            let _ = done.send(Response { replies, broken });
        }
    }
}
