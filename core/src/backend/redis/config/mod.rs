//! How is a deployment reached? Options as the user gave them, and the checked [`Config`].

#![allow(dead_code, reason = "Sentinel and Cluster are to use all of it")]

pub(crate) mod address;
pub(crate) mod credentials;
mod deployment;
mod deployment_url;
pub(crate) mod endpoint;
mod hosts;
pub(crate) mod keys;
mod options;
mod settings;
pub(crate) mod slot;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
mod url;

use std::sync::Arc;
use std::time::Duration;

use self::credentials::{Credentials, Login};
use self::deployment::Reach;
#[allow(unused_imports, reason = "Sentinel and Cluster are to use all of it")]
pub(crate) use self::deployment::{ClusterConfig, Deployment, SentinelConfig};
use self::keys::Keys;
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
        let settings = |login: Login| {
            Ok(Arc::new(Settings {
                credentials: Credentials::new(login.username, login.password)?,
                db: login.db.unwrap_or(0),
                replicas: options.replicas,
                durable: options.durable,
                connect_timeout: Duration::from_millis(options.connect_timeout_ms.into()),
                command_timeout: Duration::from_millis(options.command_timeout_ms.into()),
                keys: keys.clone(),
            }))
        };
        let login = Login { username: options.username, password: options.password, db: options.db };
        let reach = Reach {
            location: options.location,
            tls: options.tls,
            sentinel_login: options.sentinel_login,
            map: options.node_address_map.into_iter().collect(),
        };
        let (deployment, in_url) = Deployment::new(reach, settings)?;
        let settings = settings(login.or(in_url))?;
        if settings.db != 0 && matches!(deployment, Deployment::Cluster(_)) {
            return Err(Error::invalid("a Redis Cluster has only the database 0; leave out db"));
        }
        Ok(Self { deployment, settings })
    }
}
