//! Makes connections: open, encrypt, handshake, all within one time limit, with pauses after failures.

mod errors;
mod handshake;
mod stream;

use std::io::{Error as IoError, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::time::timeout_at;

pub(crate) use self::errors::may_pass;
use self::errors::{cannot_reach, unreachable};
use self::handshake::handshake;
pub(crate) use self::stream::Purpose;
use self::stream::Stream;
use crate::backend::redis::config::Settings;
use crate::backend::redis::config::address::Address;
use crate::backend::redis::config::credentials::Credentials;
use crate::backend::redis::config::endpoint::{Endpoint, ServerKind};
use crate::backend::redis::connection::route::Route;
use crate::backend::redis::connection::{Connection, Messages};
use crate::backend::redis::protocol::decoder::Decoder;
use crate::backend::redis::protocol::redaction::Redactor;
use crate::error::{Consequence, Error, Report, Result};
use crate::runtime::backoff::Backoff;
use crate::runtime::sync::Mutex;

/// A server that takes longer than this to accept a connection may hang, and another may have taken over.
const SLOW: Duration = Duration::from_millis(500);

/// Makes all connections to one server.
///
/// While the server is away, each failed attempt is followed by a pause that grows up to a fifth of a second.
/// A caller within the pause waits for its end: an error from before the call is no news, because the server
/// may be up by now. A caller gets the error of an attempt that failed since it came, so a thousand callers
/// do not become a thousand attempts against a server that is starting again, and none waits for several.
pub(crate) struct Connector {
    settings: Arc<Settings>,
    route: Arc<Route>,
    pause: Mutex<Option<ConnectPause>>,
}

struct ConnectPause {
    /// When the attempt failed.
    since: Instant,
    until: Instant,
    backoff: Backoff,
    error: Error,
}

impl Connector {
    pub const fn new(settings: Arc<Settings>, route: Arc<Route>) -> Self {
        Self { settings, route, pause: Mutex::new(None) }
    }

    /// A connection that an event loop can read.
    #[cfg(unix)]
    pub fn connect_inline(&self) -> BoxFuture<'_, Result<Connection>> {
        Box::pin(
            self.settings.pending_connects.wait(self.connect_with(Purpose::LoneCommands, Instant::now())),
        )
    }

    /// A connection that is ready for commands, for a caller who came at this time.
    ///
    /// Boxed, as it is large: otherwise each release would move it around, though hardly any connects.
    pub fn connect(&self, came: Instant) -> BoxFuture<'_, Result<Connection>> {
        Box::pin(self.settings.pending_connects.wait(self.connect_with(Purpose::Commands, came)))
    }

    /// A connection that passes published messages on.
    pub fn connect_subscriber(&self, messages: Messages) -> BoxFuture<'_, Result<Connection>> {
        Box::pin(self.connect_with(Purpose::Messages(messages), Instant::now()))
    }

    /// The way to the server.
    pub const fn route(&self) -> &Arc<Route> {
        &self.route
    }

    async fn connect_with(&self, purpose: Purpose, came: Instant) -> Result<Connection> {
        let is_optional = purpose.is_optional();
        let due = tokio::time::Instant::now() + self.settings.connect_timeout;
        self.pass_pause(came).await?;
        let outcome = self.locate_and_open(purpose, due).await.map_err(|error| {
            // It is away, and was there.
            let was_there = self.route.was_reached() && may_pass(&error);
            if was_there { error.of_failover() } else { error }
        });
        if is_optional {
            // No call fails because of it, or waits longer.
            return outcome;
        }
        let mut pause = self.pause.lock();
        match &outcome {
            Ok(_) => *pause = None,
            Err(error) => {
                let mut backoff = pause.take().map_or(Backoff::CONNECT, |pause| pause.backoff);
                let since = Instant::now();
                // Most of the time limit is for the attempt.
                let until = since + backoff.next_pause().min(self.settings.connect_timeout / 4);
                *pause = Some(ConnectPause { since, until, backoff, error: error.clone() });
                self.route.doubt(&error.to_string());
            }
        }
        outcome
    }

    async fn locate_and_open(&self, purpose: Purpose, due: tokio::time::Instant) -> Result<Connection> {
        self.settings.credentials.ready(due).await?;
        let mut last = None;
        loop {
            let generation = self.route.generation();
            let credentials = self.settings.credentials.current();
            let Ok(endpoint) = timeout_at(due, self.route.locate()).await else {
                return Err(not_located(&self.route, &self.settings, last));
            };
            let endpoint = endpoint?;
            let error = match self.open_located(&endpoint, generation, purpose.clone(), due).await {
                Ok(Some(connection)) => return Ok(connection),
                // The server was replaced while the connection was made.
                Ok(None) => continue,
                Err(error) if purpose.is_optional() => return Err(error),
                Err(error) => error,
            };
            if self.has_successor(&endpoint, generation, &error, due).await
                || has_newer(&self.settings, credentials.as_deref(), due).await
            {
                continue;
            }
            // An attempt that the time limit ended says less than the one before.
            if last.is_none() || tokio::time::Instant::now() < due {
                last = Some(error.what());
            }
            match timeout_at(due, self.route.reconsider(error)).await {
                Ok(again) => again?,
                Err(_) => return Err(not_located(&self.route, &self.settings, last)),
            }
        }
    }

    /// Whether a node of a cluster that became a replica has a successor, which is a moment away: nodes take
    /// less than a second to tell each other.
    async fn has_successor(
        &self,
        endpoint: &Endpoint,
        generation: u64,
        error: &Error,
        due: tokio::time::Instant,
    ) -> bool {
        let is_replica = error.is_failover() && error.cause_code().is_none();
        if endpoint.kind != ServerKind::ClusterPrimary || !is_replica {
            return false;
        }
        let mut changes = self.route.changes();
        self.route.doubt(&error.to_string());
        let due = due.min(tokio::time::Instant::now() + Duration::from_secs(1));
        timeout_at(due, changes.wait_for(|&current| current != generation)).await.is_ok_and(|it| it.is_ok())
    }

    /// A connection to a server that was located in this generation; `None` if the generation is over.
    async fn open_located(
        &self,
        endpoint: &Arc<Endpoint>,
        generation: u64,
        purpose: Purpose,
        due: tokio::time::Instant,
    ) -> Result<Option<Connection>> {
        let slow = async {
            tokio::time::sleep(SLOW).await;
            self.route.doubt("the server is slow to accept a connection");
            std::future::pending::<()>().await;
        };
        let opened = tokio::select! {
            opened = timeout_at(due, open(endpoint, purpose)) => opened,
            () = self.route.replaced(generation) => return Ok(None),
            () = slow => unreachable!("it never ends"),
        };
        let opened = opened.unwrap_or_else(|_| Err(timed_out(endpoint)));
        if let Err(error) = &opened
            && endpoint.has_leases()
        {
            endpoint.settings.connections.failed(&endpoint.address.server(), &error.to_string());
        }
        let (connection, run_id) = opened?;
        self.route.check(endpoint, run_id.as_deref())?;
        Ok(connection.join(&self.route, generation, run_id).then_some(connection))
    }

    /// Waits for the end of the pause, if there is one. Fails if an attempt has failed since the caller came.
    async fn pass_pause(&self, came: Instant) -> Result<()> {
        loop {
            let until = match &*self.pause.lock() {
                Some(pause) if pause.since >= came => return Err(pause.error.clone()),
                Some(pause) if pause.until > Instant::now() => pause.until,
                _ => return Ok(()),
            };
            let generation = self.route.generation();
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                // The pause was for the server before.
                () = self.route.replaced(generation) => *self.pause.lock() = None,
            }
        }
    }
}

