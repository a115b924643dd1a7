//! Makes connections: open, encrypt, handshake, all within one time limit, with pauses after failures.

mod errors;
mod handshake;

use std::io::{Error as IoError, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

pub(crate) use self::errors::may_pass;
use self::errors::{cannot_connect, cannot_reach, cannot_resolve};
use self::handshake::handshake;
use crate::backend::redis::config::Settings;
use crate::backend::redis::config::address::Address;
use crate::backend::redis::config::credentials::Credentials;
use crate::backend::redis::config::endpoint::{Endpoint, ServerKind};
use crate::backend::redis::config::tls::{self, Tls};
use crate::backend::redis::connection::route::Route;
use crate::backend::redis::connection::{Connection, Messages, Transport};
use crate::backend::redis::protocol::decoder::Decoder;
use crate::backend::redis::protocol::redaction::Redactor;
use crate::error::{Error, Report, Result};
use crate::runtime::backoff::Backoff;
use crate::runtime::sync::Mutex;

/// An idle connection whose other end vanished is noticed after about half a minute: where the number of
/// retries cannot be set, systems take 8 to 10.
const KEEPALIVE: TcpKeepalive = {
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5));
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple", windows))]
    let keepalive = keepalive.with_retries(3);
    keepalive
};

/// How long one address of a host is tried before the next is tried as well.
const HEAD_START: Duration = Duration::from_millis(250);

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

    /// A connection that is ready for commands, for a caller who came at this time.
    ///
    /// Boxed, as it is large: otherwise each release would move it around, though hardly any connects.
    pub fn connect(&self, came: Instant) -> BoxFuture<'_, Result<Connection>> {
        Box::pin(self.connect_with(None, came))
    }

    /// A connection that passes published messages on.
    pub fn connect_subscriber(&self, messages: Messages) -> BoxFuture<'_, Result<Connection>> {
        Box::pin(self.connect_with(Some(messages), Instant::now()))
    }

    /// The way to the server.
    pub const fn route(&self) -> &Arc<Route> {
        &self.route
    }

    async fn connect_with(&self, messages: Option<Messages>, came: Instant) -> Result<Connection> {
        let due = tokio::time::Instant::now() + self.settings.connect_timeout;
        self.pass_pause(came).await?;
        let outcome = self.locate_and_open(messages, due).await.map_err(|error| {
            // It is away, and was there.
            let was_there = self.route.was_reached() && may_pass(&error);
            if was_there { error.of_failover() } else { error }
        });
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

    async fn locate_and_open(
        &self,
        messages: Option<Messages>,
        due: tokio::time::Instant,
    ) -> Result<Connection> {
        self.settings.credentials.ready(due).await?;
        let mut last = None;
        loop {
            let generation = self.route.generation();
            let credentials = self.settings.credentials.current();
            let Ok(endpoint) = timeout_at(due, self.route.locate()).await else {
                return Err(not_located(&self.route, &self.settings, last));
            };
            let endpoint = endpoint?;
            let error = match self.open_located(&endpoint, generation, messages.clone(), due).await {
                Ok(Some(connection)) => return Ok(connection),
                // The server was replaced while the connection was made.
                Ok(None) => continue,
                Err(error) => error,
            };
            if self.has_successor(&endpoint, generation, &error, due).await
                || has_newer(&self.settings, credentials.as_deref(), due).await
            {
                continue;
            }
            // An attempt that the time limit ended says less than the one before.
            if last.is_none() || tokio::time::Instant::now() < due {
                last = Some(error.to_string());
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
        messages: Option<Messages>,
        due: tokio::time::Instant,
    ) -> Result<Option<Connection>> {
        let slow = async {
            tokio::time::sleep(SLOW).await;
            self.route.doubt("the server is slow to accept a connection");
            std::future::pending::<()>().await;
        };
        let opened = tokio::select! {
            opened = timeout_at(due, open(endpoint, messages)) => opened,
            () = self.route.replaced(generation) => return Ok(None),
            () = slow => unreachable!("it never ends"),
        };
        let (connection, run_id) = opened.unwrap_or_else(|_| Err(timed_out(endpoint)))?;
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
pub(crate) async fn open(
    endpoint: &Endpoint,
    messages: Option<Messages>,
) -> Result<(Connection, Option<Arc<str>>)> {
    let transport = match &endpoint.address {
        Address::Tcp { host, port } => open_tcp(endpoint, host, *port).await.map(plain)?,
        Address::Tls { host, port, tls } => {
            let stream = open_tcp(endpoint, host, *port).await?;
            encrypt(endpoint, tls, stream).await?
        }
        #[cfg(unix)]
        Address::Unix(path) => {
            let (reader, writer) = tokio::net::UnixStream::connect(path)
                .await
                .map_err(|error| unreachable(endpoint, &error))?
                .into_split();
            Transport { reader: Box::new(reader), writer: Box::new(writer), accepts_exactly: true }
        }
        #[cfg(not(unix))]
        Address::Unix(_) => return Err(Error::unsupported("this system has no Unix sockets; use redis://")),
    };
    // No error of the server has the password.
    let decoder = Decoder::redacted(Redactor::new(Arc::clone(&endpoint.settings)));
    let decoder = if endpoint.kind == ServerKind::ClusterNode { decoder.for_maps() } else { decoder };
    let is_subscriber = messages.is_some();
    let connection = Connection::start(transport, messages, decoder);
    let credentials = endpoint.settings.credentials.current();
    let opened = handshake(endpoint, connection, credentials.as_deref()).await?;
    if let (Some(asked), Some(used)) = (endpoint.settings.credentials.asked(), credentials) {
        asked.accepted(&used);
        opened.0.keep_logged_in(asked, &used, endpoint.settings.command_timeout, is_subscriber);
    }
    Ok(opened)
}

/// Whether the server refused these credentials, and others were returned since.
async fn has_newer(settings: &Settings, used: Option<&Credentials>, due: tokio::time::Instant) -> bool {
    let (Some(asked), Some(used)) = (settings.credentials.asked(), used) else { return false };
    asked.has_newer_than_refused(used, due).await
}

async fn open_tcp(endpoint: &Endpoint, host: &str, port: u16) -> Result<TcpStream> {
    let addresses: Vec<SocketAddr> = if let Ok(ip) = host.parse::<IpAddr>() {
        vec![SocketAddr::new(ip, port)]
    } else {
        let found = tokio::net::lookup_host((host, port)).await;
        found.map_err(|error| cannot_resolve(endpoint, &error))?.collect()
    };
    let stream = first_reachable(addresses).await.map_err(|error| unreachable(endpoint, &error))?;
    // Best effort: without these options it works, but is slower and notices failures later.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
    Ok(stream)
}

/// Connects to the first of these addresses that accepts. Each gets a head start before the next is tried as
/// well, so that an address that drops packets (usually a broken IPv6) does not use up the time for all; see
/// RFC 8305.
async fn first_reachable(addresses: Vec<SocketAddr>) -> std::io::Result<TcpStream> {
    let mut last = IoError::new(ErrorKind::NotFound, "the host has no address");
    let mut addresses = addresses.into_iter();
    let mut attempts = JoinSet::new();
    loop {
        match addresses.next() {
            Some(address) => {
                attempts.spawn(TcpStream::connect(address));
            }
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        let more = addresses.len() > 0;
        let joined = if more {
            tokio::time::timeout(HEAD_START, attempts.join_next()).await.unwrap_or(None)
        } else {
            attempts.join_next().await
        };
        match joined {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => last = error,
            // A panic, or the end of the runtime.
            Some(Err(error)) => last = IoError::other(error),
            None => {}
        }
    }
}

fn plain(stream: TcpStream) -> Transport {
    let (reader, writer) = stream.into_split();
    Transport { reader: Box::new(reader), writer: Box::new(writer), accepts_exactly: true }
}

async fn encrypt(endpoint: &Endpoint, tls: &Tls, stream: TcpStream) -> Result<Transport> {
    let stream = tls.connector().connect(tls.server_name.clone(), stream).await.map_err(|error| {
        cannot_connect(endpoint, "the TLS handshake failed", tls::hint(&error), Some(&error))
    })?;
    let (reader, writer) = tokio::io::split(stream);
    Ok(Transport { reader: Box::new(reader), writer: Box::new(writer), accepts_exactly: false })
}

fn not_located(route: &Route, settings: &Settings, last: Option<String>) -> Error {
    let limit = settings.connect_timeout.as_millis();
    let found = route.search().unwrap_or_else(|| "no primary was found".to_owned());
    Error::BackendUnavailable(Report {
        cause: last,
        ..Report::new(format!(
            "cannot connect to redis at {route} within connectTimeoutMs ({limit} ms): {found}; nothing was \
             granted or changed; try again"
        ))
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

fn unreachable(endpoint: &Endpoint, error: &IoError) -> Error {
    let (what, remedy) = match error.kind() {
        ErrorKind::ConnectionRefused => {
            ("connection refused", "is the server running, and is the port right?")
        }
        ErrorKind::NotFound => ("nothing there", "check the address; is the server running?"),
        ErrorKind::PermissionDenied => ("permission denied", "allow this user to connect to the socket"),
        ErrorKind::TimedOut => ("no response", "check the address and firewalls"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            ("no route to the host", "check the address and the network")
        }
        _ => ("the connection failed", "check the address and the network"),
    };
    cannot_reach(endpoint, what, remedy, error)
}
