//! How to reach a Redis server.

pub(crate) mod keys;
pub(crate) mod tls;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionAddr, IntoConnectionInfo};

use self::keys::Keys;
use self::tls::Tls;
pub use self::tls::TlsOptions;
use crate::error::{Error, Report, Result};

/// What the user gave, with defaults filled in.
pub struct Options {
    /// `redis://[user[:password]@]host[:port][/db]`, `rediss://…` for TLS, or
    /// `redis+unix:///path[?db=n&user=…&pass=…]`.
    pub url: String,
    /// Declared replicas.
    pub replicas: u32,
    /// Overrides the URL's.
    pub username: Option<String>,
    /// Overrides the URL's.
    pub password: Option<String>,
    /// Overrides the URL's.
    pub db: Option<u32>,
    /// Overrides for TLS. Refused unless the URL is `rediss://`, for they would do nothing.
    pub tls: Option<TlsOptions>,
    /// Time limit for connecting, in milliseconds; at least 1.
    pub connect_timeout_ms: u32,
    /// Time limit for a command beyond the acknowledgement time, in milliseconds; at least 1.
    pub command_timeout_ms: u32,
    /// Of every key: 1 to 64 bytes without braces, whitespace and control characters.
    pub prefix: String,
}

/// A server and how to talk to it, checked.
#[derive(Debug)]
pub struct Config {
    pub(crate) address: Address,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) db: u32,
    pub(crate) replicas: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) keys: Keys,
}

/// Where a server listens. Its `Display` is what messages name; it holds no secret.
#[derive(Clone)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16, tls: Arc<Tls> },
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } | Self::Tls { host, port, .. } if host.contains(':') => {
                write!(f, "[{host}]:{port}")
            }
            Self::Tcp { host, port } | Self::Tls { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What AUTH sends.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub username: Option<String>,
    pub password: Secret,
}

/// A string that `Debug` does not show.
pub(crate) struct Secret(String);

impl Secret {
    /// The secret itself, for the wire.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Config {
    /// Checks the options; no I/O.
    pub fn new(options: Options) -> Result<Self> {
        for (name, value) in [
            ("connectTimeoutMs", options.connect_timeout_ms),
            ("commandTimeoutMs", options.command_timeout_ms),
        ] {
            if value == 0 {
                return Err(Error::invalid(format!("{name} must be at least 1, got 0")));
            }
        }
        let url = Url::parse(&options.url)?;
        let address = match (url.address, options.tls, url.secure) {
            (ConnectionAddr::Tcp(host, port), tls, true) => {
                let tls = Arc::new(Tls::new(&host, tls.unwrap_or_default())?);
                Address::Tls { host, port, tls }
            }
            (_, Some(_), false) => {
                return Err(Error::invalid(
                    "tls options need a rediss:// URL; with this one the connection would not be encrypted",
                ));
            }
            (ConnectionAddr::Tcp(host, port), None, false) => Address::Tcp { host, port },
            (ConnectionAddr::Unix(path), _, _) => Address::Unix(path),
            _ => return Err(Error::invalid("this kind of Redis URL is not supported")),
        };
        let username = options.username.or(url.username).filter(|name| !name.is_empty());
        let password = options.password.or(url.password).filter(|password| !password.is_empty());
        let credentials = match (username, password) {
            (username, Some(password)) => Some(Credentials { username, password: Secret(password) }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(Error::invalid(
                    "a Redis username needs a password; give `password`, or leave the username out",
                ));
            }
        };
        Ok(Self {
            address,
            credentials,
            db: options.db.unwrap_or(url.db),
            replicas: options.replicas,
            connect_timeout: Duration::from_millis(options.connect_timeout_ms.into()),
            command_timeout: Duration::from_millis(options.command_timeout_ms.into()),
            keys: Keys::new(&options.prefix)?,
        })
    }
}

/// What a URL says, as redis-rs reads it.
struct Url {
    address: ConnectionAddr,
    secure: bool,
    username: Option<String>,
    password: Option<String>,
    db: u32,
}

