//! Lanes: connections that carry scripts and the `WAIT` that proves them, and nothing else.
//!
//! `WAIT` compares the replicas with what its own connection wrote last, and blocks that connection. So scripts and
//! their `WAIT` share one pipeline on one connection; one batch is under way per lane, with ONE `WAIT` for all of it;
//! and a batch that waits for a lagging replica holds up nobody who asked for less.
//!
//! Requests of the same policy are a group. What arrives while a group's lanes are busy goes out with its next batch;
//! an idle lane takes a request at once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::sync::oneshot;

use super::config::Config;
use super::connection::{Answer, Broken};
use super::link::Link;
use crate::backend::AckPolicy;
use crate::clock::{BootInstant, Clock};
use crate::error::{Error, Result};

/// Most requests of one pipeline: bounds what one broken connection leaves unknown, and the server's hiccup.
const LARGEST_BATCH: usize = 512;

/// Lanes one group may use at a time: while one batch waits for its replicas, the next one is under way.
const LANES_PER_GROUP: usize = 2;

/// When to look again whether a WAIT's time is over, after the first look.
const NUDGE_EVERY: Duration = Duration::from_millis(4);

/// What became of one request of a batch.
pub(super) struct Proof {
    /// The moment before the batch was sent.
    pub(super) sent: BootInstant,
    /// The script's reply.
    pub(super) reply: std::result::Result<Value, Broken>,
    /// The reply to the batch's `WAIT`; none if nothing was written, or nothing is to be acknowledged.
    pub(super) wait: Option<std::result::Result<Value, Broken>>,
}

/// The lanes of one node for one kind of work.
pub(super) struct Lanes {
    config: Arc<Config>,
    clock: Clock,
    links: Vec<Link>,
    /// The node's other connection, which never waits.
    control: Arc<Link>,
    /// A std mutex: nothing awaits while it is held.
    state: Mutex<State>,
}

struct State {
    groups: HashMap<AckPolicy, Group>,
    /// Lanes nobody uses, by their place in `links`. The last one used is the first one taken: it is connected.
    free: Vec<usize>,
    /// Groups that have requests and no lane.
    waiting: VecDeque<AckPolicy>,
}

#[derive(Default)]
struct Group {
    queue: VecDeque<Request>,
    lanes: usize,
}

struct Request {
    command: Cmd,
    answer: oneshot::Sender<Result<Proof>>,
}

impl Lanes {
    /// At most `count` connections, made on demand.
    pub(super) fn new(config: &Arc<Config>, clock: Clock, control: Arc<Link>, count: usize) -> Arc<Self> {
        Arc::new(Self {
            config: Arc::clone(config),
            clock,
            links: (0..count).map(|_| Link::new(Arc::clone(config))).collect(),
            control,
            state: Mutex::new(State {
                groups: HashMap::new(),
                free: (0..count).rev().collect(),
                waiting: VecDeque::new(),
            }),
        })
    }

    /// Sends a script with the next batch of its group. An error: nothing was sent.
    pub(super) async fn submit(self: &Arc<Self>, policy: AckPolicy, command: Cmd) -> Result<Proof> {
        let (answer, proof) = oneshot::channel();
        {
            let mut state = self.state();
            let State { groups, free, waiting } = &mut *state;
            let group = groups.entry(policy).or_default();
            group.queue.push_back(Request { command, answer });
            if group.lanes < LANES_PER_GROUP {
                if let Some(lane) = free.pop() {
                    group.lanes += 1;
                    tokio::spawn(Arc::clone(self).run(policy, lane));
                } else if group.lanes == 0 && !waiting.contains(&policy) {
                    waiting.push_back(policy);
                }
            }
        }
        // A batch answers each of its requests, unless its task panicked.
        proof.await.unwrap_or_else(|_| {
            Err(Error::unavailable("a batch was lost inside fencelock; please report it"))
        })
    }

