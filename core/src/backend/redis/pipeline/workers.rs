//! Lanes of one node: tasks that carry one batch of requests at a time, in a few calls of a script with one WAIT behind
//! them.
//!
//! WAIT speaks of the writes of its own connection, so scripts and WAIT leave together on a connection that nobody else
//! writes to, and nothing is ever sent a second time except what the server said it had not run (NOSCRIPT, or a call
//! that it refused for one of its keys). A lane without a WAIT uses the connection that all such share, and ends when
//! there is nothing to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::{Notify, oneshot};

use super::batch::{Batch, Entry, Outcome, settle, settle_all};
use super::round_trip::{Return, Sorter, Trip};
use super::scheduler::{Limits, Next, Queue, Staffing};
use super::wait_kick::Nudger;
use crate::backend::redis::connection::{Answer, Connection};
use crate::backend::redis::node::context::Link;
use crate::backend::redis::protocol::replies::{About, Proof, Subject};
use crate::backend::redis::protocol::scripts::{Item, Script, cut};
use crate::error::Error;
use crate::lease::AckPolicy;
use crate::runtime::clock::BootInstant;
use crate::runtime::undo::IfMissing;

/// How often a request is sent at most: the script may have to be loaded, and the request to travel alone.
const TRIPS: u32 = 3;

/// The lanes for one kind of request. Lanes are made on demand and stay.
pub(crate) struct Lanes {
    link: Link,
    script: &'static Script,
    subject: Subject,
    // A std Mutex, because nothing awaits while it is held.
    queue: Mutex<Queue>,
    /// This server takes no call with the keys of several requests, because it is a cluster's.
    alone: AtomicBool,
    /// There is work for an idle lane, or the lanes shall end.
    work: Notify,
    /// A lane ended.
    ended: Notify,
}

impl Lanes {
    pub fn new(link: Link, script: &'static Script, subject: Subject, limits: Limits) -> Self {
        let queue = Mutex::new(Queue::new(limits));
        let alone = AtomicBool::new(false);
        Self { link, script, subject, queue, alone, work: Notify::new(), ended: Notify::new() }
    }

    /// Runs a script for one request and waits for its proof. Without acknowledgements there is none to wait for.
    pub async fn run(self: &Arc<Self>, policy: AckPolicy, item: Item) -> Outcome {
        let (done, outcome) = oneshot::channel();
        let staffing = self.lock().push(policy, Entry { item, done });
        let Some(staffing) = staffing else { return Outcome::Refused(Error::Closed) };
        self.staff(staffing);
        // A lane always answers; it can only vanish with its runtime.
        outcome.await.unwrap_or_else(|_| Outcome::Unknown("the connection is gone".into()))
    }

    /// Takes no more requests and lets the lanes end after what they carry.
    pub fn shut(&self) {
        let left = self.lock().close();
        for batch in left {
            settle_all(batch, &Outcome::Refused(Error::Closed));
        }
        self.work.notify_waiters();
        // For a lane that was about to wait.
        self.work.notify_one();
    }

    /// Until all lanes have ended.
    pub async fn gone(&self) {
        loop {
            let ended = self.ended.notified();
            if self.lock().lanes() == 0 {
                return;
            }
            ended.await;
        }
    }

