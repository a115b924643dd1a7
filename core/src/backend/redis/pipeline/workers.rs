//! The workers of a node: tasks that send one batch at a time, in a few calls of a script followed by a
//! WAIT.
//!
//! WAIT covers the writes of its own connection, so scripts and WAIT travel together on a connection without
//! other writes. Nothing is sent twice except what the server said it had not executed (NOSCRIPT, or a call
//! that it refused because of one of its keys). Workers without a WAIT use the shared connection, and exit
//! when there is nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::Value;
use scopeguard::ScopeGuard;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use super::batch::{BatchEntry, LeaseOutcome, RequestBatch, settle, settle_all};
#[cfg(unix)]
use super::inline_connector::InlineConnector;
use super::proving::{Proving, SentWait, Written, millis, pack_wait, reason, shortest};
use super::round_trip::{Completed, ReplySorter, RoundTrip};
use super::scheduler::{Assignment, Scale, Scheduler, WorkerLimits};
use super::wait_kick::WaitKicker;
use crate::backend::redis::connection::{Break, Connection, Exchange, Response};
use crate::backend::redis::node_context::{KEEP_IDLE, NodeContext};
use crate::backend::redis::protocol::lease_args::{Grouping, LeaseArgs, call_sizes};
use crate::backend::redis::protocol::operation::Operation;
use crate::backend::redis::protocol::replies::ReplyContext;
use crate::backend::redis::protocol::replies::proof::Proof;
use crate::backend::redis::protocol::scripts::{Script, pack_asking};
use crate::error::Error;
use crate::lease::AckPolicy;
use crate::runtime::clock::BootInstant;
use crate::runtime::sync::Mutex;

/// How often a request is sent at most: the script may have to be loaded, the request to be sent separately,
/// and to another server.
const MAX_ROUND_TRIPS: u32 = 4;

/// An extension is answered within this share of its TTL, or is made again on a new connection: it is due
/// when a third of the TTL is over, so there is time for that even if a connection was dropped silently.
const EXTENSION_SHARE: u32 = 4;
/// How long a server that is alive may take to answer an extension, in addition to the acknowledgements.
const SHORTEST_LIMIT: Duration = Duration::from_millis(250);

/// The workers for one operation. They are started on demand; those with a connection of their own stay.
pub(crate) struct Workers {
    pub(super) context: NodeContext,
    script: &'static Script,
    operation: Operation,
    pub(super) scheduler: Mutex<Scheduler>,
    /// There is work for an idle worker, or the workers must exit.
    work: Notify,
    /// A worker exited.
    pub(super) exited: Notify,
    #[cfg(unix)]
    pub(super) inline: Option<Arc<InlineConnector>>,
    /// A caller that sent its request itself was told that the server does not know the script.
    pub(super) lacks_script: AtomicBool,
}

impl Workers {
    pub fn new(
        context: NodeContext,
        script: &'static Script,
        operation: Operation,
        limits: WorkerLimits,
    ) -> Self {
        let scheduler = Mutex::new(Scheduler::new(limits));
        Self {
            context,
            script,
            operation,
            scheduler,
            work: Notify::new(),
            exited: Notify::new(),
            #[cfg(unix)]
            inline: None,
            lacks_script: AtomicBool::new(false),
        }
    }

    /// Requests that are alone are sent by their callers, if there is a connection for them.
    #[cfg(unix)]
    pub fn with_inline(mut self, inline: Option<&Arc<InlineConnector>>) -> Self {
        self.inline = inline.cloned();
        self
    }

    /// Runs the script for one request and waits for its proof, unless none is required.
    pub async fn run(self: &Arc<Self>, acks: AckPolicy, lease: LeaseArgs) -> LeaseOutcome {
        let (done, outcome) = oneshot::channel();
        let entry = BatchEntry { lease, acks, done };
        #[cfg(unix)]
        if let Some(entered) = self.enter_inline() {
            return Box::pin(entered.run(entry, outcome)).await;
        }
        self.enqueue(entry);
        // A worker settles every request; it can only disappear with its runtime.
        outcome.await.unwrap_or_else(|_| LeaseOutcome::Unknown("the connection is closed".into()))
    }

    /// Leaves a request to the workers; refuses it if no more are accepted.
    pub(super) fn enqueue(self: &Arc<Self>, entry: BatchEntry) {
        let pushed = self.scheduler.lock().push(entry);
        match pushed {
            Ok(scale) => self.scale(scale),
            Err(entry) => settle(entry, LeaseOutcome::Refused(Error::Closed)),
        }
    }

    /// Accepts no more requests; workers exit after their current batch.
    pub fn stop_accepting(&self) {
        let unsent = self.scheduler.lock().close();
        for batch in unsent {
            settle_all(batch, &LeaseOutcome::Refused(Error::Closed));
        }
        self.work.notify_waiters();
        // For a worker that was about to wait.
        self.work.notify_one();
    }

    /// Waits until all workers have exited.
    pub async fn joined(&self) {
        loop {
            let exited = self.exited.notified();
            if self.scheduler.lock().is_over() {
                return;
            }
            exited.await;
        }
    }

