//! Making connections: open, encrypt, introduce ourselves, all within one time limit, and not too often.

use std::io::{Error as IoError, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{ServerError, Value};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Connection, Messages, Stream};
use crate::backend::redis::config::tls::{self, Tls};
use crate::backend::redis::config::{Address, Config, Credentials};
use crate::backend::redis::protocol::values::error_text;
use crate::error::{Error, Report, Result};
use crate::runtime::backoff::Backoff;

/// An idle connection whose other end vanished is noticed after half a minute or so.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5));

/// How long one address of a host is tried before the next is tried as well.
const HEAD_START: Duration = Duration::from_millis(250);

/// Makes connections to one server, for all who need one.
///
/// While the server is away, each attempt is followed by a pause that grows up to half a second. Whoever comes within
/// the pause gets the last error at once: it is as true as a new one would be, nobody hangs, and a thousand callers do
/// not become a thousand attempts against a server that is just coming back.
pub(crate) struct Dialer {
    // A std Mutex, because nothing awaits while it is held.
    pause: Mutex<Option<Pause>>,
}

struct Pause {
    until: Instant,
    backoff: Backoff,
    error: Error,
}

impl Dialer {
    pub const fn new() -> Self {
        Self { pause: Mutex::new(None) }
    }

    /// A connection that is ready for commands.
    pub async fn dial(&self, config: &Config) -> Result<Connection> {
        self.dial_for(config, None).await
    }

