//! The primary that the Sentinels name, and when they are asked for it.
//!
//! They are asked while it is needed and not known, and for a moment whenever there is a doubt: a connection
//! broke, a server refused writes, a Sentinel announced something. A primary that is in use is asked for
//! again from time to time, because an announcement can be lost with its connection. Otherwise nothing is
//! sent.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::election::{Elections, Verdict, Vote, Weakness};
use super::registry::Registry;
use super::round::{self, Patience, Round, is_refused};
use crate::backend::redis::config::address::AnnouncedAddresses;
use crate::backend::redis::config::endpoint::{Endpoint, ServerKind};
use crate::backend::redis::config::{SentinelConfig, Settings};
use crate::backend::redis::connection::connect::may_pass;
use crate::backend::redis::connection::route::{AnnouncedReplica, Locate, Route};
use crate::error::{Consequence, Error, Report, Result};
use crate::runtime::backoff::Backoff;
use crate::runtime::sync::Mutex;

/// A primary in use is asked for again after this time.
const MAX_AGE: Duration = Duration::from_secs(10);
/// How long a doubt lasts: a failover becomes known to one Sentinel after the other.
const DOUBT: Duration = Duration::from_millis(1_500);
/// Between questions.
const PAUSE: Backoff = Backoff::jittered(Duration::from_millis(100), Duration::from_millis(100));
/// Likewise, while no Sentinel answers.
const PAUSE_UNANSWERED: Backoff = Backoff::jittered(Duration::from_millis(100), Duration::from_secs(1));
/// At least, however many doubts there are.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// After a failed attempt to connect.
const RECONNECT: Duration = Duration::from_millis(100);

pub(super) struct Locator {
    pub name: Arc<str>,
    /// Of the data servers.
    settings: Arc<Settings>,
    announced: AnnouncedAddresses,
    pub sentinels: Registry,
    state: Mutex<State>,
    /// The number of rounds so far.
    rounds: watch::Sender<u64>,
    /// There is a new doubt.
    doubted: Notify,
    /// Of the node whose server this finds.
    route: OnceLock<Weak<Route>>,
    me: Weak<Self>,
}

#[derive(Default)]
struct State {
    elections: Elections,
    adopted: Option<Adopted>,
    /// Since when the primary is in doubt: a round that begins later decides.
    doubt: Option<Instant>,
    /// There are questions until then.
    ask_until: Option<Instant>,
    /// How many wait for the primary.
    waiting: usize,
    /// When the last round began that named a primary.
    confirmed: Option<Instant>,
    /// Since when the primary cannot be reached.
    missing: Option<Instant>,
    /// What the last round says for certain: that there is no such primary, or no permission.
    failure: Option<Error>,
    last: Round,
    is_running: bool,
}

/// The primary that is in use.
#[derive(Clone)]
pub(super) struct Adopted {
    pub endpoint: Arc<Endpoint>,
    pub vote: Vote,
    pub weakness: Option<Weakness>,
    /// What identifies the server, if the Sentinels know it.
    run_id: Option<Arc<str>>,
}

impl Locator {
    /// No I/O.
    pub fn new(config: SentinelConfig, settings: Arc<Settings>) -> Arc<Self> {
        let SentinelConfig { name, sentinels, settings: theirs, announced, announced_sentinels } = config;
        let name: Arc<str> = name.into();
        Arc::new_cyclic(|me| Self {
            sentinels: Registry::new(Arc::clone(&name), sentinels, theirs, announced_sentinels),
            name,
            settings,
            announced,
            state: Mutex::default(),
            rounds: watch::Sender::new(0),
            doubted: Notify::new(),
            route: OnceLock::new(),
            me: Weak::clone(me),
        })
    }

    /// The route that leads to what is found here. Called once.
    pub fn set_route(&self, route: &Arc<Route>) {
        let _ = self.route.set(Arc::downgrade(route));
    }

    /// The primary is in use: asks for it again if that is long ago.
    pub fn touch(&self) {
        let mut state = self.state.lock();
        if state.confirmed.is_some_and(|confirmed| confirmed.elapsed() > MAX_AGE) {
            self.start(&mut state);
        }
    }

    /// The primary that is in use.
    pub fn adopted(&self) -> Option<Adopted> {
        self.state.lock().adopted.clone()
    }