    fn staff(self: &Arc<Self>, staffing: Staffing) {
        match staffing {
            Staffing::Enough => {}
            Staffing::Wake => self.work.notify_one(),
            Staffing::Hire => {
                tokio::spawn(Arc::clone(self).lane());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a lane.
    async fn lane(self: Arc<Self>) {
        // Counted until the queue says that it ends.
        let mut leave = OnDrop::new(|| self.lock().leave());
        let mut line = None;
        loop {
            let (next, staffing) = self.lock().next(line.is_some());
            self.staff(staffing);
            match next {
                Next::Carry(policy, batch) => {
                    let _done = OnDrop::new(|| self.lock().done(policy));
                    if policy.required == 0 {
                        self.carry_unproved(policy, batch).await;
                    } else {
                        self.carry(&mut line, policy, batch).await;
                    }
                }
                Next::Wait => self.work.notified().await,
                Next::End => {
                    leave.disarm();
                    self.ended.notify_waiters();
                    self.work.notify_one();
                    return;
                }
            }
        }
    }

    /// A batch with a WAIT, on the lane's own connection.
    async fn carry(&self, line: &mut Option<Wire>, policy: AckPolicy, batch: Batch) {
        let mut trip = Trip::first(batch);
        loop {
            // A server that went away meanwhile was noticed by the reader, so that nothing is sent in vain.
            if line.as_ref().is_none_or(|line| !line.connection.is_open()) {
                *line = match self.link.dialer.dial(&self.link.config).await {
                    Ok(connection) => {
                        Some(Wire { connection, nudger: Nudger::start(Arc::clone(&self.link.control)) })
                    }
                    Err(error) => return settle_all(trip.batch, &Outcome::Refused(error)),
                };
                // It may be a new server; and a WAIT behind a script it does not know would be time lost.
                trip.load = true;
            }
            let Wire { connection, nudger } = line.as_ref().expect("it is there or was just made");
            match self.round_trip(connection, Some(nudger), policy, trip).await {
                Return::Settled => return,
                Return::Again(next) => trip = next,
                Return::Unwritten(next) => {
                    // Nothing was written, so its WAIT is of no use, and the next one would queue behind it.
                    *line = None;
                    trip = next;
                }
            }
        }
    }

    /// A batch without WAIT, on the connection that all such share.
    async fn carry_unproved(&self, policy: AckPolicy, batch: Batch) {
        let mut trip = Trip::first(batch);
        loop {
            let connection = match self.link.control.connection().await {
                Ok(connection) => connection,
                Err(error) => return settle_all(trip.batch, &Outcome::Refused(error)),
            };
            match self.round_trip(&connection, None, policy, trip).await {
                Return::Settled => return,
                Return::Again(next) | Return::Unwritten(next) => trip = next,
            }
        }
    }

    /// Sends a batch and settles its requests, but for those that are to be sent again.
    async fn round_trip(
        &self,
        connection: &Connection,
        nudger: Option<&Nudger>,
        policy: AckPolicy,
        trip: Trip,
    ) -> Return {
        let about =
            About { address: &self.link.config.address, subject: self.subject, required: policy.required };
        let Trip { batch, number, load, mut alone } = trip;
        alone |= self.alone.load(Ordering::Relaxed);
        let sizes = cut(batch.iter().map(|entry| &entry.item), alone);
        let replies = [usize::from(load) + sizes.len(), usize::from(policy.required > 0)];
        let mut sent = BootInstant::from_micros(0);
        let patience = Duration::from_millis(policy.timeout_ms.into()) + self.link.config.command_timeout;
        let sending = connection.send(replies, patience, |packer, out| {
            sent = self.link.clock.boot();
            if load {
                self.script.pack_load(packer, out);
            }
            let mut rest = &batch[..];
            for &size in &sizes {
                let (call, others) = rest.split_at(size);
                rest = others;
                let items = call.iter().map(|entry| &entry.item);
                self.script.pack(&self.link.config.keys, items, packer, out);
            }
            if policy.required > 0 {
                packer.command(out, |cmd| {
                    cmd.arg("WAIT").arg(policy.required).arg(policy.timeout_ms);
                });
            }
        });
        let [scripts, wait] = match sending {
            Ok(exchanges) => exchanges,
            Err(broken) => {
                settle_all(batch, &Outcome::Refused(about.unsent(&broken)));
                return Return::Settled;
            }
        };
        let _nudging = nudger.map(|nudger| nudger.over(Duration::from_millis(policy.timeout_ms.into())));
        // The scripts' replies come before WAIT ends, so who is busy need not wait for it.
        let mut answer = connection.answer(scripts).await;
        let loaded = (load && !answer.replies.is_empty()).then(|| answer.replies.remove(0));
        let mut sorter = Sorter::new(about, number >= TRIPS, loaded);
        let mut calls = batch.into_iter();
        for (reply, size) in answer.replies.into_iter().zip(sizes) {
            sorter.call(calls.by_ref().take(size).collect(), reply);
        }
        if calls.len() > 0 {
            let unanswered = match answer.broken {
                Some(broken) if !broken.sent => Outcome::Refused(about.unsent(&broken)),
                Some(broken) => Outcome::Unknown(broken.why),
                None => Outcome::Unknown("no reply".into()),
            };
            settle_all(calls.collect(), &unanswered);
        }
        let Sorter { written, again, missing, crossed, .. } = sorter;
        if crossed {
            self.alone.store(true, Ordering::Relaxed);
        }
        let next = Trip { load: missing, alone: alone || !missing, number: number + 1, batch: again };
        if written.is_empty() && !next.batch.is_empty() {
            return Return::Unwritten(next);
        }
        if policy.required > 0 {
            let proof = match first(connection.answer(wait).await) {
                Ok(reply) => about.proof(&reply),
                Err(why) => Proof::Unknown(why),
            };
            for (entry, reply) in written {
                let outcome = match &proof {
                    Proof::Acks(acks) => Outcome::Written { reply, sent, acks: *acks },
                    Proof::Impossible(error) => Outcome::Undo(error.clone(), IfMissing::Done),
                    Proof::Unknown(why) => Outcome::Unknown(why.as_str().into()),
                };
                settle(entry, outcome);
            }
        } else {
            for (entry, reply) in written {
                settle(entry, Outcome::Written { reply, sent, acks: 0 });
            }
        }
        if next.batch.is_empty() { Return::Settled } else { Return::Again(next) }
    }
}

/// The only reply of an answer, or why there is none.
fn first(answer: Answer) -> Result<Value, String> {
    match (answer.replies.into_iter().next(), answer.broken) {
        (Some(reply), _) => Ok(reply),
        (None, Some(broken)) => Err(broken.to_string()),
        (None, None) => Err("no reply".to_owned()),
    }
}

/// What a lane with WAITs has to itself.
struct Wire {
    connection: Connection,
    nudger: Nudger,
}

/// Does something at the end of a scope, also when a panic leaves it.
struct OnDrop<F: FnMut()> {
    act: F,
    armed: bool,
}

impl<F: FnMut()> OnDrop<F> {
    const fn new(act: F) -> Self {
        Self { act, armed: true }
    }

    const fn disarm(&mut self) {
        self.armed = false;
    }
}

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if self.armed {
            (self.act)();
        }
    }
}
