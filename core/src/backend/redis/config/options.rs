//! What the user gave, with defaults filled in.

use std::fmt;
use std::sync::Arc;

use super::credentials::AskedCredentials;
use super::tls::TlsOptions;
#[cfg(unix)]
use crate::runtime::event_loop::EventLoop;

/// How many replicas a primary is declared to have by those who do not say.
pub(crate) const DEFAULT_REPLICAS: u32 = 2;

/// How to reach a deployment.
pub struct Options {
    /// Where its servers are found.
    pub location: Location,
    /// Declared replicas of each primary.
    pub replicas: u32,
    /// Whether the servers are declared to reply to a write only once a quorum has it on disk.
    pub durable: bool,
    /// Overrides the URL's username.
    pub username: Option<String>,
    /// Overrides the URL's password.
    pub password: Option<String>,
    /// Whom to ask for username and password, instead of any given ones.
    pub credentials: Option<Arc<AskedCredentials>>,
    /// Overrides the URL's database number. 0 in a cluster.
    pub db: Option<u32>,
    /// Overrides for TLS. Refused if the URLs have no TLS, because they would have no effect. With
    /// [`Location::Sentinels`], the servers that hold the data are reached by TLS if these are given.
    pub tls: Option<TlsOptions>,
    /// How to log in to Sentinels; refused without any. They never get what is for the servers with the data.
    pub sentinel_login: SentinelLogin,
    /// What is reached instead of an announced host and port; refused for a server at a fixed address.
    pub node_address_map: Vec<((String, u16), (String, u16))>,
    /// Time limit for connecting, in milliseconds; at least 1.
    pub connect_timeout_ms: u32,
    /// Time limit for a command beyond the acknowledgement time, in milliseconds; at least 1.
    pub command_timeout_ms: u32,
    /// Prefix of every key: 1 to 64 bytes without braces, whitespace and control characters.
    pub prefix: String,
    /// What reads the sockets of calls that are made one after another.
    #[cfg(unix)]
    pub event_loop: Option<ReadingLoop>,
}

/// An event loop that reads sockets.
#[cfg(unix)]
#[derive(Clone)]
pub struct ReadingLoop(pub Arc<dyn EventLoop>);

#[cfg(unix)]
impl fmt::Debug for ReadingLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadingLoop")
    }
}

/// Where the servers of a deployment are found.
pub enum Location {
    /// One of
    /// - `redis://[user[:password]@]host[:port][/db]`, `rediss://…` for TLS;
    /// - `redis+unix:///path[?db=n&user=…&pass=…]`;
    /// - `redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/name[/db]`, `rediss+sentinel://…` for
    ///   TLS both to the Sentinels and to the servers that they announce; the user is that of these servers;
    /// - `redis+cluster://[user[:password]@]host[:port][,host[:port]…]`, `rediss+cluster://…` for TLS.
    Url(String),
    /// The primary that these Sentinels watch.
    Sentinels(SentinelOptions),
    /// A Redis Cluster, found through these nodes: `redis://[user[:password]@]host[:port]`, or `rediss://…`
    /// for TLS, the same in all of them.
    Cluster(Vec<String>),
}

/// Sentinels, and the primary that they watch.
pub struct SentinelOptions {
    /// `redis://host[:port]`, or `rediss://…` for TLS, the same in all of them; the port is 26379 by default.
    pub urls: Vec<String>,
    /// The name by which they know the primary.
    pub name: String,
}

/// How to log in to Sentinels.
#[derive(Default)]
pub struct SentinelLogin {
    pub username: Option<String>,
    pub password: Option<String>,
    /// Overrides for TLS; refused if the URLs have no TLS.
    pub tls: Option<TlsOptions>,
}

impl Options {
    /// With the defaults of everything else.
    pub fn new(location: Location) -> Self {
        Self {
            location,
            replicas: DEFAULT_REPLICAS,
            durable: false,
            username: None,
            password: None,
            credentials: None,
            db: None,
            tls: None,
            sentinel_login: SentinelLogin::default(),
            node_address_map: Vec::new(),
            connect_timeout_ms: 5_000,
            command_timeout_ms: 2_000,
            prefix: "fencelock".into(),
            #[cfg(unix)]
            event_loop: None,
        }
    }
}
