//! The stream of bytes to a server: TCP, TLS or a Unix socket.

use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use super::errors::{cannot_connect, cannot_resolve, unreachable};
use crate::backend::redis::config::address::Address;
use crate::backend::redis::config::endpoint::Endpoint;
use crate::backend::redis::config::tls::{self, Tls};
#[cfg(unix)]
use crate::backend::redis::connection::Socket;
use crate::backend::redis::connection::{Connection, Messages, Transport};
use crate::backend::redis::protocol::decoder::Decoder;
#[cfg(not(unix))]
use crate::error::Error;
use crate::error::Result;

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

/// What a connection is for.
#[derive(Clone)]
pub(crate) enum Purpose {
    Commands,
    /// One at a time, on the thread of their caller. It is to be handed over to an event loop.
    #[cfg(unix)]
    LoneCommands,
    /// What is published, to here.
    Messages(Messages),
}

impl Purpose {
    /// Whether calls go on without it.
    pub(super) const fn is_optional(&self) -> bool {
        match self {
            #[cfg(unix)]
            Self::LoneCommands => true,
            Self::Commands | Self::Messages(_) => false,
        }
    }
}

/// A connected stream.
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

impl Stream {
    pub async fn open(endpoint: &Endpoint) -> Result<Self> {
        match &endpoint.address {
            Address::Tcp { host, port } => open_tcp(endpoint, host, *port).await.map(Self::Tcp),
            Address::Tls { host, port, tls } => {
                let stream = open_tcp(endpoint, host, *port).await?;
                encrypt(endpoint, tls, stream).await.map(|stream| Self::Tls(Box::new(stream)))
            }
            #[cfg(unix)]
            Address::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await;
                stream.map(Self::Unix).map_err(|error| unreachable(endpoint, &error))
            }
            #[cfg(not(unix))]
            Address::Unix(_) => Err(Error::unsupported("this system has no Unix sockets; use redis://")),
        }
    }

    /// Starts a connection on it.
    pub fn start(self, purpose: Purpose, decoder: Decoder) -> IoResult<Connection> {
        let messages = match purpose {
            #[cfg(unix)]
            Purpose::LoneCommands => return self.start_inline(decoder),
            Purpose::Commands => None,
            Purpose::Messages(messages) => Some(messages),
        };
        Ok(Connection::start(self.into(), messages, decoder))
    }

    #[cfg(unix)]
    fn start_inline(self, decoder: Decoder) -> IoResult<Connection> {
        let (socket, tls) = match self {
            Self::Tcp(stream) => (Socket::tcp(stream)?, None),
            Self::Tls(stream) => {
                let (stream, tls) = stream.into_inner();
                (Socket::tcp(stream)?, Some(tls))
            }
            Self::Unix(stream) => (Socket::unix(stream)?, None),
        };
        Ok(Connection::start_inline(socket, tls, decoder))
    }
}

impl From<Stream> for Transport {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Tcp(stream) => {
                let (reader, writer) = stream.into_split();
                Self { reader: Box::new(reader), writer: Box::new(writer), accepts_exactly: true }
            }
            Stream::Tls(stream) => {
                let (reader, writer) = tokio::io::split(*stream);
                Self { reader: Box::new(reader), writer: Box::new(writer), accepts_exactly: false }
            }
            #[cfg(unix)]
            Stream::Unix(stream) => {
                let (reader, writer) = stream.into_split();
                Self { reader: Box::new(reader), writer: Box::new(writer), accepts_exactly: true }
            }
        }
    }
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

async fn encrypt(endpoint: &Endpoint, tls: &Tls, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
    tls.connector().connect(tls.server_name.clone(), stream).await.map_err(|error| {
        cannot_connect(endpoint, "the TLS handshake failed", tls::hint(&error), Some(&error))
    })
}
