//! May a node vote? Asked at each connection: whether it remembers what it accepted, and whether other
//! clients have the same quorum.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redis::Value;

use super::restart::{Past, field};
use super::scripts::{VoteScripts, pack_agreement};
use crate::backend::redis::connection::Connection;
use crate::backend::redis::connection::shared::ExchangeError;
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::operation::Operation;
use crate::backend::redis::protocol::packer::Packer;
use crate::backend::redis::protocol::replies::expected::ExpectedReply;
use crate::backend::redis::protocol::scripts::{LEAVE_REST, RELEASE};
use crate::backend::redis::protocol::values::{text, texts};
use crate::error::{Error, Result};
use crate::runtime::clock::BootInstant;
use crate::runtime::sync::Mutex;

/// What all clients of a quorum must have in common, and for how long a node must not vote that may have
/// forgotten something.
#[derive(Debug, Clone)]
pub(crate) struct Agreement {
    /// The nodes and the longest TTL, as text for people.
    pub note: Arc<str>,
    /// The longest that anything a node has accepted can matter.
    pub away: Duration,
    /// How long a node does not vote after a restart: `away`, unless it is for development.
    pub restart_delay: Duration,
}

impl Agreement {
    /// How long the note stays on a node without being renewed.
    fn ttl_ms(&self) -> u64 {
        u64::try_from(self.away.as_millis()).unwrap_or(u64::MAX).saturating_mul(2)
    }
}

/// The connection through which a node votes.
pub(crate) struct Admission {
    context: NodeContext,
    agreement: Agreement,
    state: Mutex<State>,
    /// Held while connecting, so that all callers that wait get the same connection.
    admitting: tokio::sync::Mutex<()>,
    in_background: AtomicBool,
    serial: AtomicU64,
    /// When it answered last, in microseconds on the boot clock.
    heard: AtomicU64,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Admitted>>,
    last_error: Option<Error>,
    /// When the note was written last.
    noted: Option<BootInstant>,
    /// The last run of the server that was met, from when on it votes, and why not before.
    last_run: Option<(Run, BootInstant, Option<&'static str>)>,
    closed: bool,
}

/// A run of a server, and the primary that it followed before.
type Run = (String, String);

/// A node that is connected, and what it said.
pub(crate) struct Admitted {
    pub(super) connection: Arc<Connection>,
    pub(super) scripts: VoteScripts,
    /// Differs between the connections of this client.
    pub serial: u64,
    /// Differs between servers, and between the runs of one; `None`: it does not say.
    pub run_id: Option<String>,
    /// It votes from this moment on.
    pub votes_from: BootInstant,
    /// Why it does not vote yet.
    pub why: Option<&'static str>,
    /// What time it was there.
    pub time: Option<TimeSample>,
}

/// When a node was asked, when it answered, and what time it was there, in microseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeSample {
    pub sent: BootInstant,
    pub received: BootInstant,
    pub node_us: u64,
}

impl Admission {
    pub fn new(context: NodeContext, agreement: Agreement) -> Self {
        Self {
            context,
            agreement,
            state: Mutex::default(),
            admitting: tokio::sync::Mutex::new(()),
            in_background: AtomicBool::new(false),
            serial: AtomicU64::new(1),
            heard: AtomicU64::new(0),
        }
    }

    /// See [`super::Voter::admitted`].
    pub fn current(&self) -> Option<Arc<Admitted>> {
        let state = self.state.lock();
        let (now, away) = (self.context.clock.boot(), self.agreement.away);
        // Longer ago, the note has expired, and others may have agreed on something else since.
        let is_noted = state.noted.is_some_and(|noted| noted.until(now) < away * 2);
        state.current.clone().filter(|admitted| is_noted && admitted.connection.is_open())
    }

    pub fn last_error(&self) -> Option<Error> {
        self.state.lock().last_error.clone()
    }

    /// See [`super::Voter::admit_soon`].
    pub fn admit_soon(self: &Arc<Self>) {
        let is_wanted = self.current().is_none() && !self.state.lock().closed;
        if is_wanted && !self.in_background.swap(true, Ordering::AcqRel) {
            let admission = Arc::clone(self);
            tokio::spawn(async move {
                let _ = admission.admit().await;
                admission.in_background.store(false, Ordering::Release);
            });
        }
    }

