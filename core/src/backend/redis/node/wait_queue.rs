//! Those of this process who wait for leases of one node: they listen for their turn, and show life.
//!
//! The server keeps the lines (see line.lua): acquiring puts a waiter in, a release tells the first in line. Here is the other
//! end: one connection that subscribes to a channel of our own while anybody waits, and one heartbeat a second for all,
//! which also finds what a lost message would have told.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::context::Link;
use crate::backend::redis::connection::Connection;
use crate::backend::redis::protocol::replies::{About, Subject};
use crate::backend::redis::protocol::scripts::{BEAT, JOIN, LEAVE, MAX_ITEMS};
use crate::backend::redis::protocol::values::text;
use crate::backend::waiter::Waiter;
use crate::error::{Error, Result};
use crate::lease::Resources;

/// The pause between heartbeats. A process counts as alive for half as long again; see line.lua.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// How long we go on listening when nobody waits any more: there may be somebody soon.
const LINGER: Duration = Duration::from_secs(5);
/// The pause before another try to listen. The dialer has pauses of its own, which grow.
const RETRY: Duration = Duration::from_millis(100);
/// Whoever showed no life for so long was taken for dead, and out of its lines; see line.lua.
const ALIVE: Duration = Duration::from_millis(1_500);

/// The waiters of one node.
pub(crate) struct Line {
    link: Link,
    // A std Mutex, because nothing awaits while it is held.
    state: Mutex<State>,
    /// `hearing` or `closed` changed. Those who wait for that go on in the order in which they came.
    changed: Notify,
    /// Each heartbeat goes into a call of its own.
    alone: AtomicBool,
}

#[derive(Default)]
struct State {
    waiters: HashMap<u64, Entry>,
    /// A task listens, or tries to.
    attended: bool,
    /// Whether we hear of releases.
    hearing: Hearing,
    closed: bool,
}

struct Entry {
    resources: Resources,
    waiter: Waiter,
    /// The server has it in line, as far as we know.
    stands: bool,
}

#[derive(Clone, Default)]
enum Hearing {
    #[default]
    NotYet,
    Yes,
    No(Error),
}

impl Line {
    pub fn new(link: Link) -> Self {
        Self { link, state: Mutex::default(), changed: Notify::new(), alone: AtomicBool::new(false) }
    }

    /// See [`crate::backend::contract::LockBackend::join_queue`].
    pub async fn join_queue(self: &Arc<Self>, resources: &Resources, waiter: &Waiter) -> Result<()> {
        {
            let mut state = self.lock();
            if state.closed {
                return Err(Error::Closed);
            }
            let entry = Entry { resources: resources.clone(), waiter: waiter.clone(), stands: false };
            state.waiters.insert(waiter.number(), entry);
            if !std::mem::replace(&mut state.attended, true) {
                state.hearing = Hearing::NotYet;
                tokio::spawn(Arc::clone(self).attend());
            }
        }
        loop {
            let mut changed = pin!(self.changed.notified());
            // Listening before looking, so that nothing is missed in between.
            changed.as_mut().enable();
            let hearing = self.lock().hearing.clone();
            match hearing {
                Hearing::NotYet => changed.await,
                Hearing::Yes => return Ok(()),
                Hearing::No(error) => {
                    self.lock().waiters.remove(&waiter.number());
                    return Err(error);
                }
            }
        }
    }

    fn now_hears(&self, hearing: Hearing) {
        self.lock().hearing = hearing;
        self.changed.notify_waiters();
    }

    /// Puts a waiter in line that is not yet, if what it waits for is held; answers for how much longer, as acquire.lua does.
    /// `None`: it is to try. That would put it in line, too, but with a WAIT behind it that replicas are asked for in vain.
    pub async fn join(&self, resources: &Resources, waiter: &Waiter) -> Option<i64> {
        if self.lock().waiters.get(&waiter.number()).is_none_or(|entry| entry.stands) {
            return None;
        }
        let keys = &self.link.config.keys;
        let name = keys.waiter(waiter);
        let names = resources.as_slice().iter().map(AsRef::as_ref);
        let call = self.link.control.run(&JOIN, |packer, out| {
            JOIN.pack_lines(keys, &names, Some(&name), packer, out);
        });
        match call.await {
            Ok(Value::Int(reply)) if reply <= 0 => {
                if let Some(entry) = self.lock().waiters.get_mut(&waiter.number()) {
                    entry.stands = true;
                }
                Some(reply)
            }
            // The try finds out what is wrong.
            _ => None,
        }
    }

