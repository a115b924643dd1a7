//! The waiters of this process for leases of one node: wakes them in turn, and sends their heartbeat.
//!
//! The queues themselves are on the server (see `wait_queue.lua`): acquiring adds a waiter, a release wakes
//! the first one. Here is the client's part: one connection that subscribes to a channel of this process
//! while there are waiters, and one heartbeat a second for all, which also finds the wake-ups that were lost.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use crate::backend::redis::connection::messages::{Inbox, Message, messages};
use crate::backend::redis::connection::{Connection, Messages};
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::expected::{ExpectedReply, ScriptReply};
use crate::backend::redis::protocol::lease_args::MAX_LEASES;
use crate::backend::redis::protocol::replies::Operation;
use crate::backend::redis::protocol::scripts::{HEARTBEAT, JOIN_QUEUE, LEAVE_QUEUE};
use crate::backend::waiter::Waiter;
use crate::error::{Error, Result};
use crate::lease::Resources;
use crate::runtime::sync::Mutex;

/// The pause between heartbeats. A process counts as alive for half as long again; see `wait_queue.lua`.
const HEARTBEAT_PAUSE: Duration = Duration::from_secs(1);
/// How long the subscription stays without waiters, because more may come soon.
const LINGER: Duration = Duration::from_secs(5);
/// The pause before another attempt to subscribe. The connector has growing pauses of its own.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A process without a heartbeat for this long is removed from its queues; see `wait_queue.lua`.
const ALIVE: Duration = Duration::from_millis(1_500);

/// The waiters of one node.
pub(crate) struct WaitQueue {
    context: NodeContext,
    state: Mutex<State>,
    /// `subscription` or `closed` changed. Tasks that wait for it continue in the order in which they
    /// started.
    changed: Notify,
    /// Each resource gets a heartbeat call of its own.
    separately: AtomicBool,
}

#[derive(Default)]
struct State {
    waiters: HashMap<u64, QueuedWaiter>,
    /// Whether the subscriber task runs.
    subscriber_running: bool,
    subscription: Subscription,
    closed: bool,
}

struct QueuedWaiter {
    resources: Resources,
    waiter: Waiter,
    /// Whether it is in the server's queues, as far as we know.
    on_server: bool,
}

#[derive(Clone, Default)]
enum Subscription {
    #[default]
    Pending,
    Active,
    Failed(Error),
}

impl WaitQueue {
    pub fn new(context: NodeContext) -> Self {
        let separately = AtomicBool::new(false);
        Self { context, state: Mutex::default(), changed: Notify::new(), separately }
    }

    /// Registers a waiter and waits for the subscription.
    pub async fn join(self: &Arc<Self>, resources: &Resources, waiter: &Waiter) -> Result<()> {
        {
            let mut state = self.state.lock();
            if state.closed {
                return Err(Error::Closed);
            }
            let queued =
                QueuedWaiter { resources: resources.clone(), waiter: waiter.clone(), on_server: false };
            state.waiters.insert(waiter.number(), queued);
            if !std::mem::replace(&mut state.subscriber_running, true) {
                state.subscription = Subscription::Pending;
                tokio::spawn(Arc::clone(self).run_subscriber());
            }
        }
        loop {
            let mut changed = pin!(self.changed.notified());
            // Enabled before the check, so that no change in between is missed.
            changed.as_mut().enable();
            let subscription = self.state.lock().subscription.clone();
            match subscription {
                Subscription::Pending => changed.await,
                Subscription::Active => return Ok(()),
                Subscription::Failed(error) => {
                    self.state.lock().waiters.remove(&waiter.number());
                    return Err(error);
                }
            }
        }
    }

    /// Adds a waiter to the server's queues, unless it is there already or its resources are free. Returns
    /// how long they are held, as acquire.lua does; `None`: the waiter may attempt. An attempt would add it
    /// too, but with a WAIT for which the replicas are asked in vain.
    pub async fn enqueue_if_held(&self, resources: &Resources, waiter: &Waiter) -> Option<i64> {
        if self.state.lock().waiters.get(&waiter.number()).is_none_or(|queued| queued.on_server) {
            return None;
        }
        let keys = &self.context.config.keys;
        let entry = keys.waiter(waiter);
        let names = resources.as_slice().iter().map(AsRef::as_ref);
        let call = self.context.shared.run_script(&JOIN_QUEUE, |packer, out| {
            JOIN_QUEUE.pack_queues(keys, &names, Some(&entry), ScriptReply::Number, packer, out);
        });
        match call.await {
            Ok(Value::Int(reply)) if reply <= 0 => {
                if let Some(queued) = self.state.lock().waiters.get_mut(&waiter.number()) {
                    queued.on_server = true;
                }
                Some(reply)
            }
            // The attempt finds out what is wrong.
            _ => None,
        }
    }