    /// The node, once it is connected.
    pub async fn admit(&self) -> Result<Arc<Admitted>> {
        if let Some(admitted) = self.current() {
            return Ok(admitted);
        }
        // What it is asked may take a while, too.
        self.context.settings.pending_connects.wait(self.readmitted()).await
    }

    async fn readmitted(&self) -> Result<Arc<Admitted>> {
        let _only_one = self.admitting.lock().await;
        if let Some(admitted) = self.current() {
            return Ok(admitted);
        }
        // The connection would not be kept, and what is left to release is released in the background.
        if self.state.lock().closed {
            return Err(Error::Closed);
        }
        let admitted = self.connect().await.map(Arc::new);
        let mut state = self.state.lock();
        match &admitted {
            Ok(admitted) => {
                state.last_error = None;
                state.current = Some(Arc::clone(admitted)).filter(|_| !state.closed);
            }
            Err(error) => state.last_error = Some(error.clone()),
        }
        admitted
    }

    /// The server does not know the scripts of this run: it is another run, or was told to forget them.
    pub fn readmit(&self, admitted: &Admitted) {
        let mut state = self.state.lock();
        if state.current.as_ref().is_some_and(|current| current.serial == admitted.serial) {
            state.current = None;
        }
    }

    /// The node answered.
    pub fn hear(&self, received: BootInstant) {
        self.heard.fetch_max(received.as_micros(), Ordering::AcqRel);
    }

    /// How long before this moment another run than this one answered last; `None`: none has.
    fn other_run_answered(&self, run_id: Option<&str>, now: BootInstant) -> Option<Duration> {
        let ((last, _), ..) = self.state.lock().last_run.clone()?;
        let heard = BootInstant::from_micros(self.heard.load(Ordering::Acquire));
        run_id.filter(|&run_id| run_id != last).map(|_| heard.until(now))
    }