    pub(super) fn scale(self: &Arc<Self>, scale: Scale) {
        match scale {
            Scale::Keep => {}
            Scale::Wake => self.work.notify_one(),
            Scale::Spawn => {
                tokio::spawn(Arc::clone(self).worker());
            }
        }
    }

    async fn worker(self: Arc<Self>) {
        // Counted until the scheduler tells it to exit.
        let counted = scopeguard::guard((), |()| self.scheduler.lock().worker_failed());
        let mut own = None;
        loop {
            let (assignment, scale) = self.scheduler.lock().next(own.is_some());
            self.scale(scale);
            match assignment {
                Assignment::Send(class, batch) => {
                    let _done = scopeguard::guard((), |()| self.scheduler.lock().done(class));
                    if class.proof.is_needed() {
                        self.send_proved(&mut own, class.proof, batch).await;
                    } else {
                        self.send_unproved(batch).await;
                    }
                }
                Assignment::Wait => {
                    let work = self.work.notified();
                    if !self.context.of_cluster {
                        work.await;
                    } else if timeout(KEEP_IDLE, work).await.is_err() {
                        own = None;
                    }
                }
                Assignment::Exit => {
                    ScopeGuard::into_inner(counted);
                    self.exited.notify_waiters();
                    self.work.notify_one();
                    return;
                }
            }
        }
    }

    /// A batch with a WAIT, on the worker's own connection.
    async fn send_proved(&self, own: &mut Option<WorkerConnection>, proof: Proof, batch: RequestBatch) {
        let mut trip = self.first_trip(batch);
        loop {
            // The reader notices a server that went away while the connection was idle, so nothing is sent in
            // vain.
            if own.as_ref().is_none_or(|own| !own.connection.is_open()) {
                *own = match self.context.connector.connect(Instant::now().into_std()).await {
                    Ok(connection) => Some(WorkerConnection {
                        connection,
                        kicker: WaitKicker::start(Arc::clone(&self.context.shared)),
                    }),
                    Err(error) => return settle_all(trip.batch, &LeaseOutcome::Refused(error)),
                };
                // The server may be a new one, and a WAIT after an unknown script would waste time.
                trip.load_script = true;
            }
            let WorkerConnection { connection, kicker } = own.as_ref().expect("it exists or was just made");
            match self.round_trip(connection, Some(kicker), proof, trip).await {
                Completed::Settled => return,
                Completed::Resend(next) => trip = next,
                Completed::NothingWritten(next) => {
                    // Nothing was written, so its WAIT is useless, and the next one would queue behind it.
                    *own = None;
                    trip = next;
                }
            }
        }
    }

    /// A batch without WAIT, on the shared connection.
    async fn send_unproved(&self, batch: RequestBatch) {
        let mut trip = self.first_trip(batch);
        loop {
            let connection = match self.context.shared.get().await {
                Ok(connection) => connection,
                Err(error) => return settle_all(trip.batch, &LeaseOutcome::Refused(error)),
            };
            match self.round_trip(&connection, None, Proof::NONE, trip).await {
                Completed::Settled => return,
                Completed::Resend(next) | Completed::NothingWritten(next) => trip = next,
            }
        }
    }

    fn first_trip(&self, batch: RequestBatch) -> RoundTrip {
        let load_script = self.lacks_script.swap(false, Ordering::Relaxed);
        RoundTrip { load_script, ..RoundTrip::first(batch, self.context.grouping()) }
    }

    /// Sends a batch and settles its requests, except those that must be sent again.
    pub(super) async fn round_trip(
        &self,
        connection: &Connection,
        kicker: Option<&WaitKicker>,
        proof: Proof,
        trip: RoundTrip,
    ) -> Completed {
        let context = self.context.reply_context(self.operation).requiring(proof);
        let SentBatch { at, sizes, early, scripts, wait } = match self.send(connection, proof, &trip) {
            Ok(sent) => sent,
            Err(broken) => {
                settle_all(trip.batch, &LeaseOutcome::Refused(context.not_sent(&broken)));
                return Completed::Settled;
            }
        };
        let kicking = kicker.map(|kicker| kicker.watch(wait.due));
        // The scripts' replies come before the WAIT ends, so busy requests do not wait for it. Only an error
        // for a whole call does, because what proves it comes after the WAIT.
        let response = match early.filter(|_| !proof.is_needed()) {
            None => connection.receive(scripts).await,
            Some(early) => {
                let in_time = timeout(early, connection.receive(scripts)).await;
                in_time.unwrap_or_else(|_| {
                    // Others may have more time for what they sent on it, so it is not closed.
                    self.context.shared.replace(connection);
                    Response::late(early)
                })
            }
        };
        let (written, next) = self.sort(context, trip, sizes, response);
        if written.is_empty() && !next.batch.is_empty() && !proof.fsync {
            return Completed::NothingWritten(next);
        }
        let command_timeout = self.context.settings.command_timeout;
        let proving = Proving { connection, context, command_timeout };
        match kicking {
            Some(kicking) => proving.prove(kicking, (written, at), wait).await,
            None => proving.settle_unproved((written, at)),
        }
        if next.batch.is_empty() { Completed::Settled } else { Completed::Resend(next) }
    }

