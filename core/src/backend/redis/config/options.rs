//! What the user gave, with defaults filled in.

use super::tls::TlsOptions;

/// How to reach a deployment.
pub struct Options {
    /// Where its servers are found.
    pub location: Location,
    /// Declared replicas of each primary.
    pub replicas: u32,
    /// Overrides the URL's username.
    pub username: Option<String>,
    /// Overrides the URL's password.
    pub password: Option<String>,
    /// Overrides the URL's database number.
    pub db: Option<u32>,
    /// Overrides for TLS. Refused unless the URLs are `rediss://`, because they would have no effect. With
    /// Sentinel, the servers that hold the data are reached by TLS if these are given.
    pub tls: Option<TlsOptions>,
    /// What is reached instead of an announced host and port.
    pub node_address_map: Vec<((String, u16), (String, u16))>,
    /// Time limit for connecting, in milliseconds; at least 1.
    pub connect_timeout_ms: u32,
    /// Time limit for a command beyond the acknowledgement time, in milliseconds; at least 1.
    pub command_timeout_ms: u32,
    /// Prefix of every key: 1 to 64 bytes without braces, whitespace and control characters.
    pub prefix: String,
}

/// Where the servers of a deployment are found.
pub enum Location {
    /// `redis://[user[:password]@]host[:port][/db]`, `rediss://…` for TLS, or
    /// `redis+unix:///path[?db=n&user=…&pass=…]`.
    Url(String),
    /// The primary that these Sentinels watch.
    Sentinels(SentinelOptions),
    /// A Redis Cluster, found through these nodes: `redis://host[:port]`, or `rediss://…` for TLS.
    Cluster(Vec<String>),
}

/// Sentinels, and the primary that they watch.
pub struct SentinelOptions {
    /// `redis://host[:port]`, or `rediss://…` for TLS; the port is 26379 by default.
    pub urls: Vec<String>,
    /// The name by which they know the primary.
    pub name: String,
    /// Of the Sentinels themselves.
    pub username: Option<String>,
    /// Of the Sentinels themselves.
    pub password: Option<String>,
    /// Overrides for TLS to the Sentinels.
    pub tls: Option<TlsOptions>,
}
