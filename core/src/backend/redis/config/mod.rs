//! How is a server reached? Options as the user gave them, and the checked [`Config`].

pub(crate) mod address;
pub(crate) mod credentials;
pub(crate) mod keys;
pub(crate) mod tls;
mod url;

use std::sync::Arc;
use std::time::Duration;

use self::address::Address;
use self::credentials::{Credentials, Secret};
use self::keys::Keys;
use self::tls::Tls;
pub use self::tls::TlsOptions;
use self::url::{Endpoint, RedisUrl};
use crate::error::{Error, Result};

/// What the user gave, with defaults filled in.
pub struct Options {
    /// `redis://[user[:password]@]host[:port][/db]`, `rediss://…` for TLS, or
    /// `redis+unix:///path[?db=n&user=…&pass=…]`.
    pub url: String,
    /// Declared replicas.
    pub replicas: u32,
    /// Overrides the URL's username.
    pub username: Option<String>,
    /// Overrides the URL's password.
    pub password: Option<String>,
    /// Overrides the URL's database number.
    pub db: Option<u32>,
    /// Overrides for TLS. Refused unless the URL is `rediss://`, because they would have no effect.
    pub tls: Option<TlsOptions>,
    /// Time limit for connecting, in milliseconds; at least 1.
    pub connect_timeout_ms: u32,
    /// Time limit for a command beyond the acknowledgement time, in milliseconds; at least 1.
    pub command_timeout_ms: u32,
    /// Prefix of every key: 1 to 64 bytes without braces, whitespace and control characters.
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
        let url = RedisUrl::parse(&options.url)?;
        let address = match (url.endpoint, options.tls) {
            (Endpoint::Tcp { host, port, encrypted: true }, tls) => {
                let tls = Arc::new(Tls::new(&host, tls.unwrap_or_default())?);
                Address::Tls { host, port, tls }
            }
            (_, Some(_)) => {
                return Err(Error::invalid(
                    "tls options need a rediss:// URL; with this one the connection would not be encrypted",
                ));
            }
            (Endpoint::Tcp { host, port, .. }, None) => Address::Tcp { host, port },
            (Endpoint::Unix(path), None) => Address::Unix(path),
        };
        let username = options.username.or(url.username).filter(|name| !name.is_empty());
        let password = options.password.or(url.password).filter(|password| !password.is_empty());
        let credentials = match (username, password) {
            (username, Some(password)) => Some(Credentials { username, password: Secret::new(password) }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(Error::invalid(
                    "a Redis username needs a password; pass `password`, or omit the username",
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
    fn every_form_of_url_is_accepted() {
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
        for scheme in ["redis", "valkey"] {
            let plain = Config::new(options(&format!("{scheme}://10.0.0.1"))).unwrap();
            assert!(matches!(plain.address, Address::Tcp { .. }), "{scheme}");
        }
        assert!(matches!(Config::new(options("valkeys://localhost")).unwrap().address, Address::Tls { .. }));
    }

    #[cfg(unix)]
    #[test]
    fn urls_of_unix_sockets_are_accepted() {
        for scheme in ["unix", "redis+unix", "valkey+unix"] {
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
    fn secrets_appear_neither_in_debug_output_nor_in_messages() {
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
            "redis://user:hunter2%ff@localhost",
        ] {
            let message = refused(options(bad));
            assert!(!message.contains("hunter2"), "{bad}: {message}");
        }
    }

    #[test]
    fn settings_that_would_be_silently_ignored_are_refused() {
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