    /// Sends the calls of the script, and the WAIT.
    fn send(&self, connection: &Connection, proof: Proof, trip: &RoundTrip) -> Result<SentBatch, Break> {
        let sizes = call_sizes(trip.batch.iter().map(|entry| &entry.lease), trip.grouping);
        let askings = trip.batch.iter().filter(|entry| entry.lease.asking).count();
        let calls = usize::from(trip.load_script) + sizes.len() + askings;
        let proved = proof.is_needed();
        // What must be on disk is asked for when the write has reached the replicas.
        let waits = proved && !proof.fsync;
        let replies = [calls, if waits { 2 } else { 0 }];
        // The next ones are for those that allow more time.
        let timeout_ms = if proved { shortest(&trip.batch).unwrap_or_default() } else { 0 };
        let mut at = BootInstant::from_micros(0);
        let limit = millis(timeout_ms) + self.context.settings.command_timeout;
        let early = self.early_limit(timeout_ms, &trip.batch).filter(|&early| early < limit);
        // Only a connection of our own is closed for a reply that is late for us.
        let limit = early.filter(|_| proved).unwrap_or(limit);
        let [scripts, wait] = connection.send(replies, limit, |packer, out| {
            at = self.context.clock.boot();
            if trip.load_script {
                self.script.pack_load(packer, out);
            }
            let mut by_text = trip.load_script;
            let mut rest = &trip.batch[..];
            for &size in &sizes {
                let (call, others) = rest.split_at(size);
                rest = others;
                if call[0].lease.asking {
                    pack_asking(packer, out);
                }
                let leases = call.iter().map(|entry| &entry.lease);
                let keys = &self.context.settings.keys;
                // So that a user who may not load it can run it: then the server knows it for the others.
                packer.by_text(std::mem::take(&mut by_text), |packer| {
                    self.script.pack(keys, leases, packer, out);
                });
            }
            if waits {
                pack_wait(packer, out, proof, timeout_ms);
            }
        })?;
        let wait = SentWait { exchange: wait, ends_ms: timeout_ms, due: Instant::now() + millis(timeout_ms) };
        Ok(SentBatch { at, sizes, early, scripts, wait })
    }

    /// How long the replies to extensions may take; `None` for other operations.
    fn early_limit(&self, timeout_ms: u32, batch: &[BatchEntry]) -> Option<Duration> {
        if self.operation != Operation::Extend {
            return None;
        }
        let shortest = batch.iter().map(|entry| entry.lease.ttl()).min()?;
        Some((shortest / EXTENSION_SHARE).max(millis(timeout_ms) + SHORTEST_LIMIT))
    }

    /// Settles the requests that need no proof. Returns those that were written, and the round trip for those
    /// that must be sent again.
    fn sort(
        &self,
        context: ReplyContext<'_>,
        trip: RoundTrip,
        sizes: Vec<usize>,
        response: Response,
    ) -> (Written, RoundTrip) {
        let RoundTrip { batch, attempt, load_script, grouping } = trip;
        let mut sorter = ReplySorter::new(context, attempt >= MAX_ROUND_TRIPS);
        let mut calls = batch.into_iter();
        // Without that of SCRIPT LOAD: it does not matter whether it could be loaded.
        let mut replies = response.replies.into_iter().skip(usize::from(load_script));
        for size in sizes {
            let asked = if calls.as_slice()[0].lease.asking { replies.next() } else { None };
            let Some(mut reply) = replies.next() else { break };
            // The refusal of ASKING says more than that of the call, which it is the reason for.
            if let (Some(refused @ Value::ServerError(_)), Value::ServerError(_)) = (asked, &reply) {
                reply = refused;
            }
            sorter.add_call(calls.by_ref().take(size).collect(), reply);
        }
        if calls.len() > 0 {
            let outcome = match response.broken {
                Some(broken) if !broken.sent => LeaseOutcome::Refused(context.not_sent(&broken)),
                broken => LeaseOutcome::Unknown(reason(broken)),
            };
            settle_all(calls.collect(), &outcome);
        }
        let ReplySorter { written, resend, not_loaded, crosses_slots, .. } = sorter;
        if crosses_slots {
            self.context.by_slot.store(true, Ordering::Relaxed);
        }
        let next = RoundTrip {
            batch: resend,
            attempt: attempt + 1,
            load_script: not_loaded,
            grouping: if not_loaded { grouping } else { Grouping::None },
        };
        (written, next)
    }
}

/// A batch in flight.
struct SentBatch {
    /// The moment before it was sent.
    at: BootInstant,
    /// The number of requests in each call.
    sizes: Vec<usize>,
    /// After this long the replies come too late, though the connection may be in order.
    early: Option<Duration>,
    scripts: Exchange,
    wait: SentWait,
}

/// The connection of a worker that sends WAITs.
struct WorkerConnection {
    connection: Connection,
    kicker: WaitKicker,
}
