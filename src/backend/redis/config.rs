//! How to reach a Redis server.

use crate::error::Result;

/// What the user gave, with defaults filled in.
pub struct Options {
    /// `redis://`, `rediss://` or `redis+unix://`.
    pub url: String,
    /// Declared replicas.
    pub replicas: u32,
    /// Overrides the URL's.
    pub username: Option<String>,
    /// Overrides the URL's.
    pub password: Option<String>,
    /// Overrides the URL's.
    pub db: Option<u32>,
    /// Overrides for TLS.
    pub tls: Option<TlsOptions>,
    /// Time limit for connecting, in milliseconds.
    pub connect_timeout_ms: u32,
    /// Time limit for a command beyond the acknowledgement time, in milliseconds.
    pub command_timeout_ms: u32,
    /// Of every key.
    pub prefix: String,
}

/// TLS material, each as PEM.
#[derive(Default)]
pub struct TlsOptions {
    /// Trusted instead of the built-in roots.
    pub ca: Option<Vec<u8>>,
    /// Client certificate chain.
    pub cert: Option<Vec<u8>>,
    /// The client certificate's key.
    pub key: Option<Vec<u8>>,
    /// Checked instead of the URL's host.
    pub server_name: Option<String>,
    /// `false` takes any certificate.
    pub reject_unauthorized: bool,
}

/// Checked.
#[derive(Debug)]
pub struct Config {}

impl Config {
    /// Checks the options; no I/O.
    pub fn new(_options: Options) -> Result<Self> {
        Ok(Self {})
    }
}