    /// The same, which passes messages on.
    pub async fn dial_for(&self, config: &Config, messages: Option<Messages>) -> Result<Connection> {
        if let Some(pause) = &*self.lock()
            && Instant::now() < pause.until
        {
            return Err(pause.error.clone());
        }
        let outcome = match tokio::time::timeout(config.connect_timeout, connect(config, messages)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(failed(
                config,
                &format!("no connection within connectTimeoutMs ({} ms)", config.connect_timeout.as_millis()),
                match config.address {
                    // It may be waiting for the end of what it takes for a command.
                    Address::Tls { .. } => {
                        "check the address, firewalls, and that it speaks TLS on this port"
                    }
                    _ => "check the address, firewalls, and whether the server is overloaded",
                },
                None,
            )),
        };
        let mut pause = self.lock();
        match &outcome {
            Ok(_) => *pause = None,
            Err(error) => {
                let mut backoff = pause.take().map_or(Backoff::CONNECT, |pause| pause.backoff);
                let until = Instant::now() + backoff.next();
                *pause = Some(Pause { until, backoff, error: error.clone() });
            }
        }
        outcome
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Pause>> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(config: &Config, messages: Option<Messages>) -> Result<Connection> {
    let stream = match &config.address {
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
            Stream { reader: Box::new(reader), writer: Box::new(writer), accepts_exactly: true }
        }
        #[cfg(not(unix))]
        Address::Unix(_) => return Err(Error::unsupported("this system has no Unix sockets; use redis://")),
    };
    introduce(config, Connection::start(stream, messages)).await
}

async fn open_tcp(config: &Config, host: &str, port: u16) -> Result<TcpStream> {
    let addresses: Vec<SocketAddr> = if let Ok(ip) = host.parse::<IpAddr>() {
        vec![SocketAddr::new(ip, port)]
    } else {
        let found = tokio::net::lookup_host((host, port)).await.map_err(|error| {
            failed(config, "the name of the host cannot be resolved", "check the URL and DNS", Some(&error))
        })?;
        found.collect()
    };
    let stream = race(addresses).await.map_err(|error| unreachable(config, &error))?;
    // Best effort: without them it works, only later to notice and slower to answer.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
    Ok(stream)
}

/// The first of these addresses that answers. Each gets a head start before the next is tried as well, so that one that
/// swallows packets (a broken IPv6, mostly) does not use up the time for all; see RFC 8305.
async fn race(addresses: Vec<SocketAddr>) -> std::io::Result<TcpStream> {
    let mut last = IoError::new(ErrorKind::NotFound, "the host has no address");
    let mut addresses = addresses.into_iter();
    let mut trying = JoinSet::new();
    loop {
        match addresses.next() {
            Some(address) => {
                trying.spawn(TcpStream::connect(address));
            }
            None if trying.is_empty() => return Err(last),
            None => {}
        }
        let more = addresses.len() > 0;
        let joined = if more {
            tokio::time::timeout(HEAD_START, trying.join_next()).await.unwrap_or(None)
        } else {
            trying.join_next().await
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

fn plain(stream: TcpStream) -> Stream {
    let (reader, writer) = stream.into_split();
    Stream { reader: Box::new(reader), writer: Box::new(writer), accepts_exactly: true }
}

async fn encrypt(config: &Config, tls: &Tls, stream: TcpStream) -> Result<Stream> {
    let stream = tls.connector.connect(tls.server_name.clone(), stream).await.map_err(|error| {
        failed(config, "no encrypted connection could be made", tls::hint(&error), Some(&error))
    })?;
    let (reader, writer) = tokio::io::split(stream);
    Ok(Stream { reader: Box::new(reader), writer: Box::new(writer), accepts_exactly: false })
}

/// Authenticates, selects the database, gives the connection a name, and makes sure that the server serves.
async fn introduce(config: &Config, connection: Connection) -> Result<Connection> {
    #[derive(Clone, Copy, PartialEq)]
    enum Step {
        Auth,
        Select,
        /// Nice to have; older servers and proxies lack it.
        Name,
        Ping,
    }
    let mut steps = Vec::with_capacity(6);
    steps.extend(config.credentials.is_some().then_some(Step::Auth));
    steps.extend((config.db != 0).then_some(Step::Select));
    steps.extend([Step::Name; 3]);
    steps.push(Step::Ping);
    // `dial` limits the time; this limit never comes first.
    let sent = connection.send([steps.len()], config.connect_timeout * 2, |packer, out| {
        if let Some(Credentials { username, password }) = &config.credentials {
            packer.command(out, |cmd| {
                cmd.arg("AUTH").arg(username.as_deref()).arg(password.reveal());
            });
        }
        if config.db != 0 {
            packer.command(out, |cmd| {
                cmd.arg("SELECT").arg(config.db);
            });
        }
        for words in [
            ["SETNAME", "fencelock", ""],
            ["SETINFO", "LIB-NAME", "fencelock"],
            ["SETINFO", "LIB-VER", env!("CARGO_PKG_VERSION")],
        ] {
            packer.command(out, |cmd| {
                cmd.arg("CLIENT");
                words.iter().filter(|word| !word.is_empty()).for_each(|word| {
                    cmd.arg(word);
                });
            });
        }
        packer.command(out, |cmd| {
            cmd.arg("PING");
        });
    });
    let answer = match sent {
        Ok([exchange]) => connection.answer(exchange).await,
        Err(broken) => return Err(hung_up(config, &broken.why)),
    };
    for (step, reply) in steps.iter().zip(&answer.replies) {
        if let Value::ServerError(error) = reply
            && *step != Step::Name
        {
            return Err(rejected(config, *step == Step::Select, error));
        }
    }
    match (answer.broken, answer.replies.last()) {
        (None, _) => Ok(connection),
        // A server that turns a client away says why, whatever the client's first command is.
        (Some(_), Some(Value::ServerError(error))) => Err(rejected(config, false, error)),
        (Some(broken), _) => Err(hung_up(config, &broken.why)),
    }
}

fn rejected(config: &Config, selecting: bool, error: &ServerError) -> Error {
    let said = error_text(error);
    let (what, todo) = match error.code() {
        "WRONGPASS" => {
            ("wrong username or password", "check them; the password must be percent-encoded in a URL")
        }
        "NOAUTH" => ("the server asks for a password", "give it as `password` or in the URL"),
        "NOPERM" => ("the Redis user lacks a permission", "allow it in the server's ACL"),
        "LOADING" => ("the server is still loading its data", "try again when it is done"),
        "MASTERDOWN" => ("this server is a replica that lost its primary", "use the URL of the primary"),
        "ERR" if said.contains("max number of clients") => {
            ("the server has too many clients", "raise its maxclients, or use fewer")
        }
        "DENIED" => ("the server is in protected mode", "set a password on it, or bind it to this network"),
        "ERR" if said.contains("invalid password") => ("wrong password", "check it"),
        "ERR" if said.contains("AUTH") => {
            ("the server has no password for this user", "leave it out, or set one on the server")
        }
        _ if selecting => ("the database cannot be selected", "use `db: 0`, or one that the server has"),
        _ => ("the server refused the connection", "see the cause"),
    };
    failed(config, what, todo, Some(&without_password(config, &said)))
}

/// A server that does not know AUTH repeats its arguments, and one of them is the password, or the beginning of it.
fn without_password(config: &Config, said: &str) -> String {
    let said = said.split_once(", with args").map_or(said, |(before, _)| before);
    match config.credentials.as_ref().map(|credentials| credentials.password.reveal()) {
        Some(password) if !password.is_empty() => said.replace(password, "***"),
        _ => said.to_owned(),
    }
}

fn hung_up(config: &Config, why: &str) -> Error {
    failed(
        config,
        &format!("the connection broke while it was made: {why}"),
        match config.address {
            Address::Tls { .. } => {
                "if the server asks for a client certificate, give tls: { cert, key }; else look at its log"
            }
            _ => {
                "if the server expects TLS on this port, use rediss://; \
                 else look at its log (protected-mode, maxclients)"
            }
        },
        None,
    )
}

fn unreachable(config: &Config, error: &IoError) -> Error {
    let (what, todo) = match error.kind() {
        ErrorKind::ConnectionRefused => {
            ("connection refused", "is the server running, and is the port right?")
        }
        ErrorKind::NotFound => ("nothing there", "check the address; is the server running?"),
        ErrorKind::PermissionDenied => ("permission denied", "let this user connect to the socket"),
        ErrorKind::TimedOut => ("no answer", "check the address and firewalls"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            ("no way to the host", "check the address and the network")
        }
        _ => ("the connection failed", "check the address and the network"),
    };
    failed(config, what, todo, Some(error))
}

fn failed(config: &Config, what: &str, todo: &str, cause: Option<&dyn std::fmt::Display>) -> Error {
    Error::BackendUnavailable(Report {
        message: format!(
            "cannot connect to redis at {}: {what}; nothing was granted or changed; {todo}",
            config.address
        ),
        cause: cause.map(ToString::to_string),
    })
}