/// A connection, and what identifies its server.
pub(crate) async fn open(endpoint: &Endpoint, purpose: Purpose) -> Result<(Connection, Option<Arc<str>>)> {
    let stream = Stream::open(endpoint).await?;
    // No error of the server has the password.
    let decoder = Decoder::redacted(Redactor::new(Arc::clone(&endpoint.settings)));
    let decoder = match endpoint.kind {
        ServerKind::ClusterNode => decoder.for_maps(),
        _ if endpoint.has_leases() => decoder.for_keys(),
        _ => decoder,
    };
    let is_optional = purpose.is_optional();
    let is_subscriber = matches!(purpose, Purpose::Messages(_));
    let connection = stream.start(purpose, decoder).map_err(|error| unreachable(endpoint, &error))?;
    let credentials = endpoint.settings.credentials.current();
    let opened = handshake(endpoint, connection, credentials.as_deref(), is_optional).await?;
    if let (Some(asked), Some(used)) = (endpoint.settings.credentials.asked(), credentials) {
        if !is_optional {
            asked.accepted(&used);
        }
        opened.0.keep_logged_in(asked, &used, endpoint.settings.command_timeout, is_subscriber);
    }
    if endpoint.has_leases() {
        let has_all = endpoint.kind == ServerKind::Primary;
        opened.0.count(&endpoint.settings.connections, endpoint.address.server(), has_all);
    }
    Ok(opened)
}

/// Whether the server refused these credentials, and others were returned since.
async fn has_newer(settings: &Settings, used: Option<&Credentials>, due: tokio::time::Instant) -> bool {
    let (Some(asked), Some(used)) = (settings.credentials.asked(), used) else { return false };
    asked.has_newer_than_refused(used, due).await
}

fn not_located(route: &Route, settings: &Settings, last: Option<String>) -> Error {
    let limit = settings.connect_timeout.as_millis();
    let found = route.search().unwrap_or_else(|| "no primary was found".to_owned());
    Error::BackendUnavailable(Report {
        cause: last,
        ..Report::new(format!(
            "cannot connect to redis at {route} within connectTimeoutMs ({limit} ms): {found}; try again"
        ))
        .with_consequence(Consequence::Unchanged)
    })
    .of_failover()
}

fn timed_out(endpoint: &Endpoint) -> Error {
    let cause = IoError::new(ErrorKind::TimedOut, "the time limit has passed");
    cannot_reach(
        endpoint,
        &format!(
            "no connection within connectTimeoutMs ({} ms)",
            endpoint.settings.connect_timeout.as_millis()
        ),
        match endpoint.address {
            // A server without TLS may be waiting for the end of what it takes for a command.
            Address::Tls { .. } => {
                "check the address, firewalls, and that the server speaks TLS on this port"
            }
            _ => "check the address, firewalls, and whether the server is overloaded",
        },
        &cause,
    )
}
