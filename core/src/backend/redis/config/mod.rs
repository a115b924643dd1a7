//! How is a deployment reached? Options as the user gave them, and the checked [`Config`].

#![allow(dead_code, reason = "Sentinel and Cluster are to use all of it")]

pub(crate) mod address;
pub(crate) mod credentials;
pub(crate) mod endpoint;
pub(crate) mod keys;
mod options;
pub(crate) mod tls;
mod url;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use self::address::{Address, AnnouncedAddresses};
use self::credentials::Credentials;
use self::keys::Keys;
pub use self::options::{Location, Options, SentinelOptions};
pub use self::tls::TlsOptions;
use self::tls::TlsSettings;
use self::url::{Place, RedisUrl};
use crate::error::{Error, Result};

/// A deployment and how to talk to it, checked.
#[derive(Debug)]
pub struct Config {
    pub(crate) deployment: Deployment,
    pub(crate) settings: Arc<Settings>,
}

/// Where the servers of a deployment are found.
#[derive(Debug)]
pub(crate) enum Deployment {
    /// One primary, at a fixed address.
    Standalone(Address),
    /// The primary that Sentinels watch.
    Sentinel(SentinelConfig),
    /// The primaries of a Redis Cluster.
    Cluster(ClusterConfig),
}

/// Sentinels, and what they are asked for.
#[derive(Debug)]
pub(crate) struct SentinelConfig {
    /// The name of the primary.
    pub name: String,
    pub sentinels: Vec<Address>,
    /// Of the Sentinels.
    pub settings: Arc<Settings>,
    /// Of the servers that they announce.
    pub announced: AnnouncedAddresses,
    /// Of other Sentinels that they announce.
    pub announced_sentinels: AnnouncedAddresses,
}

/// The nodes through which a cluster is found.
#[derive(Debug)]
pub(crate) struct ClusterConfig {
    pub seeds: Vec<Address>,
    pub announced: AnnouncedAddresses,
}

/// How to talk to a server.
#[derive(Debug)]
pub struct Settings {
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
        let keys = Keys::new(&options.prefix)?;
        let settings = |login: Login| {
            Ok(Arc::new(Settings {
                credentials: Credentials::new(login.username, login.password)?,
                db: login.db.unwrap_or(0),
                replicas: options.replicas,
                connect_timeout: Duration::from_millis(options.connect_timeout_ms.into()),
                command_timeout: Duration::from_millis(options.command_timeout_ms.into()),
                keys: keys.clone(),
            }))
        };
        let map = options.node_address_map.into_iter().collect();
        let login = Login { username: options.username, password: options.password, db: options.db };
        let (deployment, login) = match options.location {
            Location::Url(url) => {
                let RedisUrl { place, username, password, db } = RedisUrl::parse(&url)?;
                let tls = options.tls.map(TlsSettings::new).transpose()?;
                let in_url = Login { username, password, db: Some(db) };
                (Deployment::Standalone(address(place, tls)?), login.or(in_url))
            }
            Location::Sentinels(sentinels) => {
                let login_there =
                    Login { username: sentinels.username, password: sentinels.password, db: None };
                let tls_there = sentinels.tls.map(TlsSettings::new).transpose()?;
                let config = SentinelConfig {
                    name: sentinels.name,
                    sentinels: addresses(&sentinels.urls, tls_there.as_ref())?,
                    settings: settings(login_there)?,
                    announced: AnnouncedAddresses {
                        tls: options.tls.map(TlsSettings::new).transpose()?,
                        map,
                    },
                    announced_sentinels: AnnouncedAddresses { tls: tls_there, map: HashMap::new() },
                };
                (Deployment::Sentinel(config), login)
            }
            Location::Cluster(urls) => {
                let tls = options.tls.map(TlsSettings::new).transpose()?;
                let seeds = addresses(&urls, tls.as_ref())?;
                let announced = AnnouncedAddresses { tls, map };
                (Deployment::Cluster(ClusterConfig { seeds, announced }), login)
            }
        };
        Ok(Self { deployment, settings: settings(login)? })
    }
}

