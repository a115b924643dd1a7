//! Credentials that the application is asked for: before the first connection, ahead of their expiry, and
//! when a server refuses them.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::values::{Credentials, Secret};
use crate::error::{Consequence, Error, Report, Result};
use crate::runtime::backoff::Backoff;
use crate::runtime::sync::Mutex;

/// At least this long passes between two questions, unless the first was not answered well.
const SHORTEST: Duration = Duration::from_secs(1);
/// The pauses after an answer that is of no use.
const RETRY: Backoff = Backoff::jittered(Duration::from_millis(200), Duration::from_secs(10));
/// An answer that takes longer than this may never come.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// No credentials are believed to be good for longer.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3_600);
/// How many of those before the current ones are kept: a late error of a server may still repeat them.
const FORMER: usize = 2;

/// A question to the application.
#[derive(Debug)]
pub struct Ask {
    /// Goes with the answer.
    pub number: u32,
    /// What a server said when it refused the last credentials, if one did.
    pub refusal: Option<String>,
}

/// Credentials that the application is asked for.
///
/// Those that were returned are used until others are, even if they are past their time: only a server says
/// that they are refused, and until then living connections work.
pub struct AskedCredentials {
    ask: Box<dyn Fn(Ask) + Send + Sync>,
    state: Mutex<State>,
    /// Counts the answers.
    answers: watch::Sender<u64>,
    /// The next question may be due at another time.
    rescheduled: Arc<Notify>,
}

struct State {
    current: Option<Arc<Credentials>>,
    /// The newest first.
    former: Vec<Arc<Credentials>>,
    /// The number of the last question.
    asked: u32,
    /// The newest question that was answered with credentials.
    answered: u32,
    last_asked: Option<Instant>,
    /// When the answer to the last question is given up.
    answer_due: Option<Instant>,
    /// When to ask next.
    due: Option<Instant>,
    expires: Option<Instant>,
    backoff: Backoff,
    /// Why the last question brought none.
    failure: Option<String>,
    /// The version that a server refused.
    refused: Option<u64>,
    /// What it said; told with the next question.
    refusal: Option<String>,
    is_kept: bool,
    closed: bool,
}

/// What comes next.
enum Turn {
    /// Look again then.
    Until(Instant),
    /// Nothing, unless something happens.
    Idle,
    /// Nothing any more.
    Over,
}

impl AskedCredentials {
    /// `ask` must not block, nor answer before it returns.
    pub fn new(ask: impl Fn(Ask) + Send + Sync + 'static) -> Arc<Self> {
        let state = State {
            current: None,
            former: Vec::new(),
            asked: 0,
            answered: 0,
            last_asked: None,
            answer_due: None,
            due: None,
            expires: None,
            backoff: RETRY,
            failure: None,
            refused: None,
            refusal: None,
            is_kept: false,
            closed: false,
        };
        Arc::new(Self {
            ask: Box::new(ask),
            state: Mutex::new(state),
            answers: watch::Sender::new(0),
            rescheduled: Arc::default(),
        })
    }

    /// The answer to a question.
    pub fn supply(&self, number: u32, username: Option<String>, password: String, expires_in: Option<f64>) {
        {
            let now = Instant::now();
            let mut state = self.state.lock();
            if state.closed || number <= state.answered {
                return;
            }
            state.answered = number;
            state.replace(username.filter(|name| !name.is_empty()), password);
            state.settle(number);
            let good_for = expires_in.map(|ms| Duration::from_secs_f64(ms / 1_000.0).min(LONGEST));
            state.expires = good_for.map(|time| now + time);
            state.due = good_for.map(|time| now + refresh_after(time));
            state.failure = None;
            if state.refused.is_none() {
                state.backoff = RETRY;
            }
        }
        self.answered();
    }

    /// A question brought no credentials.
    pub fn fail(&self, number: u32, why: String) {
        {
            let mut state = self.state.lock();
            if state.closed || number != state.asked || state.answer_due.is_none() {
                return;
            }
            state.settle(number);
            state.failed(why);
        }
        self.answered();
    }

