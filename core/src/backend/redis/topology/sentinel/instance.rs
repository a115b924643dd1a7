//! One Sentinel: the connection on which it is asked, and the one on which it announces failovers.

use std::sync::Arc;

use redis::Value;
use tokio_util::sync::CancellationToken;

use super::answers::{self, Answer};
use crate::backend::redis::config::Settings;
use crate::backend::redis::config::address::Address;
use crate::backend::redis::config::endpoint::{Endpoint, ServerKind};
use crate::backend::redis::connection::connect::Connector;
use crate::backend::redis::connection::messages::messages_about;
use crate::backend::redis::connection::route::{FixedAddress, Route};
use crate::backend::redis::connection::shared::{ExchangeError, SharedConnection};
use crate::backend::redis::protocol::permissions::{self, Login};
use crate::backend::redis::protocol::replies::expected::ExpectedReply;
use crate::backend::redis::protocol::replies::refusals::refusal;
use crate::backend::redis::protocol::values::error_text;
use crate::error::{Consequence, Error, Report, Result};
use crate::runtime::sync::Mutex;

/// What the Sentinels announce about a failover, each as soon as it knows.
const CHANNELS: [&str; 4] = ["+switch-master", "+promoted-slave", "+config-update-from", "+reset-master"];

pub(super) struct Sentinel {
    pub address: Address,
    /// It is in the options, so it is never forgotten.
    pub is_configured: bool,
    /// The name of the primary.
    name: Arc<str>,
    settings: Arc<Settings>,
    connector: Arc<Connector>,
    shared: Arc<SharedConnection>,
    state: Mutex<State>,
    closed: CancellationToken,
}

#[derive(Default)]
struct State {
    id: Option<Arc<str>>,
    is_asked: bool,
    listening: Listening,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Listening {
    #[default]
    No,
    Yes,
    /// It does not allow subscriptions.
    Refused,
}

impl Sentinel {
    /// No I/O.
    pub fn new(address: Address, is_configured: bool, name: Arc<str>, settings: &Arc<Settings>) -> Self {
        let kind = ServerKind::Sentinel;
        let endpoint = Endpoint { address: address.clone(), kind, settings: Arc::clone(settings) };
        let route = Arc::new(Route::new(Arc::new(FixedAddress(Arc::new(endpoint)))));
        let connector = Arc::new(Connector::new(Arc::clone(settings), route));
        let shared = Arc::new(SharedConnection::new(Arc::clone(settings), Arc::clone(&connector)));
        Self {
            address,
            is_configured,
            name,
            settings: Arc::clone(settings),
            connector,
            shared,
            state: Mutex::default(),
            closed: CancellationToken::new(),
        }
    }

    /// Identifies it among all Sentinels, once it has said so.
    pub fn id(&self) -> Option<Arc<str>> {
        self.state.lock().id.clone()
    }

    pub fn set_id(&self, id: Option<Arc<str>>) {
        let mut state = self.state.lock();
        state.id = id.or_else(|| state.id.take());
    }

    /// Whether the caller is the one to ask it: a question at a time, so that they do not pile up while it
    /// hangs.
    pub fn begin(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().is_asked, true)
    }

    /// Asks where the primary is; and for the other Sentinels, if `learn`. After [`Self::begin`].
    pub async fn ask(&self, learn: bool) -> Result<Answer> {
        let _done = scopeguard::guard((), |()| self.state.lock().is_asked = false);
        let mut questions = vec![
            (ExpectedReply::OptionalList, vec!["GET-MASTER-ADDR-BY-NAME", &self.name]),
            (ExpectedReply::Table, vec!["MASTER", &self.name]),
        ];
        if learn {
            questions.push((ExpectedReply::Text, vec!["MYID"]));
            questions.push((ExpectedReply::Table, vec!["SENTINELS", &self.name]));
        }
        let mut replies = self.question(&questions).await?.into_iter();
        let mut next = || replies.next().unwrap_or(Value::Nil);
        let (address, master, id, others) = (next(), next(), next(), next());
        if let Value::ServerError(error) = &address {
            return Err(self.refused(error));
        }
        let Some(mut answer) = answers::answer(address, master) else {
            return Err(self.failed("it sent an unexpected reply", "check that it is a Sentinel", None));
        };
        if learn {
            answer.id = answers::id(id);
            answer.others = answers::peers(others);
        }
        Ok(answer)
    }