/// How to log in to a server.
struct Login {
    username: Option<String>,
    password: Option<String>,
    db: Option<u32>,
}

impl Login {
    /// What is missing is taken from another one.
    fn or(self, other: Self) -> Self {
        Self {
            username: self.username.or(other.username),
            password: self.password.or(other.password),
            db: self.db.or(other.db),
        }
    }
}

fn addresses(urls: &[String], tls: Option<&TlsSettings>) -> Result<Vec<Address>> {
    urls.iter().map(|url| address(RedisUrl::parse(url)?.place, tls.cloned())).collect()
}

fn address(place: Place, tls: Option<TlsSettings>) -> Result<Address> {
    match (place, tls) {
        (Place::Tcp { host, port, encrypted: true }, tls) => {
            let tls = tls.map_or_else(|| TlsSettings::new(TlsOptions::default()), Ok)?;
            Address::new(&host, port, Some(&tls))
        }
        (_, Some(_)) => Err(Error::invalid(
            "tls options need a rediss:// URL; with this one the connection would not be encrypted",
        )),
        (Place::Tcp { host, port, .. }, None) => Address::new(&host, port, None),
        (Place::Unix(path), None) => Ok(Address::Unix(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> Options {
        Options {
            location: Location::Url(url.into()),
            replicas: 2,
            username: None,
            password: None,
            db: None,
            tls: None,
            node_address_map: Vec::new(),
            connect_timeout_ms: 5_000,
            command_timeout_ms: 2_000,
            prefix: "fencelock".into(),
        }
    }

    fn address(config: &Config) -> &Address {
        match &config.deployment {
            Deployment::Standalone(address) => address,
            other => panic!("{other:?}"),
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
        assert_eq!(address(&plain).to_string(), "example.test:7000");
        assert_eq!(plain.settings.db, 3);
        let credentials = plain.settings.credentials.as_ref().unwrap();
        assert_eq!(credentials.username.as_deref(), Some("user"));
        assert_eq!(credentials.password.reveal(), "p@ss");

        let bare = Config::new(options("redis://localhost")).unwrap();
        assert_eq!((address(&bare).to_string().as_str(), bare.settings.db), ("localhost:6379", 0));
        assert!(bare.settings.credentials.is_none());
        assert!(matches!(address(&Config::new(options("rediss://localhost")).unwrap()), Address::Tls { .. }));
        let six = Config::new(options("redis://[::1]:7000")).unwrap();
        assert_eq!(address(&six).to_string(), "[::1]:7000");
        for scheme in ["redis", "valkey"] {
            let plain = Config::new(options(&format!("{scheme}://10.0.0.1"))).unwrap();
            assert!(matches!(address(&plain), Address::Tcp { .. }), "{scheme}");
        }
        assert!(matches!(
            address(&Config::new(options("valkeys://localhost")).unwrap()),
            Address::Tls { .. }
        ));
    }

    #[cfg(unix)]
    #[test]
    fn urls_of_unix_sockets_are_accepted() {
        for scheme in ["unix", "redis+unix", "valkey+unix"] {
            let unix =
                Config::new(options(&format!("{scheme}:///run/redis.sock?db=2&user=u&pass=p"))).unwrap();
            assert_eq!(address(&unix).to_string(), "/run/redis.sock");
            assert_eq!(unix.settings.db, 2);
            assert_eq!(unix.settings.credentials.as_ref().unwrap().username.as_deref(), Some("u"));
        }
    }

    #[test]
    fn options_override_the_url() {
        let mut given = options("redis://user:old@localhost/3");
        given.password = Some("new".into());
        given.db = Some(5);
        let config = Config::new(given).unwrap();
        assert_eq!(config.settings.db, 5);
        assert_eq!(config.settings.credentials.as_ref().unwrap().password.reveal(), "new");
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
