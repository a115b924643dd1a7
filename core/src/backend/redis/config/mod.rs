//! How is a deployment reached? Options as the user gave them, and the checked [`Config`].

pub(crate) mod address;
pub(crate) mod credentials;
mod deployment;
mod deployment_url;
pub(crate) mod endpoint;
mod hosts;
pub(crate) mod keys;
pub(crate) mod lock_names;
mod options;
mod settings;
pub(crate) mod slot;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
mod url;

use std::sync::Arc;
use std::time::Duration;

pub use self::credentials::{Ask, AskedCredentials};
use self::credentials::{CredentialSource, Credentials, Login};
use self::deployment::Reach;
pub(crate) use self::deployment::{ClusterConfig, Deployment, SentinelConfig};
use self::keys::Keys;
pub(crate) use self::options::DEFAULT_REPLICAS;
#[cfg(unix)]
pub use self::options::ReadingLoop;
pub use self::options::{Location, Options, SentinelLogin, SentinelOptions};
pub use self::settings::Settings;
pub use self::tls::TlsOptions;
use crate::error::{Error, Result};

/// A deployment and how to talk to it, checked.
#[derive(Debug)]
pub struct Config {
    pub(crate) deployment: Deployment,
    pub(crate) settings: Arc<Settings>,
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
        let (connections, pending_connects) = (Arc::default(), Arc::default());
        let with = |credentials, db: Option<u32>| {
            Arc::new(Settings {
                credentials,
                db: db.unwrap_or(0),
                replicas: options.replicas,
                durable: options.durable,
                connect_timeout: Duration::from_millis(options.connect_timeout_ms.into()),
                command_timeout: Duration::from_millis(options.command_timeout_ms.into()),
                keys: keys.clone(),
                connections: Arc::clone(&connections),
                pending_connects: Arc::clone(&pending_connects),
                #[cfg(unix)]
                event_loop: options.event_loop.clone(),
            })
        };
        let settings = |login: Login| {
            let credentials = Credentials::new(login.username, login.password)?.map(Arc::new);
            Ok(with(CredentialSource::Fixed(credentials), login.db))
        };
        let login = Login { username: options.username, password: options.password, db: options.db };
        let reach = Reach {
            location: options.location,
            tls: options.tls,
            sentinel_login: options.sentinel_login,
            map: options.node_address_map.into_iter().collect(),
        };
        let (deployment, in_url) = Deployment::new(reach, settings)?;
        let login = login.or(in_url);
        let settings = match options.credentials {
            None => settings(login)?,
            Some(_) if login.username.is_some() || login.password.is_some() => {
                return Err(Error::invalid(
                    "the function for credentials is asked for username and password: leave them out of the \
                     options and of the URL",
                ));
            }
            Some(asked) => with(CredentialSource::Asked(asked), login.db),
        };
        if settings.db != 0 && matches!(deployment, Deployment::Cluster(_)) {
            return Err(Error::invalid("a Redis Cluster has only the database 0; leave out db"));
        }
        Ok(Self { deployment, settings })
    }

    /// The address, if it is one server at a fixed one. An error otherwise.
    pub(crate) fn fixed_address(&self) -> Result<String> {
        match &self.deployment {
            Deployment::Standalone(address) => Ok(address.to_string()),
            Deployment::Sentinel(_) | Deployment::Cluster(_) => Err(Error::invalid(
                "a node of a quorum is one independent server, not Sentinels or a cluster: the replicas of one \
                 primary, and the nodes of one cluster, fail together",
            )),
        }
    }
}