    /// What all Sentinels say now. Waits for each of them, and has no other effect.
    pub async fn survey(&self) -> Round {
        round::ask(&self.sentinels, Instant::now(), Patience::UntilAll).await
    }

    async fn find(&self) -> Result<Arc<Endpoint>> {
        let mut rounds = self.rounds.subscribe();
        let _waiting = {
            let mut state = self.state.lock();
            if let Some(endpoint) = state.known() {
                return Ok(endpoint);
            }
            state.missing.get_or_insert_with(Instant::now);
            state.waiting += 1;
            self.start(&mut state);
            scopeguard::guard((), |()| self.state.lock().waiting -= 1)
        };
        loop {
            // The sender is ours.
            let _ = rounds.changed().await;
            let unreachable = {
                let state = self.state.lock();
                if let Some(endpoint) = state.known() {
                    return Ok(endpoint);
                }
                if let Some(error) = state.failure.clone().filter(|_| state.adopted.is_none()) {
                    return Err(error);
                }
                // The last primary may still be there.
                state.last.unreachable().filter(|_| state.adopted.is_none()).cloned()
            };
            if let Some(error) = unreachable {
                return Err(self.all_away(&error));
            }
        }
    }

    /// The error when neither the Sentinels nor the last primary can be reached, and that is known at once.
    fn all_away(&self, error: &Error) -> Error {
        let found = self.search().unwrap_or_default();
        Error::BackendUnavailable(Report {
            cause: error.cause().map(ToOwned::to_owned),
            cause_code: error.cause_code(),
            ..Report::new(format!(
                "cannot connect to redis at {self}: {found}; check that the Sentinels run, and their addresses"
            ))
            .with_consequence(Consequence::Unchanged)
        })
        .of_failover()
    }

    /// Asks the Sentinels, now or soon.
    fn start(&self, state: &mut State) {
        if state.is_running {
            return;
        }
        // Without a runtime its thread is ending.
        if let (Some(locator), Ok(runtime)) = (self.me.upgrade(), Handle::try_current()) {
            state.is_running = true;
            runtime.spawn(locator.run());
        }
    }

    /// Asks as long as an answer is needed.
    async fn run(self: Arc<Self>) {
        let _stopped = scopeguard::guard_on_unwind((), |()| self.state.lock().is_running = false);
        let (mut pause, mut unanswered) = (PAUSE, PAUSE_UNANSWERED);
        loop {
            let began = Instant::now();
            self.listen();
            let patience = match self.adopted() {
                Some(_) => Patience::Little,
                None => Patience::UntilFirst,
            };
            let round = round::ask(&self.sentinels, began, patience).await;
            let answered = !round.answers.is_empty();
            let failure = round.failure(&self.name).await;
            self.judge(round, began, failure);
            self.rounds.send_modify(|rounds| *rounds += 1);
            let due = {
                let mut state = self.state.lock();
                let in_doubt = state.ask_until.is_some_and(|until| Instant::now() < until);
                if state.waiting == 0 && !in_doubt {
                    state.is_running = false;
                    return;
                }
                if answered {
                    unanswered = PAUSE_UNANSWERED;
                }
                began + if answered { pause.next_pause() } else { unanswered.next_pause() }
            };
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.doubted.notified() => sleep_after(began, SHORTEST_PAUSE).await,
            }
        }
    }

    /// Draws the conclusions of a round.
    fn judge(&self, round: Round, began: Instant, failure: Option<Error>) {
        let mut state = self.state.lock();
        let votes = round.votes();
        let verdict = state.elections.judge(&votes, self.sentinels.known(), began.into_std());
        state.failure = failure;
        let mut replaced = None;
        match verdict {
            Verdict::Adopt(elected) => {
                let (host, port) = &elected.vote.address;
                match self.announced.address(host, *port) {
                    Ok(address) => {
                        let settings = Arc::clone(&self.settings);
                        let kind = ServerKind::Primary;
                        replaced = state
                            .adopted
                            .is_some()
                            .then(|| format!("the Sentinels name another primary, {address}"));
                        state.adopted = Some(Adopted {
                            endpoint: Arc::new(Endpoint { address, kind, settings }),
                            weakness: elected.weakness,
                            run_id: round.run_id(&elected.vote),
                            vote: elected.vote,
                        });
                        state.confirm(began);
                    }
                    Err(error) => state.failure = Some(error),
                }
            }
            Verdict::Confirmed(weakness) => {
                if let Some(adopted) = &mut state.adopted {
                    adopted.weakness = weakness;
                    adopted.run_id = round.run_id(&adopted.vote);
                }
                state.confirm(began);
            }
            // Nothing is known of a failover, so the last primary may still be there.
            Verdict::AskAgain if votes.is_empty() && state.adopted.is_some() => state.doubt = None,
            Verdict::AskAgain => {}
        }
        state.last = round;
        drop(state);
        if let (Some(why), Some(route)) = (replaced, self.route.get().and_then(Weak::upgrade)) {
            route.replace(&why);
        }
    }

    /// Has the Sentinels announce failovers from now on.
    fn listen(&self) {
        for sentinel in self.sentinels.all() {
            let locator = Weak::clone(&self.me);
            sentinel.listen(move |why| {
                if let Some(locator) = locator.upgrade() {
                    locator.doubt(why);
                }
            });
        }
    }
}

