//! The configuration of a manager, as the core's types. lib/options/ has already refused what a user can get
//! wrong, with the messages users see.

use std::collections::HashMap;
use std::sync::Arc;

use napi_derive::napi;

use fencelock_core::backend::Backend;
use fencelock_core::backend::{memory, quorum, redis, sqlite};
use fencelock_core::error::Result;
use fencelock_core::lease::{Holder, Strategy};
use fencelock_core::runtime::clock::Clock;

/// What functions for credentials return, by the numbers of the functions.
pub(crate) type CredentialsByFunction = HashMap<u32, Arc<redis::AskedCredentials>>;

/// A manager's configuration, with every default filled in.
#[napi(object, object_to_js = false)]
pub struct ManagerConfig {
    /// Who the manager is, for people.
    pub holder: HolderConfig,
    /// The start of every key.
    pub prefix: String,
    /// For strong locks.
    pub redis: Option<RedisConfig>,
    /// For quorum locks.
    pub quorum: Option<QuorumConfig>,
    /// For local locks.
    pub local: LocalConfig,
}

/// Who a manager is, for people.
#[napi(object, object_to_js = false)]
pub struct HolderConfig {
    /// 1 to 256 bytes without control characters.
    pub name: String,
    /// The name of this host.
    pub host: String,
    /// The number of this process.
    pub pid: u32,
}

/// The servers of strong locks; `RedisOptions` in index.d.ts has the details. Exactly one of `url`,
/// `sentinels` and `cluster` is given.
#[napi(object, object_to_js = false)]
pub struct RedisConfig {
    /// `redis://`, `rediss://`, `redis+unix://`, `redis+sentinel://`, `redis+cluster://`, ….
    pub url: Option<String>,
    /// URLs of the Sentinels.
    pub sentinels: Option<Vec<String>>,
    /// The name by which the Sentinels know the primary.
    pub name: Option<String>,
    /// URLs of nodes of a cluster.
    pub cluster: Option<Vec<String>>,
    /// How many replicas each primary is declared to have.
    pub replicas: u32,
    /// Whether a reply is declared to mean that a quorum has the write on disk.
    pub durable: bool,
    /// Overrides that of the URL.
    pub username: Option<String>,
    /// Overrides that of the URL.
    pub password: Option<String>,
    /// The number of the function that is asked for username and password instead.
    pub credentials: Option<u32>,
    /// Overrides that of the URL.
    pub db: Option<u32>,
    /// For `rediss://`, and for the servers that Sentinels announce.
    pub tls: Option<TlsConfig>,
    /// Of the Sentinels.
    pub sentinel_username: Option<String>,
    /// Of the Sentinels.
    pub sentinel_password: Option<String>,
    /// Of the Sentinels.
    pub sentinel_tls: Option<TlsConfig>,
    /// What is reached instead of an announced address.
    pub node_address_map: Vec<AddressMapping>,
    /// The time limit for connecting and logging in, in milliseconds.
    pub connect_timeout_ms: u32,
    /// The time limit for a command, in milliseconds.
    pub command_timeout_ms: u32,
}

/// The nodes of quorum locks; `QuorumOptions` in index.d.ts has the details.
#[napi(object, object_to_js = false)]
pub struct QuorumConfig {
    /// Each with a `url`.
    pub nodes: Vec<RedisConfig>,
    /// The longest TTL, in milliseconds; the same for all clients.
    pub max_ttl_ms: u32,
    /// How long a node does not vote after a restart, in milliseconds, if it is not as long as it must be.
    pub restart_delay_ms: Option<u32>,
}

/// What is reached instead of an announced address.
#[napi(object, object_to_js = false)]
pub struct AddressMapping {
    /// As announced.
    pub host: String,
    /// As announced.
    pub port: u16,
    /// As it is reached.
    pub to_host: String,
    /// As it is reached.
    pub to_port: u16,
}

/// TLS material as PEM text.
#[napi(object, object_to_js = false)]
pub struct TlsConfig {
    /// The authorities to trust instead of the built-in roots.
    pub ca: Option<String>,
    /// Client certificate chain.
    pub cert: Option<String>,
    /// The client certificate's key.
    pub key: Option<String>,
    /// The name that the server's certificate must have, instead of the URL's host.
    pub server_name: Option<String>,
    /// Whether the certificate is checked at all.
    pub reject_unauthorized: bool,
}