    /// The names of all primaries that it watches.
    pub async fn names(&self) -> Vec<String> {
        let replies = self.question(&[(ExpectedReply::Table, vec!["MASTERS"])]).await;
        replies.ok().and_then(|replies| replies.into_iter().next()).map(answers::names).unwrap_or_default()
    }

    /// Listens to its announcements from now on, unless it already does, or does not allow that. Calls
    /// `announced` for each that is about our primary, and once when it begins to listen.
    pub fn listen(self: &Arc<Self>, announced: impl Fn(&str) + Send + Sync + 'static) {
        {
            let mut state = self.state.lock();
            if state.listening != Listening::No || self.closed.is_cancelled() {
                return;
            }
            state.listening = Listening::Yes;
        }
        let sentinel = Arc::clone(self);
        tokio::spawn(async move {
            let refused = tokio::select! {
                refused = sentinel.follow(&announced) => refused,
                () = sentinel.closed.cancelled() => false,
            };
            sentinel.state.lock().listening = if refused { Listening::Refused } else { Listening::No };
        });
    }

    /// Passes announcements on until the connection breaks. Returns whether subscriptions are refused.
    async fn follow(&self, announced: &(impl Fn(&str) + Sync)) -> bool {
        let name = Arc::clone(&self.name);
        let (messages, mut inbox) =
            messages_about(Arc::new(move |channel, message| answers::is_about(&name, channel, message)));
        let Ok(connection) = self.connector.connect_subscriber(messages).await else { return false };
        // A command each, because a user may be allowed some of the channels.
        let sent = connection.send([CHANNELS.len()], self.settings.command_timeout, |packer, out| {
            for channel in CHANNELS {
                packer.command(out, ExpectedReply::List, |cmd| {
                    cmd.arg("SUBSCRIBE").arg(channel);
                });
            }
        });
        let Ok([exchange]) = sent else { return false };
        let response = connection.receive(exchange).await;
        if response.broken.is_some() {
            return false;
        }
        if response.replies.iter().all(|reply| matches!(reply, Value::ServerError(_))) {
            return true;
        }
        announced("a Sentinel is listened to from now on");
        while inbox.recv().await.is_some() {
            announced("a Sentinel announced a failover");
        }
        false
    }

    async fn question(&self, questions: &[(ExpectedReply, Vec<&str>)]) -> Result<Vec<Value>> {
        let exchange = self.shared.exchange(questions.len(), |packer, out| {
            for (expected, words) in questions {
                packer.command(out, *expected, |cmd| {
                    cmd.arg("SENTINEL").arg(words);
                });
            }
        });
        let response = exchange.await.map_err(|error| match error {
            ExchangeError::Connect(error) => error,
            ExchangeError::Broken(broken) => self.failed("no reply", "try again", Some(broken.to_string())),
        })?;
        match response.broken {
            Some(broken) => Err(self.failed("no reply", "try again", Some(broken.to_string()))),
            None => Ok(response.replies),
        }
    }

    fn refused(&self, error: &redis::ServerError) -> Error {
        let said = error_text(error);
        match refusal(error) {
            Some(refusal) if permissions::is_about(&said) => {
                let remedy = permissions::remedy(Login::Sentinel, &said);
                self.failed(refusal.meaning, &remedy, Some(said))
            }
            Some(refusal) => self.failed(refusal.meaning, refusal.remedy, Some(said)),
            None => self.failed("it returned an error", "check its log", Some(said)),
        }
    }

    fn failed(&self, what: &str, remedy: &str, cause: Option<String>) -> Error {
        let message = format!("Sentinel at {}: {what}; {remedy}", self.address);
        let report = Report::new(message).with_consequence(Consequence::Unchanged);
        Error::BackendUnavailable(Report { cause, ..report })
    }

    /// Its connections close once nothing is in flight; later questions make connections of their own.
    pub fn close(&self) {
        self.closed.cancel();
        self.shared.close_when_idle();
    }
}