impl State {
    /// The primary, unless it is in doubt.
    fn known(&self) -> Option<Arc<Endpoint>> {
        let adopted = self.adopted.as_ref().filter(|_| self.doubt.is_none())?;
        Some(Arc::clone(&adopted.endpoint))
    }

    /// A round that began then has named the primary.
    fn confirm(&mut self, began: Instant) {
        self.confirmed = Some(began);
        self.doubt = self.doubt.filter(|&since| since > began);
    }
}

impl Locate for Locator {
    fn locate(&self) -> BoxFuture<'_, Result<Arc<Endpoint>>> {
        Box::pin(self.find())
    }

    fn doubt(&self, _why: &str) {
        let mut state = self.state.lock();
        let now = Instant::now();
        state.doubt = Some(now);
        state.ask_until = Some(now + DOUBT);
        self.start(&mut state);
        drop(state);
        self.doubted.notify_one();
    }

    /// The Sentinels know the replicas from the primary, too.
    fn replicas(&self, told: &[(String, u16)]) -> Vec<AnnouncedReplica> {
        let endpoint = |(host, port): &(String, u16)| {
            let (address, settings) = (self.announced.address(host, *port)?, Arc::clone(&self.settings));
            Ok(Arc::new(Endpoint { address, kind: ServerKind::Replica, settings }))
        };
        told.iter().map(|replica| (replica.clone(), endpoint(replica))).collect()
    }

    fn check(&self, endpoint: &Arc<Endpoint>, run_id: Option<&str>) -> Result<()> {
        let is_expected = {
            let mut state = self.state.lock();
            let Some(adopted) = state.adopted.as_ref().filter(|it| Arc::ptr_eq(&it.endpoint, endpoint))
            else {
                return Ok(());
            };
            let expected = adopted.run_id.as_deref();
            let is_expected = expected.is_none() || run_id.is_none() || expected == run_id;
            if is_expected {
                state.missing = None;
            }
            is_expected
        };
        if is_expected {
            return Ok(());
        }
        Err(Error::untouched(format!(
            "cannot connect to redis at {self}: another server answers there than the Sentinels know; \
             try again, and see what has this address now"
        ))
        .of_failover())
    }

    fn reconsider(&self, error: Error) -> BoxFuture<'_, Result<()>> {
        if !may_pass(&error) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let all_away = {
            let mut state = self.state.lock();
            // The last round may be an old one until a first failure has begun another.
            let is_current = state.missing.is_some();
            state.missing.get_or_insert_with(Instant::now);
            is_current && state.last.unreachable().is_some() && is_refused(&error)
        };
        self.doubt("the primary cannot be reached");
        if all_away {
            return Box::pin(std::future::ready(Err(self.all_away(&error))));
        }
        Box::pin(async {
            sleep(RECONNECT).await;
            Ok(())
        })
    }

    fn search(&self) -> Option<String> {
        let state = self.state.lock();
        let missing = state.missing.map_or(Duration::ZERO, |since| since.elapsed());
        Some(format!("no primary for {:.1} s; {}", missing.as_secs_f64(), state.last.summary()))
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state.lock().adopted {
            Some(adopted) => write!(f, "{} ({})", adopted.endpoint.address, self.name),
            None => write!(f, "the primary {:?} of the Sentinels {}", self.name, self.sentinels),
        }
    }
}

async fn sleep_after(began: Instant, time: Duration) {
    tokio::time::sleep_until(began + time).await;
}