/// Where local locks are.
#[napi(object, object_to_js = false)]
pub struct LocalConfig {
    /// An absolute path; none for locks in the memory of the manager.
    pub path: Option<String>,
    /// `synchronous = FULL` instead of `NORMAL`.
    pub full_durability: bool,
    /// Whether the file may be on a network or FUSE file system.
    pub allow_network_filesystem: bool,
    /// The mode of the files that are created.
    pub mode: Option<u32>,
    /// Whether the user gave a relative path.
    pub relative: bool,
}

impl ManagerConfig {
    /// The backends this configuration asks for.
    pub(crate) fn backends(
        self,
        credentials: &CredentialsByFunction,
        #[cfg(unix)] event_loop: Option<&redis::ReadingLoop>,
    ) -> Result<impl Iterator<Item = (Strategy, Backend)> + use<>> {
        let prefix = self.prefix;
        let quorum = self.quorum.map(|config| config.backend(&prefix, credentials)).transpose()?;
        let strong = self.redis.map(|config| {
            #[cfg_attr(not(unix), expect(unused_mut, reason = "no event loop"))]
            let mut options = config.options(prefix, credentials);
            #[cfg(unix)]
            {
                options.event_loop = event_loop.cloned();
            }
            let config = redis::Config::new(options)?;
            Ok(Backend::Redis(redis::RedisBackend::new(config, Clock::System)))
        });
        let strong = strong.transpose()?;
        let local = self.local.backend();
        let strong = strong.map(|strong| (Strategy::Strong, strong));
        let quorum = quorum.map(|quorum| (Strategy::Quorum, quorum));
        Ok([Some((Strategy::Local, local)), strong, quorum].into_iter().flatten())
    }
}

impl From<&HolderConfig> for Holder {
    fn from(HolderConfig { name, host, pid }: &HolderConfig) -> Self {
        let since_ms = Clock::System.wall_micros() / 1_000;
        Self { name: name.clone(), host: host.clone(), pid: *pid, since_ms }
    }
}

impl LocalConfig {
    fn backend(self) -> Backend {
        let Some(path) = self.path else {
            return Backend::Memory(memory::MemoryBackend::new(Clock::System));
        };
        let config = sqlite::Config {
            path: path.into(),
            durability: if self.full_durability {
                sqlite::Durability::Full
            } else {
                sqlite::Durability::Normal
            },
            allow_network_filesystem: self.allow_network_filesystem,
            mode: self.mode,
            is_relative: self.relative,
        };
        Backend::Sqlite(sqlite::SqliteBackend::new(config, Clock::System))
    }
}

impl QuorumConfig {
    fn backend(self, prefix: &str, credentials: &CredentialsByFunction) -> Result<Backend> {
        let options = quorum::Options {
            nodes: self.nodes.into_iter().map(|node| node.options(prefix.to_owned(), credentials)).collect(),
            max_ttl_ms: self.max_ttl_ms,
            restart_delay_ms: self.restart_delay_ms,
        };
        let config = quorum::Config::new(options, &Clock::System)?;
        Ok(Backend::Quorum(quorum::QuorumBackend::new(config, Clock::System)))
    }
}

impl RedisConfig {
    fn options(self, prefix: String, credentials: &CredentialsByFunction) -> redis::Options {
        let location = match (self.url, self.sentinels, self.cluster) {
            (_, Some(urls), _) => redis::Location::Sentinels(redis::SentinelOptions {
                urls,
                name: self.name.unwrap_or_default(),
            }),
            (_, _, Some(urls)) => redis::Location::Cluster(urls),
            (url, None, None) => redis::Location::Url(url.unwrap_or_default()),
        };
        let sentinel_login = redis::SentinelLogin {
            username: self.sentinel_username,
            password: self.sentinel_password,
            tls: self.sentinel_tls.map(TlsConfig::options),
        };
        let mappings = self.node_address_map.into_iter();
        redis::Options {
            location,
            replicas: self.replicas,
            durable: self.durable,
            username: self.username,
            password: self.password,
            credentials: self.credentials.and_then(|function| credentials.get(&function).cloned()),
            db: self.db,
            tls: self.tls.map(TlsConfig::options),
            sentinel_login,
            node_address_map: mappings.map(|to| ((to.host, to.port), (to.to_host, to.to_port))).collect(),
            connect_timeout_ms: self.connect_timeout_ms,
            command_timeout_ms: self.command_timeout_ms,
            prefix,
            #[cfg(unix)]
            event_loop: None,
        }
    }
}

impl TlsConfig {
    fn options(self) -> redis::TlsOptions {
        redis::TlsOptions {
            ca: self.ca.map(String::into_bytes),
            cert: self.cert.map(String::into_bytes),
            key: self.key.map(String::into_bytes),
            server_name: self.server_name,
            reject_unauthorized: self.reject_unauthorized,
        }
    }
}
