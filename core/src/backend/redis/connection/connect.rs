//! Makes connections: open, encrypt, handshake, all within one time limit, with pauses after failures.

use std::io::{Error as IoError, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::errors::{cannot_connect, cannot_reach, cannot_resolve};
use super::handshake::handshake;
use super::route::Route;
use super::{Connection, Messages, Transport};
use crate::backend::redis::config::Config;
use crate::backend::redis::config::address::Address;
use crate::backend::redis::config::tls::{self, Tls};
use crate::backend::redis::protocol::redaction::Redaction;
use crate::error::{Error, Result};
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

/// Makes all connections to one server.
///
/// While the server is away, each failed attempt is followed by a pause that grows up to a fifth of a second.
/// A caller within the pause waits for its end: an error from before the call is no news, because the server
/// may be up by now. A caller gets the error of an attempt that failed since it came, so a thousand callers
/// do not become a thousand attempts against a server that is starting again, and none waits for several.
pub(crate) struct Connector {
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
    pub fn new() -> Self {
        Self { route: Arc::default(), pause: Mutex::new(None) }
    }

    /// A connection that is ready for commands, for a caller who came at this time.
    pub async fn connect(&self, config: &Config, came: Instant) -> Result<Connection> {
        self.connect_with(config, None, came).await
    }

    /// A connection that passes published messages on.
    pub async fn connect_subscriber(&self, config: &Config, messages: Messages) -> Result<Connection> {
        self.connect_with(config, Some(messages), Instant::now()).await
    }

    async fn connect_with(
        &self,
        config: &Config,
        messages: Option<Messages>,
        came: Instant,
    ) -> Result<Connection> {
        let started = Instant::now();
        self.pass_pause(came).await?;
        let generation = self.route.generation();
        let left = config.connect_timeout.saturating_sub(started.elapsed());
        let outcome = match tokio::time::timeout(left, open(config, messages)).await {
            Ok(Ok(connection)) if !connection.join(&self.route, generation) => Err(cannot_connect(
                config,
                "the server was replaced while the connection was made",
                "try again",
                None,
            )
            .of_failover()),
            Ok(outcome) => outcome,
            Err(_) => Err(timed_out(config)),
        };
        let mut pause = self.pause.lock();
        match &outcome {
            Ok(_) => *pause = None,
            Err(error) => {
                let mut backoff = pause.take().map_or(Backoff::CONNECT, |pause| pause.backoff);
                let since = Instant::now();
                // Most of the time limit is for the attempt.
                let until = since + backoff.next_pause().min(config.connect_timeout / 4);
                *pause = Some(ConnectPause { since, until, backoff, error: error.clone() });
            }
        }
        outcome
    }

    /// Waits for the end of the pause, if there is one. Fails if an attempt has failed since the caller came.
    async fn pass_pause(&self, came: Instant) -> Result<()> {
        loop {
            let until = match &*self.pause.lock() {
                Some(pause) if pause.since >= came => return Err(pause.error.clone()),
                Some(pause) if pause.until > Instant::now() => pause.until,
                _ => return Ok(()),
            };
            tokio::time::sleep_until(until.into()).await;
        }
    }
}

async fn open(config: &Config, messages: Option<Messages>) -> Result<Connection> {
    let transport = match &config.address {
        Address::Tcp { host, port } => open_tcp(config, host, *port).await.map(plain)?,
        Address::Tls { host, port, tls } => {
            let stream = open_tcp(config, host, *port).await?;
            encrypt(config, tls, stream).await?
        }
        #[cfg(unix)]
        Address::Unix(path) => {
            let (reader, writer) = tokio::net::UnixStream::connect(path)
                .await
                .map_err(|error| unreachable(config, &error))?
                .into_split();
            Transport { reader: Box::new(reader), writer: Box::new(writer), accepts_exactly: true }
        }
        #[cfg(not(unix))]
        Address::Unix(_) => return Err(Error::unsupported("this system has no Unix sockets; use redis://")),
    };
    let password = config.credentials.as_ref().map(|credentials| credentials.password.reveal());
    let connection = Connection::start(transport, messages, password.map(Redaction::new));
    handshake(config, connection).await
}

async fn open_tcp(config: &Config, host: &str, port: u16) -> Result<TcpStream> {
    let addresses: Vec<SocketAddr> = if let Ok(ip) = host.parse::<IpAddr>() {
        vec![SocketAddr::new(ip, port)]
    } else {
        let found = tokio::net::lookup_host((host, port)).await;
        found.map_err(|error| cannot_resolve(config, &error))?.collect()
    };
    let stream = first_reachable(addresses).await.map_err(|error| unreachable(config, &error))?;
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

async fn encrypt(config: &Config, tls: &Tls, stream: TcpStream) -> Result<Transport> {
    let stream = tls.connector.connect(tls.server_name.clone(), stream).await.map_err(|error| {
        cannot_connect(config, "the TLS handshake failed", tls::hint(&error), Some(&error))
    })?;
    let (reader, writer) = tokio::io::split(stream);
    Ok(Transport { reader: Box::new(reader), writer: Box::new(writer), accepts_exactly: false })
}

fn timed_out(config: &Config) -> Error {
    let cause = IoError::new(ErrorKind::TimedOut, "the time limit has passed");
    cannot_reach(
        config,
        &format!("no connection within connectTimeoutMs ({} ms)", config.connect_timeout.as_millis()),
        match config.address {
            // A server without TLS may be waiting for the end of what it takes for a command.
            Address::Tls { .. } => {
                "check the address, firewalls, and that the server speaks TLS on this port"
            }
            _ => "check the address, firewalls, and whether the server is overloaded",
        },
        &cause,
    )
}

fn unreachable(config: &Config, error: &IoError) -> Error {
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
    cannot_reach(config, what, remedy, error)
}
