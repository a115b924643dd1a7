//! WAIT lanes of one node: connections on which one batch at a time is under way, N scripts and one WAIT.
//!
//! WAIT speaks of the writes of its own connection, so scripts and WAIT leave together on a connection that nobody else
//! writes to, and nothing is ever sent a second time except what the server said it had not run (NOSCRIPT).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use super::cleanup::Absent;
use super::connection::{Answer, Connection, Exchange};
use super::control::LOADS;
use super::link::Link;
use super::outcome::{About, Proof, Subject, Verdict};
use super::queue::{Batch, Entry, Limits, Next, Queue, Staffing};
use super::scripts::{Call, Script, pack_load};
use crate::backend::AckPolicy;
use crate::clock::BootInstant;
use crate::error::{Error, Result};

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
    /// There is work for an idle lane, or the lanes shall end.
    work: Notify,
    /// A lane ended.
    ended: Notify,
}

impl Lanes {
    pub fn new(link: Link, script: &'static Script, subject: Subject, limits: Limits) -> Self {
        let queue = Mutex::new(Queue::new(limits));
        Self { link, script, subject, queue, work: Notify::new(), ended: Notify::new() }
    }

    /// Runs a script and waits for its proof.
    pub async fn run(self: &Arc<Self>, policy: AckPolicy, call: &Call<'_>) -> Outcome {
        let (done, outcome) = oneshot::channel();
        let staffing = self.lock().push(policy, done, |packer, out| call.pack(packer, out));
        let Some(staffing) = staffing else { return Outcome::Refused(Error::Closed) };
        self.staff(staffing);
        // A lane always answers; it can only vanish with its runtime.
        outcome.await.unwrap_or_else(|_| Outcome::Unknown("the connection is gone".into()))
    }

    /// Takes no more requests and lets the lanes end after what they carry.
    pub fn shut(&self) {
        let left = self.lock().close();
        for batch in left {
            settle_all(batch.entries, &Outcome::Refused(Error::Closed));
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
        let _leave = OnDrop(|| {
            self.lock().leave();
            self.ended.notify_waiters();
            self.work.notify_one();
        });
        let mut connection = None;
        loop {
            let (next, staffing) = self.lock().next();
            self.staff(staffing);
            match next {
                Next::Carry(policy, batch) => {
                    let _done = OnDrop(|| self.lock().done(policy));
                    self.carry(&mut connection, policy, batch).await;
                }
                Next::Wait => self.work.notified().await,
                Next::End => return,
            }
        }
    }

    async fn carry(&self, connection: &mut Option<Connection>, policy: AckPolicy, mut batch: Batch) {
        let connection = match self.ready(connection).await {
            Ok(connection) => connection,
            Err(error) => return settle_all(batch.entries, &Outcome::Refused(error)),
        };
        for loads in 0..=LOADS {
            batch = self.round_trip(connection, policy, batch, loads).await;
            if batch.entries.is_empty() {
                return;
            }
        }
    }

    /// The lane's connection. A server that went away meanwhile was noticed by its reader, so it is made anew before
    /// anything is sent.
    async fn ready<'a>(&self, connection: &'a mut Option<Connection>) -> Result<&'a Connection> {
        if connection.as_ref().is_none_or(|connection| !connection.is_open()) {
            *connection = Some(self.link.dialer.dial(&self.link.config).await?);
        }
        Ok(connection.as_ref().expect("it is there or was just made"))
    }

    /// Sends a batch and settles its requests. What is left is to be sent again, after the script is loaded.
    async fn round_trip(
        &self,
        connection: &Connection,
        policy: AckPolicy,
        batch: Batch,
        loads: u32,
    ) -> Batch {
        let about =
            About { address: &self.link.config.address, subject: self.subject, required: policy.required };
        let load = loads > 0;
        let mut sent = BootInstant::from_micros(0);
        let sending = connection.send([usize::from(load) + batch.entries.len(), 1], |packer, out| {
            sent = self.link.clock.boot();
            if load {
                pack_load(self.script, packer, out);
            }
            out.extend_from_slice(&batch.bytes);
            packer.command(out, |cmd| {
                cmd.arg("WAIT").arg(policy.required).arg(policy.timeout_ms);
            });
        });
        let [scripts, wait] = match sending {
            Ok(exchanges) => exchanges,
            Err(broken) => {
                settle_all(batch.entries, &Outcome::Refused(about.unsent(&broken)));
                return Batch::default();
            }
        };
        let started = Instant::now();
        let patience = Duration::from_millis(policy.timeout_ms.into()) + self.link.config.command_timeout;
        // The scripts' replies come before WAIT ends, so who is busy need not wait for it.
        let answer = connection.answer(scripts, patience).await;
        let (written, again) = Self::sort(&about, batch, answer, loads);
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
        again
    }

    /// Settles what needs no proof. Leaves what was written, each with its script's reply, and what is to be sent again.
    fn sort(about: &About<'_>, batch: Batch, answer: Answer, loads: u32) -> (Vec<(Entry, i64)>, Batch) {
        let mut replies = answer.replies.into_iter();
        let loaded = if loads > 0 { replies.next() } else { None };
        let not_loadable =
            loaded.filter(|reply| matches!(reply, Value::ServerError(_))).map(|reply| about.error(&reply));
        let unanswered = match answer.broken {
            Some(broken) if !broken.sent => Outcome::Refused(about.unsent(&broken)),
            Some(broken) => Outcome::Unknown(broken.why),
            None => Outcome::Unknown("no reply".into()),
        };
        let mut written = Vec::with_capacity(replies.len());
        let mut again = Batch::default();
        let (bytes, parts) = batch.into_parts();
        for (entry, own) in parts {
            let Some(reply) = replies.next() else {
                settle(entry, unanswered.clone());
                continue;
            };
            match about.verdict(&reply) {
                Verdict::Done(reply) => written.push((entry, reply)),
                Verdict::NotLoaded(_) if not_loadable.is_none() && loads < LOADS => {
                    again.push(entry.done, |out| out.extend_from_slice(&bytes[own]));
                }
                // Why it cannot be loaded tells more than that it is not.
                Verdict::NotLoaded(error) => {
                    settle(entry, Outcome::Refused(not_loadable.clone().unwrap_or(error)));
                }
                Verdict::Declined(reply) => settle(entry, Outcome::Declined(reply)),
                Verdict::Refused(error) => settle(entry, Outcome::Refused(error)),
                // Whoever gave this answer may not be the server that carries the script out.
                Verdict::Failed(error) => settle(entry, Outcome::Undo(error, Absent::MayYetCome)),
            }
        }
        (written, again)
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
    ) -> std::result::Result<Value, String> {
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

fn settle(entry: Entry, outcome: Outcome) {
    // Contract: callers do not go away before their outcome. If one does all the same, its lease runs out.
    let _ = entry.done.send(outcome);
}

fn settle_all(entries: Vec<Entry>, outcome: &Outcome) {
    for entry in entries {
        settle(entry, outcome.clone());
    }
}

/// Does something at the end of a scope, also when a panic leaves it.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
