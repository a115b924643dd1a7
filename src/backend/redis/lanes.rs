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
use tokio::time::{Instant, timeout_at};

use super::cleanup::Absent;
use super::connection::{Answer, Connection, Exchange};
use super::link::Link;
use super::outcome::{About, Proof, Subject, Verdict};
use super::queue::{Batch, Entry, Limits, Next, Queue, Staffing};
use super::scripts::{Item, MAX_ITEMS, Script};
use crate::backend::AckPolicy;
use crate::clock::BootInstant;
use crate::error::Error;

/// How often a request is sent at most: the script may have to be loaded, and the request to travel alone.
const TRIPS: u32 = 3;

/// What became of one request.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// Written, and so many replicas have it: perhaps fewer than required.
    Written { reply: i64, sent: BootInstant, acks: u32 },
    /// Nothing was written, because somebody else has it.
    Declined(i64),
    /// Nothing was written, or even sent.
    Refused(Error),
    /// Written, perhaps, and it cannot be proved: undo it. The error is for the caller.
    Undo(Error, Absent),
    /// Nobody knows.
    Unknown(Arc<str>),
}

/// The lanes for one kind of request. Lanes are made on demand and stay.
pub(super) struct Lanes {
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
        let mut connection = None;
        loop {
            let (next, staffing) = self.lock().next(connection.is_some());
            self.staff(staffing);
            match next {
                Next::Carry(policy, batch) => {
                    let _done = OnDrop::new(|| self.lock().done(policy));
                    if policy.required == 0 {
                        self.carry_unproved(policy, batch).await;
                    } else {
                        self.carry(&mut connection, policy, batch).await;
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
    async fn carry(&self, lane: &mut Option<Connection>, policy: AckPolicy, batch: Batch) {
        let mut trip = Trip::first(batch);
        loop {
            // A server that went away meanwhile was noticed by the reader, so that nothing is sent in vain.
            if lane.as_ref().is_none_or(|connection| !connection.is_open()) {
                *lane = match self.link.dialer.dial(&self.link.config).await {
                    Ok(connection) => Some(connection),
                    Err(error) => return settle_all(trip.batch, &Outcome::Refused(error)),
                };
                // It may be a new server; and a WAIT behind a script it does not know would be time lost.
                trip.load = true;
            }
            let connection = lane.as_ref().expect("it is there or was just made");
            match self.round_trip(connection, policy, trip).await {
                Return::Settled => return,
                Return::Again(next) => trip = next,
                Return::Unwritten(next) => {
                    // Nothing was written, so its WAIT is of no use, and the next one would queue behind it.
                    *lane = None;
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
            match self.round_trip(&connection, policy, trip).await {
                Return::Settled => return,
                Return::Again(next) | Return::Unwritten(next) => trip = next,
            }
        }
    }

    /// Sends a batch and settles its requests, but for those that are to be sent again.
    async fn round_trip(&self, connection: &Connection, policy: AckPolicy, trip: Trip) -> Return {
        let about =
            About { address: &self.link.config.address, subject: self.subject, required: policy.required };
        let Trip { batch, number, load, mut alone } = trip;
        alone |= self.alone.load(Ordering::Relaxed);
        let per_call = if alone { 1 } else { MAX_ITEMS };
        let calls = batch.len().div_ceil(per_call);
        let replies = [usize::from(load) + calls, usize::from(policy.required > 0)];
        let mut sent = BootInstant::from_micros(0);
        let sending = connection.send(replies, |packer, out| {
            sent = self.link.clock.boot();
            if load {
                self.script.pack_load(packer, out);
            }
            for call in batch.chunks(per_call) {
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
        let started = Instant::now();
        let patience = Duration::from_millis(policy.timeout_ms.into()) + self.link.config.command_timeout;
        // The scripts' replies come before WAIT ends, so who is busy need not wait for it.
        let mut answer = connection.answer(scripts, patience).await;
        let loaded = (load && !answer.replies.is_empty()).then(|| answer.replies.remove(0));
        let mut sorter = Sorter::new(about, number >= TRIPS, loaded);
        let mut calls = batch.into_iter();
        for reply in answer.replies {
            sorter.call(calls.by_ref().take(per_call).collect(), reply);
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
            let proof = self.proof(connection, wait, started, policy, patience).await;
            let proof = proof.map_or_else(Proof::Unknown, |reply| about.proof(&reply));
            for (entry, reply) in written {
                let outcome = match &proof {
                    Proof::Acks(acks) => Outcome::Written { reply, sent, acks: *acks },
                    Proof::Impossible(error) => Outcome::Undo(error.clone(), Absent::Ends),
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

    /// The reply of WAIT, or why there is none. Redis notices the end of WAIT's time only when something happens, or
    /// up to 100 ms later; a PING on another connection is something that happens.
    async fn proof(
        &self,
        connection: &Connection,
        mut wait: Exchange,
        started: Instant,
        policy: AckPolicy,
        patience: Duration,
    ) -> Result<Value, String> {
        let mut pause = Duration::from_millis(1);
        let mut nudge = started + Duration::from_millis(policy.timeout_ms.into()) + pause;
        let end = started + patience;
        let answer = loop {
            if nudge >= end {
                break connection.answer(wait, end - Instant::now()).await;
            }
            if let Ok(answer) = timeout_at(nudge, &mut wait).await {
                break answer.unwrap_or_else(|_| Answer::gone());
            }
            // Its time counts from when the server came to it, which we do not know: so again, soon.
            self.link.control.nudge();
            pause = (pause * 2).min(Duration::from_millis(8));
            nudge = Instant::now() + pause;
        };
        match (answer.replies.into_iter().next(), answer.broken) {
            (Some(reply), _) => Ok(reply),
            (None, Some(broken)) => Err(broken.to_string()),
            (None, None) => Err("no reply".to_owned()),
        }
    }
}

/// One way of a batch to the server and back.
struct Trip {
    batch: Batch,
    /// 1 for the first.
    number: u32,
    /// Whether the script is loaded first.
    load: bool,
    /// Whether each request travels in a call of its own.
    alone: bool,
}

impl Trip {
    const fn first(batch: Batch) -> Self {
        Self { batch, number: 1, load: false, alone: false }
    }
}

/// What came back.
enum Return {
    /// Every request is settled.
    Settled,
    /// These are to be sent again.
    Again(Trip),
    /// Likewise, and nothing of the batch was written: its WAIT was not awaited.
    Unwritten(Trip),
}

/// Settles what needs no proof, and keeps what was written, each with its script's reply, and what is to be sent again.
struct Sorter<'a> {
    about: About<'a>,
    /// Nothing is sent again after this.
    last: bool,
    /// Why the script could not be loaded.
    not_loadable: Option<Error>,
    written: Vec<(Entry, i64)>,
    again: Batch,
    /// The server did not know the script.
    missing: bool,
    /// The server does not take keys of different slots in one call.
    crossed: bool,
}

impl<'a> Sorter<'a> {
    fn new(about: About<'a>, last: bool, loaded: Option<Value>) -> Self {
        let not_loadable =
            loaded.filter(|reply| matches!(reply, Value::ServerError(_))).map(|reply| about.error(&reply));
        let (written, again) = (Vec::new(), Batch::new());
        Self { about, last, not_loadable, written, again, missing: false, crossed: false }
    }

    /// The requests of one call, and its reply: a list with one for each, or an error for all.
    fn call(&mut self, mut entries: Batch, reply: Value) {
        match reply {
            Value::Array(replies) if replies.len() == entries.len() => {
                for (entry, reply) in entries.into_iter().zip(replies) {
                    let verdict = self.about.verdict_in_list(&reply);
                    self.entry(entry, verdict);
                }
            }
            Value::Array(_) => {
                let verdict = Verdict::Failed(self.about.error(&reply));
                entries.into_iter().for_each(|entry| self.entry(entry, verdict.clone()));
            }
            reply => {
                // Refused for one of its keys, perhaps: nothing was written, and each can be asked for by itself.
                let code = if let Value::ServerError(error) = &reply { error.code() } else { "" };
                if entries.len() > 1 && !self.last && matches!(code, "NOPERM" | "CROSSSLOT") {
                    self.crossed |= code == "CROSSSLOT";
                    self.again.append(&mut entries);
                    return;
                }
                let verdict = self.about.verdict(&reply);
                entries.into_iter().for_each(|entry| self.entry(entry, verdict.clone()));
            }
        }
    }

    fn entry(&mut self, entry: Entry, verdict: Verdict) {
        let outcome = match verdict {
            Verdict::Done(reply) => return self.written.push((entry, reply)),
            Verdict::NotLoaded(_) if self.not_loadable.is_none() && !self.last => {
                self.missing = true;
                return self.again.push(entry);
            }
            // Why it cannot be loaded tells more than that it is not.
            Verdict::NotLoaded(error) => Outcome::Refused(self.not_loadable.clone().unwrap_or(error)),
            Verdict::Declined(reply) => Outcome::Declined(reply),
            Verdict::Refused(error) => Outcome::Refused(error),
            // Whoever gave this answer may not be the server that carries the script out.
            Verdict::Failed(error) => Outcome::Undo(error, Absent::MayYetCome),
        };
        settle(entry, outcome);
    }
}

fn settle(entry: Entry, outcome: Outcome) {
    // Contract: callers do not go away before their outcome. If one does all the same, its lease runs out.
    let _ = entry.done.send(outcome);
}

fn settle_all(entries: Batch, outcome: &Outcome) {
    for entry in entries {
        settle(entry, outcome.clone());
    }
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