impl Url {
    /// No message repeats the URL, because it may hold a password.
    fn parse(text: &str) -> Result<Self> {
        const SHAPES: &str = "use redis://, rediss:// (TLS) or redis+unix://, \
            and percent-encode special characters in the password";
        let Some(mut url) = redis::parse_redis_url(text) else {
            return Err(Error::invalid(format!("the Redis URL cannot be read; {SHAPES}")));
        };
        if url.fragment().is_some() {
            return Err(Error::invalid(
                "a Redis URL has no part after `#`: percent-encode a `#` in the password as %23; \
                 to take any certificate use tls: { rejectUnauthorized: false }",
            ));
        }
        let unix = url.scheme().contains("unix");
        // A parameter that is silently ignored may mean another database, and so a lock that nobody shares.
        let known: &[&str] = if unix { &["db", "user", "pass"] } else { &[] };
        if url.query_pairs().any(|(name, _)| !known.contains(&name.as_ref())) {
            // Not named: after a `?` in a password that is not encoded, it is the rest of the password.
            return Err(Error::invalid(format!(
                "the Redis URL has an unknown parameter after `?`; {}give options in the `redis` object instead, and \
                 percent-encode a `?` in the password as %3F",
                if unix { "known are db, user and pass; " } else { "" }
            )));
        }
        let secure = matches!(url.scheme(), "rediss" | "valkeys");
        // redis-rs reads this scheme only with a TLS stack of its own; the encryption is ours.
        if secure && url.set_scheme("redis").is_err() {
            return Err(Error::invalid(format!("the Redis URL cannot be read; {SHAPES}")));
        }
        let info = url.into_connection_info().map_err(|error| {
            Error::InvalidOption(Report::new(format!(
                "the Redis URL cannot be read: {}; {SHAPES}",
                error.detail().map_or_else(|| error.category().to_owned(), str::to_owned)
            )))
        })?;
        let settings = info.redis_settings();
        let db = u32::try_from(settings.db())
            .map_err(|_| Error::invalid("the database number of the Redis URL is out of range"))?;
        Ok(Self {
            address: info.addr().clone(),
            secure,
            username: settings.username().map(str::to_owned),
            password: settings.password().map(str::to_owned),
            db,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> Options {
        Options {
            url: url.into(),
            replicas: 2,
            username: None,
            password: None,
            db: None,
            tls: None,
            connect_timeout_ms: 5_000,
            command_timeout_ms: 2_000,
            prefix: "fencelock".into(),
        }
    }

    fn refused(options: Options) -> String {
        let error = Config::new(options).unwrap_err();
        assert_eq!(error.code(), "INVALID_OPTION");
        error.to_string()
    }

    #[test]
    fn reads_every_form_of_url() {
        let plain = Config::new(options("redis://user:p%40ss@example.test:7000/3")).unwrap();
        assert_eq!(plain.address.to_string(), "example.test:7000");
        assert_eq!(plain.db, 3);
        let credentials = plain.credentials.unwrap();
        assert_eq!(credentials.username.as_deref(), Some("user"));
        assert_eq!(credentials.password.reveal(), "p@ss");

        let bare = Config::new(options("redis://localhost")).unwrap();
        assert_eq!((bare.address.to_string().as_str(), bare.db), ("localhost:6379", 0));
        assert!(bare.credentials.is_none());
        assert!(matches!(Config::new(options("rediss://localhost")).unwrap().address, Address::Tls { .. }));
        let six = Config::new(options("redis://[::1]:7000")).unwrap();
        assert_eq!(six.address.to_string(), "[::1]:7000");
    }

    #[cfg(unix)]
    #[test]
    fn reads_unix_sockets() {
        for scheme in ["unix", "redis+unix"] {
            let unix =
                Config::new(options(&format!("{scheme}:///run/redis.sock?db=2&user=u&pass=p"))).unwrap();
            assert_eq!(unix.address.to_string(), "/run/redis.sock");
            assert_eq!(unix.db, 2);
            assert_eq!(unix.credentials.unwrap().username.as_deref(), Some("u"));
        }
    }

    #[test]
    fn options_override_the_url() {
        let mut given = options("redis://user:old@localhost/3");
        given.password = Some("new".into());
        given.db = Some(5);
        let config = Config::new(given).unwrap();
        assert_eq!(config.db, 5);
        assert_eq!(config.credentials.unwrap().password.reveal(), "new");
    }

    #[test]
    fn secrets_reach_neither_debug_nor_messages() {
        let mut with_option = options("redis://user:hunter2@localhost");
        with_option.tls = None;
        let shown = format!("{:?}", Config::new(with_option).unwrap());
        assert!(shown.contains("***"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
        for bad in [
            "redis://user:hunter2@localhost/x",
            "redis://user:hunter2@localhost/-1",
            "redis://user:hunter2#@localhost",
            "redis://user:hunter2@local host",
            "http://user:hunter2@localhost",
            "redis://user:hunter2@0.0.0.0",
            "redis://user:hunter2@localhost?db=1",
        ] {
            let message = refused(options(bad));
            assert!(!message.contains("hunter2"), "{bad}: {message}");
        }
    }

    #[test]
    fn refuses_what_would_be_ignored_in_silence() {
        assert!(refused(options("redis://localhost?db=1")).contains("unknown parameter"));
        assert!(!refused(options("redis://me:half?secret@localhost")).contains("secret"));
        assert!(refused(options("rediss://localhost#insecure")).contains("rejectUnauthorized"));
        assert!(refused(options("redis://user@localhost")).contains("password"));
        let mut unencrypted = options("redis://localhost");
        unencrypted.tls = Some(TlsOptions::default());
        assert!(refused(unencrypted).contains("rediss://"));
        let mut timeless = options("redis://localhost");
        timeless.command_timeout_ms = 0;
        assert!(refused(timeless).contains("commandTimeoutMs"));
        let mut braces = options("redis://localhost");
        braces.prefix = "a{b".into();
        assert!(refused(braces).contains("prefix"));
    }
}