    /// The waiter was granted its lease, which took it out of the line.
    pub fn granted(&self, waiter: &Waiter) {
        self.lock().waiters.remove(&waiter.number());
    }

    /// See [`crate::backend::contract::LockBackend::leave`].
    pub async fn leave(&self, resources: &Resources, waiter: &Waiter) {
        if self.lock().waiters.remove(&waiter.number()).is_some() {
            let entry = self.link.config.keys.waiter(waiter);
            self.take_out(resources.as_slice().iter().map(AsRef::as_ref), &entry).await;
        }
    }

    /// Nobody waits any more.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        // To whoever is about to wait.
        let left: Vec<_> = state.waiters.drain().collect();
        drop(state);
        for (_, entry) in left {
            entry.waiter.wake();
        }
        self.changed.notify_waiters();
    }

    /// What cannot be taken out now is taken for dead soon, or is found by a heartbeat.
    async fn take_out<'a>(&self, resources: impl ExactSizeIterator<Item = &'a str> + Clone, entry: &str) {
        let keys = &self.link.config.keys;
        let call = self.link.control.run(&LEAVE, |packer, out| {
            LEAVE.pack_lines(keys, &resources, Some(entry), packer, out);
        });
        let _ = call.await;
    }

    /// Listens while anybody waits.
    async fn attend(self: Arc<Self>) {
        let mut heard = false;
        loop {
            let (sender, mut messages) = mpsc::unbounded_channel();
            match self.listen(sender).await {
                Ok(_) if self.lock().closed => {}
                Ok(connection) => {
                    self.now_hears(Hearing::Yes);
                    // Whatever happened while nobody listened.
                    self.wake_all();
                    self.hear(&mut messages).await;
                    drop(connection);
                    heard = true;
                }
                Err(error) => {
                    self.now_hears(Hearing::No(error));
                    if std::mem::take(&mut heard) {
                        // The server is away, and they are to know.
                        self.wake_all();
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
            let mut state = self.lock();
            if state.waiters.is_empty() || state.closed {
                state.attended = false;
                return;
            }
            drop(state);
            // Whoever comes now waits for the next try instead of hearing of the last one.
            self.now_hears(Hearing::NotYet);
        }
    }

    async fn listen(&self, messages: mpsc::UnboundedSender<Value>) -> Result<Connection> {
        let Link { config, dialer, .. } = &self.link;
        let about = About { address: &config.address, subject: Subject::Query, required: 0 };
        let connection = dialer.dial_for(config, Some(messages)).await?;
        let sending = connection.send([1], config.command_timeout, |packer, out| {
            packer.command(out, |cmd| {
                cmd.arg("SUBSCRIBE").arg(config.keys.channel());
            });
        });
        let answer = match sending {
            Ok([exchange]) => connection.answer(exchange).await,
            Err(broken) => return Err(about.unsent(&broken)),
        };
        match (answer.replies.into_iter().next(), answer.broken) {
            (Some(reply @ Value::ServerError(_)), _) => {
                Err(about.cannot_listen(&reply, &config.keys.channels()))
            }
            (Some(_), _) => Ok(connection),
            (None, broken) => Err(match broken {
                Some(broken) => about.unsent(&broken),
                None => Error::unavailable("the connection is gone; nothing was granted"),
            }),
        }
    }

    /// Wakes those whose turn it is, until the connection breaks, or nobody has waited for a while.
    async fn hear(&self, messages: &mut mpsc::UnboundedReceiver<Value>) {
        let mut changed = Box::pin(self.changed.notified());
        let mut beat = Instant::now() + BEAT_EVERY;
        let mut idle_since = None;
        let clock = &self.link.clock;
        let mut alive = clock.boot();
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => {
                        if !self.pass_on(message) {
                            beat = beat.min(Instant::now());
                        }
                    }
                    None => return,
                },
                () = sleep_until(beat) => {
                    let names = self.names();
                    let last = std::mem::replace(&mut alive, clock.boot());
                    if names.is_empty() {
                        let since = *idle_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= LINGER {
                            return;
                        }
                        beat = Instant::now() + BEAT_EVERY;
                    } else {
                        idle_since = None;
                        let began = Instant::now();
                        let sooner = self.beat(&names).await;
                        if last.until(alive) > ALIVE {
                            // Stopped, or suspended. Those who were taken out go to the end of their lines.
                            self.wake_all();
                        }
                        beat = began + sooner.unwrap_or(BEAT_EVERY).min(BEAT_EVERY);
                    }
                }
                () = &mut changed => {
                    // Listening before looking.
                    changed.set(self.changed.notified());
                    changed.as_mut().enable();
                    if self.lock().closed {
                        return;
                    }
                }
            }
        }
    }

    /// `false`: it is for somebody who is not here.
    fn pass_on(&self, message: Value) -> bool {
        let Value::Array(fields) = message else { return true };
        let number = fields.into_iter().nth(2).and_then(text).and_then(|number| number.parse::<u64>().ok());
        number.is_some_and(|number| self.wake(number))
    }

    fn wake(&self, number: u64) -> bool {
        let state = self.lock();
        state.waiters.get(&number).map(|entry| entry.waiter.wake()).is_some()
    }

    fn wake_all(&self) {
        self.lock().waiters.values().for_each(|entry| entry.waiter.wake());
    }

    /// What is waited for.
    fn names(&self) -> Vec<Arc<str>> {
        let state = self.lock();
        let names: BTreeSet<&Arc<str>> =
            state.waiters.values().flat_map(|entry| entry.resources.as_slice()).collect();
        names.into_iter().cloned().collect()
    }

    /// Shows life, and wakes those whose turn it is. Answers when to look again, if that is soon.
    async fn beat(&self, names: &[Arc<str>]) -> Option<Duration> {
        let mut sooner = None;
        let mut rest = names;
        while !rest.is_empty() {
            let most = if self.alone.load(Ordering::Relaxed) { 1 } else { MAX_ITEMS };
            let (some, others) = rest.split_at(most.min(rest.len()));
            match self.beat_for(some).await {
                Some(Value::Array(replies)) => {
                    for (name, reply) in some.iter().zip(replies) {
                        sooner = sooner.into_iter().chain(self.take_turn(name, &reply).await).min();
                    }
                }
                // A cluster's server takes no keys of several slots in one call; and one of them may not be ours to touch.
                Some(Value::ServerError(_)) if some.len() > 1 => {
                    self.alone.store(true, Ordering::Relaxed);
                    continue;
                }
                _ => {}
            }
            rest = others;
        }
        sooner
    }

    async fn beat_for(&self, names: &[Arc<str>]) -> Option<Value> {
        let keys = &self.link.config.keys;
        let process = keys.process();
        let names = names.iter().map(AsRef::as_ref);
        let call = self.link.control.run(&BEAT, |packer, out| {
            BEAT.pack_lines(keys, &names, Some(&process), packer, out);
        });
        // A server that hangs must not keep us from hearing that it is back.
        timeout(self.link.config.command_timeout, call).await.ok()?.ok()
    }

    /// What the server said of a line. Answers when to look again, if that is soon.
    async fn take_turn(&self, name: &str, reply: &Value) -> Option<Duration> {
        match *reply {
            Value::Int(0) => self.wake_those_for(name),
            Value::Int(number) if number > 0 => {
                let number = number.unsigned_abs();
                if !self.wake(number) {
                    // It left, and the server was not told.
                    let process = self.link.config.keys.process();
                    for kind in ["f", "u"] {
                        self.take_out([name].into_iter(), &format!("{process}:{number}:{kind}")).await;
                    }
                }
            }
            Value::Int(left) if left < -1 => return Some(Duration::from_millis(left.unsigned_abs())),
            _ => {}
        }
        None
    }

    /// They are not in line, as after a failover to a replica that knew nothing of them.
    fn wake_those_for(&self, name: &str) {
        let state = self.lock();
        let those = state.waiters.values();
        those
            .filter(|entry| entry.resources.as_slice().iter().any(|resource| &**resource == name))
            .for_each(|entry| entry.waiter.wake());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is a single step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
