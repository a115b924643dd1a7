//! How to reach a Redis server, and what it is meant to look like.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use redis::{ConnectionAddr, IntoConnectionInfo};

use super::keys::Prefix;
use super::tls::{Tls, TlsOptions};
use crate::error::{Error, Result};

/// What the user gave, with defaults filled in. Has no `Debug`, because it holds secrets.
pub struct Options {
    /// `redis://`, `rediss://` or `redis+unix://`.
    pub url: String,
    /// How many replicas the server is meant to have.
    pub replicas: u32,
    /// Overrides the URL's.
    pub username: Option<String>,
    /// Overrides the URL's.
    pub password: Option<String>,
    /// Overrides the URL's.
    pub db: Option<u32>,
    /// For `rediss://`.
    pub tls: Option<TlsOptions>,
    /// Time limit for connecting and logging in, in milliseconds.
    pub connect_timeout_ms: u32,
    /// Time limit for a command beyond the time of acknowledgements, in milliseconds.
    pub command_timeout_ms: u32,
    /// Begins every key.
    pub prefix: String,
}

/// Where the server listens.
pub(super) enum Target {
    Tcp { host: String, port: u16, tls: Option<Tls> },
    Unix(PathBuf),
}

/// Checked options.
pub struct Config {
    pub(super) target: Target,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) db: i64,
    pub(super) replicas: u32,
    pub(super) connect_timeout: Duration,
    pub(super) command_timeout: Duration,
    pub(super) prefix: Prefix,
}

impl Config {
    /// Checks the options; no I/O.
    pub fn new(options: Options) -> Result<Self> {
        let prefix = Prefix::new(options.prefix)?;
        // The URL parser knows `rediss` only together with a TLS stack of its own choice.
        let (plain_url, secure) = match options.url.strip_prefix("rediss://") {
            Some(rest) => (format!("redis://{rest}"), true),
            None => (options.url, false),
        };
        // The parser's message names the flaw and never the URL, which may hold a password.
        let info = plain_url.as_str().into_connection_info().map_err(|error| {
            Error::invalid(format!(
                "redis.url must look like redis://host:port/db, rediss://… or redis+unix:///path: {error}"
            ))
        })?;
        let tls = match (secure, options.tls) {
            (true, tls) => Some(tls.unwrap_or_default()),
            (false, None) => None,
            (false, Some(_)) => return Err(Error::invalid("redis.tls needs a rediss:// URL")),
        };
        let target = match info.addr() {
            ConnectionAddr::Unix(path) => Target::Unix(path.clone()),
            ConnectionAddr::Tcp(host, port) => Target::Tcp {
                host: host.clone(),
                port: *port,
                tls: tls.map(|options| Tls::new(options, host)).transpose()?,
            },
            other => return Err(Error::invalid(format!("redis.url: {other} is no address of a server"))),
        };
        let settings = info.redis_settings();
        Ok(Self {
            target,
            username: options.username.or_else(|| settings.username().map(str::to_owned)),
            password: options.password.or_else(|| settings.password().map(str::to_owned)),
            db: options.db.map_or(settings.db(), i64::from),
            replicas: options.replicas,
            connect_timeout: Duration::from_millis(options.connect_timeout_ms.into()),
            command_timeout: Duration::from_millis(options.command_timeout_ms.into()),
            prefix,
        })
    }
}

/// The address alone: no secret is in it.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Target::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Target::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("address", &self.to_string())
            .field("db", &self.db)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Options for a server of tests, without replicas.
    pub fn options(url: &str) -> Options {
        Options {
            url: url.to_owned(),
            replicas: 0,
            username: None,
            password: None,
            db: None,
            tls: None,
            connect_timeout_ms: 2_000,
            command_timeout_ms: 2_000,
            prefix: "fencelock".to_owned(),
        }
    }

    #[test]
    fn urls_say_where_who_and_which_database() {
        let config = Config::new(options("redis://al%40ice:p%3Aw@example.com:7000/3")).unwrap();
        assert_eq!(config.to_string(), "example.com:7000");
        assert_eq!(config.username.as_deref(), Some("al@ice"));
        assert_eq!(config.password.as_deref(), Some("p:w"));
        assert_eq!(config.db, 3);
        assert_eq!(Config::new(options("redis://[::1]")).unwrap().to_string(), "[::1]:6379");
        let unix = Config::new(options("redis+unix:///run/redis.sock?db=2")).unwrap();
        assert_eq!((unix.to_string().as_str(), unix.db), ("/run/redis.sock", 2));
        assert!(matches!(
            Config::new(options("rediss://example.com")).unwrap().target,
            Target::Tcp { tls: Some(_), .. }
        ));
    }

    #[test]
    fn options_override_the_url() {
        let url = "redis://alice:one@example.com/3";
        let given = Options {
            username: Some("bob".into()),
            password: Some("two".into()),
            db: Some(4),
            ..options(url)
        };
        let config = Config::new(given).unwrap();
        assert_eq!(
            (config.username.as_deref(), config.password.as_deref(), config.db),
            (Some("bob"), Some("two"), 4)
        );
    }

    #[test]
    fn what_is_no_url_is_refused_without_showing_it() {
        for url in [
            "",
            "localhost",
            "http://u:hunter2@host",
            "redis://",
            "redis://host:99999",
            "redis://u:hunter2@host/x",
        ] {
            let error = Config::new(options(url)).unwrap_err();
            assert_eq!(error.code(), "INVALID_OPTION", "{url}");
            assert!(!error.to_string().contains("hunter2"));
        }
        let tls = Options { tls: Some(TlsOptions::default()), ..options("redis://host") };
        assert_eq!(Config::new(tls).unwrap_err().to_string(), "redis.tls needs a rediss:// URL");
    }

    #[test]
    fn debug_shows_no_secret() {
        let config = Config::new(options("redis://alice:hunter2@host")).unwrap();
        assert!(!format!("{config:?} {config}").contains("hunter2"));
    }
}