    /// Asks no more.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.answered();
    }

    pub(crate) fn current(&self) -> Option<Arc<Credentials>> {
        self.state.lock().current.clone()
    }

    pub(crate) fn sent(&self) -> Vec<Arc<Credentials>> {
        let state = self.state.lock();
        state.current.iter().chain(&state.former).cloned().collect()
    }

    /// Shows that there was an answer.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.answers.subscribe()
    }

    /// A server logged a client in with these.
    pub(crate) fn accepted(&self, used: &Credentials) {
        let mut state = self.state.lock();
        if state.is_current(used) {
            (state.refused, state.refusal, state.backoff) = (None, None, RETRY);
        }
    }

    /// A server refused these. If there are no others yet, the application is asked.
    pub(crate) fn refused(&self, used: &Credentials, said: &str) {
        {
            let mut state = self.state.lock();
            if !state.is_current(used) {
                return;
            }
            let is_news = state.refused != Some(used.version) || state.refusal.is_none();
            state.refused = Some(used.version);
            if !is_news || state.answer_due.is_some() {
                return;
            }
            state.refusal = Some(said.to_owned());
            let pause = state.backoff.next_pause();
            let due = state.last_asked.map_or_else(Instant::now, |last| last + pause.max(SHORTEST / 5));
            state.due = Some(state.due.map_or(due, |before| before.min(due)));
        }
        self.rescheduled.notify_one();
    }

    /// Whether the current ones are past the time that the application said.
    pub(crate) fn is_expired(&self) -> bool {
        self.state.lock().expires.is_some_and(|expires| expires <= Instant::now())
    }

    /// Waits until there are credentials. Asks for them if that was not done yet.
    pub(crate) async fn ready(self: &Arc<Self>, due: Instant) -> Result<()> {
        let mut answers = self.changes();
        answers.mark_unchanged();
        self.keep();
        loop {
            {
                let state = self.state.lock();
                if state.closed && state.current.is_none() {
                    return Err(Error::Closed);
                }
                if state.current.is_some() {
                    return Ok(());
                }
            }
            let answered = timeout_at(due, answers.changed()).await.is_ok();
            let state = self.state.lock();
            if state.current.is_none() && !state.closed && (!answered || state.failure.is_some()) {
                return Err(unavailable(state.failure.clone()));
            }
        }
    }

    /// Whether a server has refused these, and others come before it is too late.
    pub(crate) async fn has_newer_than_refused(&self, used: &Credentials, due: Instant) -> bool {
        let mut answers = self.changes();
        {
            let state = self.state.lock();
            if !state.is_current(used) {
                return state.former.first().is_some_and(|former| former.version == used.version);
            }
            if state.refused != Some(used.version) {
                return false;
            }
        }
        timeout_at(due, answers.changed()).await.is_ok() && !self.state.lock().is_current(used)
    }

    /// Starts the task that asks, which ends with the last user of the credentials.
    fn keep(self: &Arc<Self>) {
        {
            let mut state = self.state.lock();
            if state.is_kept || state.closed {
                return;
            }
            state.is_kept = true;
            state.due = Some(Instant::now());
        }
        tokio::spawn(ask_in_time(Arc::downgrade(self), Arc::clone(&self.rescheduled)));
    }

    /// Asks if it is time.
    fn turn(&self) -> Turn {
        let now = Instant::now();
        let mut given_up = false;
        let ask = {
            let mut state = self.state.lock();
            if state.closed {
                return Turn::Over;
            }
            if state.answer_due.is_some_and(|due| due <= now) {
                state.answer_due = None;
                state.failed(format!("no answer within {} seconds", ANSWER_LIMIT.as_secs()));
                given_up = true;
            }
            let is_due = state.answer_due.is_none() && state.due.is_some_and(|due| due <= now);
            is_due.then(|| state.next_question(now))
        };
        if given_up {
            self.answers.send_modify(|count| *count += 1);
        }
        if let Some(ask) = ask {
            (self.ask)(ask);
        }
        let state = self.state.lock();
        state.answer_due.or(state.due).map_or(Turn::Idle, Turn::Until)
    }

    fn answered(&self) {
        self.answers.send_modify(|count| *count += 1);
        self.rescheduled.notify_one();
    }
}

impl Drop for AskedCredentials {
    fn drop(&mut self) {
        self.rescheduled.notify_one();
    }
}

impl fmt::Debug for AskedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AskedCredentials")
    }
}

impl State {
    fn is_current(&self, used: &Credentials) -> bool {
        self.current.as_ref().is_some_and(|current| current.version == used.version)
    }

    /// The same ones again are no others.
    fn replace(&mut self, username: Option<String>, password: String) {
        let version = match self.current.take() {
            Some(current) if current.username == username && current.password.reveal() == password => {
                self.current = Some(current);
                return;
            }
            Some(current) => {
                let version = current.version + 1;
                self.former.insert(0, current);
                self.former.truncate(FORMER);
                version
            }
            None => 0,
        };
        self.current = Some(Arc::new(Credentials { username, password: Secret::new(password), version }));
        self.refusal = None;
    }

    /// The answer to the last question is there.
    fn settle(&mut self, number: u32) {
        if number == self.asked {
            self.answer_due = None;
        }
    }

    fn failed(&mut self, why: String) {
        self.failure = Some(why);
        self.due = Some(Instant::now() + self.backoff.next_pause());
    }

    fn next_question(&mut self, now: Instant) -> Ask {
        self.asked += 1;
        self.last_asked = Some(now);
        self.answer_due = Some(now + ANSWER_LIMIT);
        self.due = None;
        Ask { number: self.asked, refusal: self.refusal.take() }
    }
}

async fn ask_in_time(source: Weak<AskedCredentials>, rescheduled: Arc<Notify>) {
    loop {
        // Not kept during the pause.
        let turn = source.upgrade().map_or(Turn::Over, |source| source.turn());
        match turn {
            Turn::Over => return,
            Turn::Idle => rescheduled.notified().await,
            Turn::Until(due) => tokio::select! {
                () = sleep_until(due) => {}
                () = rescheduled.notified() => {}
            },
        }
    }
}

/// When to ask for others: after about three quarters of the time, and not all processes at once.
fn refresh_after(good_for: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    good_for.mul_f64(0.1f64.mul_add(f64::from(random) / f64::from(u32::MAX), 0.7)).max(SHORTEST)
}

fn unavailable(failure: Option<String>) -> Error {
    let what = match failure {
        Some(_) => "the function for credentials failed",
        None => "the function for credentials returned nothing within connectTimeoutMs",
    };
    Error::BackendUnavailable(Report {
        consequence: Consequence::Unchanged,
        cause: failure,
        ..Report::new(format!("cannot connect to redis: {what}; it is asked again"))
    })
}