    /// Works on a group until its queue is empty, then hands the lane on.
    async fn run(self: Arc<Self>, mut policy: AckPolicy, lane: usize) {
        loop {
            let batch: Vec<Request> = {
                let mut state = self.state();
                let State { groups, free, waiting } = &mut *state;
                let group = groups.entry(policy).or_default();
                // Before each batch: a group that never runs dry must not keep the last lane from others.
                let yields = !waiting.is_empty() && free.is_empty() && group.lanes > 1;
                if group.queue.is_empty() || yields {
                    group.lanes -= 1;
                    if group.lanes == 0 {
                        groups.remove(&policy);
                    }
                    match waiting.pop_front() {
                        None => return free.push(lane),
                        Some(next) => {
                            policy = next;
                            groups.entry(policy).or_default().lanes += 1;
                            continue;
                        }
                    }
                }
                let count = group.queue.len().min(LARGEST_BATCH);
                group.queue.drain(..count).collect()
            };
            self.send(&self.links[lane], policy, batch).await;
        }
    }

    async fn send(&self, link: &Link, policy: AckPolicy, batch: Vec<Request>) {
        let connection = match link.get().await {
            Ok(connection) => connection,
            Err(error) => {
                for request in batch {
                    let _ = request.answer.send(Err(error.clone()));
                }
                return;
            }
        };
        let mut scripts = Vec::with_capacity(batch.len() * 256);
        for request in &batch {
            request.command.write_packed_command(&mut scripts);
        }
        let limit = self.config.command_timeout;
        // Deadlines count from here. What was queued has not been sent, so its lease has not begun.
        let sent = self.clock.boot();
        let scripts = connection.exchange(scripts, batch.len(), limit);
        if policy.required == 0 {
            settle(batch, scripts.await, sent, false);
            return;
        }
        let timeout = Duration::from_millis(policy.timeout_ms.into());
        let wait = redis::cmd("WAIT").arg(policy.required).arg(policy.timeout_ms).get_packed_command();
        let wait = connection.exchange(wait, 1, timeout + limit);
        // Both are handed to the connection before either is waited for, so nothing comes in between, and both go out in
        // one write. Apart, so that whoever found somebody else does not wait for the replicas of others.
        let (granted, mut wait) = tokio::select! {
            both = async { tokio::join!(biased; async { settle(batch, scripts.await, sent, true) }, wait) } => both,
            () = self.nudge(timeout) => unreachable!("nudging never ends"),
        };
        let wait = next(&mut wait);
        for (request, reply) in granted {
            let _ = request.answer.send(Ok(Proof { sent, reply: Ok(reply), wait: Some(wait.clone()) }));
        }
    }

    /// Redis notices that a WAIT's time is over when something happens, or at its next timer, up to 100 ms later. So
    /// something happens: a PING on another connection, until the answer is there.
    async fn nudge(&self, timeout: Duration) {
        tokio::time::sleep(timeout + Duration::from_millis(1)).await;
        loop {
            if let Ok(control) = self.control.get().await {
                let _ = control.command(&redis::cmd("PING"), self.config.command_timeout).await;
            }
            tokio::time::sleep(NUDGE_EVERY).await;
        }
    }

    /// Gives up the connections.
    pub(super) async fn close(&self) {
        for link in &self.links {
            link.disconnect().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in between would leave at worst a lane unused.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what needs no acknowledgement, and returns what does. Every script answers a positive number when it wrote.
fn settle(batch: Vec<Request>, mut answer: Answer, sent: BootInstant, waits: bool) -> Vec<(Request, Value)> {
    let mut written = Vec::new();
    for request in batch {
        match next(&mut answer) {
            Ok(reply @ Value::Int(1..)) if waits => written.push((request, reply)),
            reply => {
                let _ = request.answer.send(Ok(Proof { sent, reply, wait: None }));
            }
        }
    }
    written
}

/// The next reply, or why there is none.
fn next(answer: &mut Answer) -> std::result::Result<Value, Broken> {
    answer.replies.pop_front().ok_or_else(|| {
        answer.broken.clone().unwrap_or_else(|| Broken { reason: "the reply is missing".into(), sent: true })
    })
}
