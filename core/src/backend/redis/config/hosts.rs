//! The servers that several URLs name together.

use super::address::Address;
use super::credentials::Login;
use super::tls::{TlsOptions, TlsSettings};
use super::url::{Place, RedisUrl};
use crate::error::{Error, Result};

/// What the URLs of several servers say. No `Debug`: it holds a password.
pub(crate) struct Hosts {
    names: Vec<(String, u16)>,
    pub encrypted: bool,
    pub login: Login,
}

impl Hosts {
    /// The servers of one deployment, which must agree in everything but the address. `option`: where the
    /// URLs were given.
    pub fn new(urls: Vec<RedisUrl>, option: &str, default_port: u16) -> Result<Self> {
        let mut all: Option<Self> = None;
        for RedisUrl { place, username, password, db } in urls {
            let Place::Tcp { host, port, encrypted } = place else {
                return Err(Error::invalid(format!("{option} takes no URL of a Unix socket")));
            };
            let host = (host, port.unwrap_or(default_port));
            let login = Login { username, password, db: Some(db) };
            let Some(all) = &mut all else {
                all = Some(Self { names: vec![host], encrypted, login });
                continue;
            };
            if all.encrypted != encrypted {
                return Err(Error::invalid(format!(
                    "{option} mixes redis:// and rediss://, but these servers are reached either all with TLS or \
                     all without"
                )));
            }
            if all.login != login {
                return Err(Error::invalid(format!(
                    "the URLs in {option} differ in username, password or database, but these servers share \
                     them; give the same in each, or none and the options username and password"
                )));
            }
            // A Sentinel that is named twice must not count twice.
            if !all.names.contains(&host) {
                all.names.push(host);
            }
        }
        all.ok_or_else(|| Error::invalid(format!("{option} is empty")))
    }

    pub fn addresses(&self, tls: Option<&TlsSettings>) -> Result<Vec<Address>> {
        self.names.iter().map(|(host, port)| Address::new(host, *port, tls)).collect()
    }

    /// The TLS settings of these servers, `None` without TLS. `name` is that of the option.
    pub fn tls(&self, name: &str, options: Option<TlsOptions>) -> Result<Option<TlsSettings>> {
        tls_settings(self.encrypted, name, options)
    }
}

/// The TLS settings of a server whose URL says whether there is any; options alone would have no effect.
pub(crate) fn tls_settings(
    encrypted: bool,
    name: &str,
    options: Option<TlsOptions>,
) -> Result<Option<TlsSettings>> {
    match (encrypted, options) {
        (true, options) => TlsSettings::new(options.unwrap_or_default()).map(Some),
        (false, None) => Ok(None),
        (false, Some(_)) => Err(Error::invalid(format!(
            "{name} options need a rediss:// URL; with this one the connection would not be encrypted"
        ))),
    }
}