    /// The waiter got its lease, and the grant removed it from the queues.
    pub fn granted(&self, waiter: &Waiter) {
        self.state.lock().waiters.remove(&waiter.number());
    }

    /// Ends a wait.
    pub async fn leave(&self, resources: &Resources, waiter: &Waiter) {
        if self.state.lock().waiters.remove(&waiter.number()).is_some() {
            let entry = self.context.config.keys.waiter(waiter);
            self.remove_entry(resources.as_slice().iter().map(AsRef::as_ref), &entry).await;
        }
    }

    /// Wakes all waiters and ends the subscription.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let waiters: Vec<_> = state.waiters.drain().collect();
        drop(state);
        for (_, queued) in waiters {
            queued.waiter.wake();
        }
        self.changed.notify_waiters();
    }

    /// An entry that cannot be removed now is soon taken for dead, or found by a heartbeat.
    async fn remove_entry<'a>(&self, names: impl ExactSizeIterator<Item = &'a str> + Clone, entry: &str) {
        let keys = &self.context.config.keys;
        let call = self.context.shared.run_script(&LEAVE_QUEUE, |packer, out| {
            LEAVE_QUEUE.pack_queues(keys, &names, Some(entry), ScriptReply::Number, packer, out);
        });
        let _ = call.await;
    }

    fn set_subscription(&self, subscription: Subscription) {
        self.state.lock().subscription = subscription;
        self.changed.notify_waiters();
    }

    /// Keeps the subscription while there are waiters.
    async fn run_subscriber(self: Arc<Self>) {
        let mut was_active = false;
        loop {
            let (sender, mut messages) = messages();
            match self.subscribe(sender).await {
                Ok(_) if self.state.lock().closed => {}
                Ok(connection) => {
                    self.set_subscription(Subscription::Active);
                    // For what happened before the subscription.
                    self.wake_all();
                    self.handle_messages(&mut messages).await;
                    drop(connection);
                    was_active = true;
                }
                Err(error) => {
                    self.set_subscription(Subscription::Failed(error));
                    if std::mem::take(&mut was_active) {
                        // The server went away; their attempts report it.
                        self.wake_all();
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
            let mut state = self.state.lock();
            if state.waiters.is_empty() || state.closed {
                state.subscriber_running = false;
                return;
            }
            drop(state);
            // New waiters wait for the next attempt instead of getting the error of the last one.
            self.set_subscription(Subscription::Pending);
        }
    }

    async fn subscribe(&self, messages: Messages) -> Result<Connection> {
        let NodeContext { config, connector, .. } = &self.context;
        let context = self.context.reply_context(Operation::Query, 0);
        let connection = connector.connect_subscriber(config, messages).await?;
        let sent = connection.send([1], config.command_timeout, |packer, out| {
            packer.command(out, ExpectedReply::List, |cmd| {
                cmd.arg("SUBSCRIBE").arg(config.keys.channel());
            });
        });
        let response = match sent {
            Ok([exchange]) => connection.receive(exchange).await,
            Err(broken) => return Err(context.not_sent(&broken)),
        };
        match response.single() {
            Ok(reply @ Value::ServerError(_)) => {
                Err(context.cannot_subscribe(&reply, &config.keys.channel_prefix()))
            }
            Ok(_) => Ok(connection),
            Err(Some(broken)) => Err(context.not_sent(&broken)),
            Err(None) => Err(Error::unavailable("the connection is closed; nothing was granted; try again")),
        }
    }

    /// Wakes waiters whose turn it is, until the connection breaks, or there have been no waiters for a
    /// while.
    async fn handle_messages(&self, messages: &mut Inbox) {
        let mut changed = Box::pin(self.changed.notified());
        let mut next_heartbeat = Instant::now() + HEARTBEAT_PAUSE;
        let mut idle_since = None;
        let clock = &self.context.clock;
        let mut last_alive = clock.boot();
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Some(Message::Lost) => self.wake_all(),
                    Some(Message::Number(number)) => {
                        if !number.is_some_and(|number| self.wake(number)) {
                            next_heartbeat = next_heartbeat.min(Instant::now());
                        }
                    }
                    None => return,
                },
                () = sleep_until(next_heartbeat) => {
                    let names = self.names();
                    let last = std::mem::replace(&mut last_alive, clock.boot());
                    if names.is_empty() {
                        let since = *idle_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= LINGER {
                            return;
                        }
                        next_heartbeat = Instant::now() + HEARTBEAT_PAUSE;
                    } else {
                        idle_since = None;
                        let started = Instant::now();
                        let sooner = self.heartbeat(&names).await;
                        if last.until(last_alive) > ALIVE {
                            // The process was stopped or suspended. Waiters that were removed go to the end
                            // of the queues.
                            self.wake_all();
                        }
                        next_heartbeat = started + sooner.unwrap_or(HEARTBEAT_PAUSE).min(HEARTBEAT_PAUSE);
                    }
                }
                () = &mut changed => {
                    // Enabled before the check.
                    changed.set(self.changed.notified());
                    changed.as_mut().enable();
                    if self.state.lock().closed {
                        return;
                    }
                }
            }
        }
    }

    /// Wakes the waiter with this number. `false`: there is none.
    fn wake(&self, number: u64) -> bool {
        let state = self.state.lock();
        state.waiters.get(&number).map(|queued| queued.waiter.wake()).is_some()
    }

    fn wake_all(&self) {
        self.state.lock().waiters.values().for_each(|queued| queued.waiter.wake());
    }

    /// The resources with waiters.
    fn names(&self) -> Vec<Arc<str>> {
        let state = self.state.lock();
        let names: BTreeSet<&Arc<str>> =
            state.waiters.values().flat_map(|queued| queued.resources.as_slice()).collect();
        names.into_iter().cloned().collect()
    }

    /// Sends the heartbeat, and wakes waiters whose turn it is. Returns when the next heartbeat is due, if
    /// that is early.
    async fn heartbeat(&self, names: &[Arc<str>]) -> Option<Duration> {
        let mut sooner = None;
        let mut rest = names;
        while !rest.is_empty() {
            let most = if self.separately.load(Ordering::Relaxed) { 1 } else { MAX_LEASES };
            let (some, others) = rest.split_at(most.min(rest.len()));
            match self.heartbeat_call(some).await {
                Some(Value::Array(replies)) => {
                    for (name, reply) in some.iter().zip(replies) {
                        sooner = sooner.into_iter().chain(self.handle_reply(name, &reply).await).min();
                    }
                }
                // A cluster accepts no keys of several slots in one call; or this user may not touch one of
                // the keys.
                Some(Value::ServerError(_)) if some.len() > 1 => {
                    self.separately.store(true, Ordering::Relaxed);
                    continue;
                }
                _ => {}
            }
            rest = others;
        }
        sooner
    }

    async fn heartbeat_call(&self, names: &[Arc<str>]) -> Option<Value> {
        let keys = &self.context.config.keys;
        let process = keys.process();
        let names = names.iter().map(AsRef::as_ref);
        let shape = ScriptReply::Numbers(names.len());
        let call = self.context.shared.run_script(&HEARTBEAT, |packer, out| {
            HEARTBEAT.pack_queues(keys, &names, Some(&process), shape, packer, out);
        });
        // A server that hangs must not keep the subscriber from noticing that it is back.
        timeout(self.context.config.command_timeout, call).await.ok()?.ok()
    }

    /// Handles the reply of heartbeat.lua for one resource. Returns when the next heartbeat is due, if that
    /// is early.
    async fn handle_reply(&self, name: &str, reply: &Value) -> Option<Duration> {
        match *reply {
            Value::Int(0) => self.wake_waiters_for(name),
            Value::Int(number) if number > 0 => {
                let number = number.unsigned_abs();
                if !self.wake(number) {
                    // It left, and the server does not know.
                    let process = self.context.config.keys.process();
                    for fairness in ["f", "u"] {
                        let entry = format!("{process}:{number}:{fairness}");
                        self.remove_entry([name].into_iter(), &entry).await;
                    }
                }
            }
            Value::Int(left) if left < -1 => return Some(Duration::from_millis(left.unsigned_abs())),
            _ => {}
        }
        None
    }

    /// They are not in the server's queue, for example after a failover to a replica that did not have them.
    fn wake_waiters_for(&self, name: &str) {
        let state = self.state.lock();
        let waiters = state.waiters.values();
        waiters
            .filter(|queued| queued.resources.as_slice().iter().any(|resource| &**resource == name))
            .for_each(|queued| queued.waiter.wake());
    }
}
