//! The facade's checked values as the core's types. The facade has already refused what a user can get wrong, with
//! the messages users see; the core's constructors check once more.

use std::time::Duration;

use napi_derive::napi;

use fencelock_core::backend::Backend;
use fencelock_core::backend::{redis, sqlite};
use fencelock_core::error::{Error, Result};
use fencelock_core::lease::token::MIN_TOKEN_LIMIT;
use fencelock_core::lease::{AckPolicy, Mode, Owner, Resources, Strategy, Ttl};
use fencelock_core::manager::Limits;
use fencelock_core::manager::Wanted;
use fencelock_core::runtime::clock::Clock;

/// A manager's configuration, with every default filled in.
#[napi(object, object_to_js = false)]
pub struct ManagerConfig {
    /// Of every key.
    pub prefix: String,
    /// For strong locks.
    pub redis: Option<RedisConfig>,
    /// For local locks.
    pub local: LocalConfig,
}

/// See `RedisOptions` in index.d.ts.
#[napi(object, object_to_js = false)]
pub struct RedisConfig {
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
    /// For `rediss://`.
    pub tls: Option<TlsConfig>,
    /// Milliseconds.
    pub connect_timeout_ms: u32,
    /// Milliseconds.
    pub command_timeout_ms: u32,
}

/// TLS material as PEM text.
#[napi(object, object_to_js = false)]
pub struct TlsConfig {
    /// Trusted instead of the built-in roots.
    pub ca: Option<String>,
    /// Client certificate chain.
    pub cert: Option<String>,
    /// The client certificate's key.
    pub key: Option<String>,
    /// Checked instead of the URL's host.
    pub server_name: Option<String>,
    /// Whether the certificate is checked at all.
    pub reject_unauthorized: bool,
}

/// A lock file.
#[napi(object, object_to_js = false)]
pub struct LocalConfig {
    /// As the user gave it.
    pub path: String,
    /// `synchronous = FULL` instead of `NORMAL`.
    pub full_durability: bool,
    /// Take the file also on a network or FUSE file system.
    pub allow_network_filesystem: bool,
}

impl ManagerConfig {
    /// The backends this configuration asks for.
    pub(crate) fn backends(self) -> Result<impl Iterator<Item = (Strategy, Backend)>> {
        let prefix = self.prefix;
        let strong = self.redis.map(|config| config.backend(prefix)).transpose()?;
        let local = sqlite::Config {
            path: self.local.path.into(),
            durability: if self.local.full_durability {
                sqlite::Durability::Full
            } else {
                sqlite::Durability::Normal
            },
            allow_network_filesystem: self.local.allow_network_filesystem,
        };
        let local = Backend::Sqlite(sqlite::SqliteBackend::new(local, Clock::System));
        let strong = strong.map(|strong| (Strategy::Strong, strong));
        Ok([Some((Strategy::Local, local)), strong].into_iter().flatten())
    }
}

impl RedisConfig {
    fn backend(self, prefix: String) -> Result<Backend> {
        let tls = self.tls.map(|tls| redis::TlsOptions {
            ca: tls.ca.map(String::into_bytes),
            cert: tls.cert.map(String::into_bytes),
            key: tls.key.map(String::into_bytes),
            server_name: tls.server_name,
            reject_unauthorized: tls.reject_unauthorized,
        });
        let config = redis::Config::new(redis::Options {
            url: self.url,
            replicas: self.replicas,
            username: self.username,
            password: self.password,
            db: self.db,
            tls,
            connect_timeout_ms: self.connect_timeout_ms,
            command_timeout_ms: self.command_timeout_ms,
            prefix,
        })?;
        Ok(Backend::Redis(redis::RedisBackend::new(config, Clock::System)))
    }
}

/// The strategy with this number; lib/options.js has the same numbers.
pub(crate) fn strategy(number: u32) -> Result<Strategy> {
    let strategy = Strategy::ALL.get(number as usize);
    strategy.copied().ok_or_else(|| Error::invalid(format!("there is no strategy {number}")))
}

/// For how long a lease is kept alive, in milliseconds, which may be infinite; not at all if the first is 0.
pub(crate) fn renew(max_hold_ms: f64, max_stall_ms: f64) -> Option<Limits> {
    let limit = |ms: f64| if ms.is_finite() { Duration::from_millis(ms as u64) } else { Limits::FOREVER };
    (max_hold_ms > 0.0).then(|| Limits { max_hold: limit(max_hold_ms), max_stall: limit(max_stall_ms) })
}

/// What an acquire asks for, checked.
pub(crate) fn wanted(
    resources: Resources,
    owner: Owner,
    ttl_ms: u32,
    min_token: f64,
    acks: AckPolicy,
    terms: Terms,
) -> Result<Wanted> {
    if !(0.0..MIN_TOKEN_LIMIT as f64).contains(&min_token) {
        return Err(Error::invalid(format!("minToken must be 0 to {}", MIN_TOKEN_LIMIT - 1)));
    }
    let ttl = Ttl::from_millis(ttl_ms)?;
    if acks.required > 0 && !(1..=ttl_ms / 2).contains(&acks.timeout_ms) {
        return Err(Error::invalid(format!(
            "ackTimeoutMs must be 1 to half of ttlMs, got {}",
            acks.timeout_ms
        )));
    }
    let Terms { wait_ms, fair, renew } = terms;
    // Also for ever: longer than any process lives.
    let wait = Duration::try_from_secs_f64(wait_ms / 1_000.0).unwrap_or(Duration::MAX);
    let mode = Mode::Exclusive;
    Ok(Wanted { resources, mode, owner, ttl, min_token: min_token as u64, acks, wait, fair, renew })
}

/// How a lease is waited for and held. Neither waited for nor renewed by default.
#[derive(Clone, Copy, Default)]
pub(crate) struct Terms {
    /// Milliseconds; infinity for ever.
    pub(crate) wait_ms: f64,
    pub(crate) fair: bool,
    pub(crate) renew: Option<Limits>,
}