    /// Gives the connection up.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.current = None;
    }

    async fn connect(&self) -> Result<Admitted> {
        let connection = self.context.shared.get().await?;
        let clock = &self.context.clock;
        let sent = clock.boot();
        let [server, replication, time] = self.ask(&connection).await?;
        let received = clock.boot();
        let [server, replication] = [server, replication].map(|info| text(info).unwrap_or_default());
        let run_id = field(&server, "run_id").map(ToOwned::to_owned);
        let past = Past::new(&server, &replication);
        let past = match self.other_run_answered(run_id.as_deref(), received) {
            Some(ago) => past.began_within(ago),
            None => past,
        };
        let scripts = VoteScripts::new(run_id.as_deref());
        self.load(&connection, &scripts, run_id.as_deref()).await?;
        let quarantine = past.quarantine(self.agreement.restart_delay);
        // From now on, although the uptime was read before.
        let mut votes_from = clock.boot() + quarantine.map_or(Duration::ZERO, |(time, _)| time);
        let mut why = quarantine.map(|(_, why)| why);
        if let Some(run_id) = &run_id {
            let before = field(&replication, "master_replid2").unwrap_or_default();
            let run = (run_id.clone(), before.to_owned());
            // Another connection to the same run does not make it wait again, nor less: what is known of the
            // run before is known at the first one.
            let last_run = &mut self.state.lock().last_run;
            match last_run {
                Some((last, from, because)) if *last == run => (votes_from, why) = (*from, *because),
                _ => *last_run = Some((run, votes_from, why)),
            }
        }
        self.hear(received);
        Ok(Admitted {
            connection,
            scripts,
            serial: self.serial.fetch_add(1, Ordering::Relaxed),
            run_id,
            votes_from,
            why,
            time: node_time(time).map(|node_us| TimeSample { sent, received, node_us }),
        })
    }

    /// INFO and TIME. A node that may not be asked something counts as one that forgets.
    async fn ask(&self, connection: &Connection) -> Result<[Value; 3]> {
        let questions: [(&[&str], _); 3] = [
            (&["INFO", "server"], ExpectedReply::Text),
            (&["INFO", "replication"], ExpectedReply::Text),
            (&["TIME"], ExpectedReply::List),
        ];
        let replies = self.exchange(connection, questions.len(), |packer, out| {
            for (words, expected) in questions {
                packer.command(out, expected, |cmd| {
                    cmd.arg(words);
                });
            }
        });
        let replies = replies.await?;
        Ok(replies.try_into().unwrap_or_else(|_| std::array::from_fn(|_| Value::Nil)))
    }

    /// Loads the scripts, and compares what this client has with what others have noted.
    async fn load(&self, connection: &Connection, scripts: &VoteScripts, run_id: Option<&str>) -> Result<()> {
        let (now, key) = (self.context.clock.boot(), self.context.settings.keys.quorum_note());
        let replies = self.exchange(connection, 6, |packer, out| {
            scripts.pack_load(packer, out);
            RELEASE.pack_load(packer, out);
            LEAVE_REST.pack_load(packer, out);
            packer.command(out, ExpectedReply::Text, |cmd| {
                cmd.arg(&["INFO", "server"]);
            });
            pack_agreement(&key, &self.agreement.note, self.agreement.ttl_ms(), packer, out);
        });
        let mut replies = replies.await?;
        let noted = replies.pop().unwrap_or(Value::Nil);
        // A proxy may have led to another run in between, whose scripts would be those of the run before.
        let server = replies.pop().and_then(text).unwrap_or_default();
        if field(&server, "run_id") != run_id {
            let replies = self.context.reply_context(Operation::Query);
            return Err(replies.no_reply(&"the server was restarted meanwhile"));
        }
        if let Some(error) = replies.iter().find(|reply| matches!(reply, Value::ServerError(_))) {
            return Err(self.context.reply_context(Operation::Query).error(error));
        }
        self.compare(&key, noted)?;
        self.state.lock().noted = Some(now);
        Ok(())
    }

    fn compare(&self, key: &str, noted: Value) -> Result<()> {
        match noted {
            Value::Nil => Ok(()),
            Value::Array(fields) => {
                let mut fields = fields.into_iter();
                let note = fields.next().and_then(text).unwrap_or_default();
                let left_ms = match fields.next() {
                    Some(Value::Int(left_ms)) => left_ms.max(0),
                    _ => 0,
                };
                Err(Error::unsupported(format!(
                    "the clients of this quorum disagree about it: on redis at {}, the key {key} says {:?}, and \
                     this client has {:?}. Two of them could hold the same lock. To change the nodes or \
                     maxTtlMs, stop all clients, wait until that key has expired (in {left_ms} ms unless a \
                     client renews it), and start them again",
                    self.context.connector.route(),
                    note,
                    self.agreement.note,
                )))
            }
            other => Err(self.context.reply_context(Operation::Query).error(&other)),
        }
    }

    /// See [`super::Voter::keep_agreement`].
    pub fn keep_agreement(self: &Arc<Self>) {
        let now = self.context.clock.boot();
        let Some(admitted) = self.current() else { return };
        {
            let mut state = self.state.lock();
            if state.noted.is_some_and(|noted| noted.until(now) < self.agreement.away / 2) {
                return;
            }
            state.noted = Some(now);
        }
        let admission = Arc::clone(self);
        tokio::spawn(async move {
            let (key, agreement) = (admission.context.settings.keys.quorum_note(), &admission.agreement);
            let exchange = admission.exchange(&admitted.connection, 1, |packer, out| {
                pack_agreement(&key, &agreement.note, agreement.ttl_ms(), packer, out);
            });
            // Without a reply the connection is broken, and it is compared at the next one.
            let Ok(Some(noted)) = exchange.await.map(|mut replies| replies.pop()) else { return };
            if let Err(error) = admission.compare(&key, noted) {
                admission.readmit(&admitted);
                admission.state.lock().last_error = Some(error);
            }
        });
    }

    async fn exchange(
        &self,
        connection: &Connection,
        replies: usize,
        pack: impl FnOnce(&mut Packer, &mut Vec<u8>),
    ) -> Result<Vec<Value>> {
        let exchange = self.context.shared.exchange_on(connection, replies, pack);
        let response = exchange.await.map_err(|error| self.context.query_failed(error))?;
        match response.broken {
            None => Ok(response.replies),
            Some(broken) => Err(self.context.query_failed(ExchangeError::Broken(broken))),
        }
    }
}

/// What TIME returned, in microseconds.
fn node_time(reply: Value) -> Option<u64> {
    let mut parts = texts(reply).into_iter().map(|part| part.parse::<u64>().ok());
    let (seconds, micros) = (parts.next()??, parts.next()??);
    seconds.checked_mul(1_000_000)?.checked_add(micros)
}
