//! Where the servers of a deployment are found.

use std::sync::Arc;

use super::address::{Address, AddressMap, AnnouncedAddresses};
use super::credentials::Login;
use super::deployment_url::DeploymentUrl;
use super::hosts::{Hosts, tls_settings};
use super::options::{Location, SentinelLogin, SentinelOptions};
use super::settings::Settings;
use super::tls::{TlsOptions, TlsSettings};
use super::url::{Place, RedisUrl};
use crate::error::{Error, Result};

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

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

/// The options that say where the servers are and how they are reached.
pub(super) struct Reach {
    pub location: Location,
    pub tls: Option<TlsOptions>,
    pub sentinel_login: SentinelLogin,
    pub map: AddressMap,
}

impl Deployment {
    /// The deployment, and what its URLs say about logging in. `settings` of the Sentinels are made from what
    /// logs in to them.
    pub(super) fn new(
        reach: Reach,
        settings: impl FnOnce(Login) -> Result<Arc<Settings>>,
    ) -> Result<(Self, Login)> {
        let Reach { location, tls, sentinel_login, map } = reach;
        let found = match location {
            Location::Url(url) => DeploymentUrl::parse(&url)?,
            Location::Sentinels(SentinelOptions { urls, name }) => {
                let hosts = sentinels(parsed(&urls)?)?;
                // Their URLs say nothing about the servers that they announce.
                let tls = tls.map(TlsSettings::new).transpose()?;
                let sentinel = Sentinels { hosts, name, tls, login: sentinel_login, map };
                return Ok((sentinel.config(settings)?, Login::default()));
            }
            Location::Cluster(urls) => DeploymentUrl::Cluster(parsed(&urls)?),
        };
        match found {
            DeploymentUrl::Sentinel { sentinels, name } => {
                let mut hosts = Hosts::new(sentinels, "url", SENTINEL_PORT)?;
                let login = std::mem::take(&mut hosts.login);
                let tls = hosts.tls("tls", tls)?;
                let sentinel = Sentinels { hosts, name, tls, login: sentinel_login, map };
                Ok((sentinel.config(settings)?, login))
            }
            DeploymentUrl::Cluster(urls) => {
                refuse_sentinel_login(&sentinel_login)?;
                let hosts = Hosts::new(urls, "cluster", REDIS_PORT)?;
                let tls = hosts.tls("tls", tls)?;
                let seeds = hosts.addresses(tls.as_ref())?;
                let announced = AnnouncedAddresses { tls, map };
                Ok((Self::Cluster(ClusterConfig { seeds, announced }), hosts.login))
            }
            DeploymentUrl::Standalone(url) => {
                refuse_sentinel_login(&sentinel_login)?;
                if !map.is_empty() {
                    return Err(Error::invalid(
                        "nodeAddressMap needs Sentinels or a cluster, which announce addresses; this URL is \
                         of one server",
                    ));
                }
                let RedisUrl { place, username, password, db } = url;
                Ok((Self::Standalone(standalone(place, tls)?), Login { username, password, db: Some(db) }))
            }
        }
    }
}

/// Sentinels, before their settings are made.
struct Sentinels {
    hosts: Hosts,
    name: String,
    /// Of the servers that they announce.
    tls: Option<TlsSettings>,
    login: SentinelLogin,
    map: AddressMap,
}

impl Sentinels {
    fn config(self, settings: impl FnOnce(Login) -> Result<Arc<Settings>>) -> Result<Deployment> {
        let Self { hosts, name, tls, login, map } = self;
        if name.is_empty() {
            return Err(Error::invalid("the name of the primary that the Sentinels watch is empty"));
        }
        let SentinelLogin { username, password, tls: tls_there } = login;
        let tls_there = hosts.tls("sentinelTls", tls_there)?;
        Ok(Deployment::Sentinel(SentinelConfig {
            name,
            sentinels: hosts.addresses(tls_there.as_ref())?,
            settings: settings(Login { username, password, db: None })?,
            announced: AnnouncedAddresses { tls, map: map.clone() },
            announced_sentinels: AnnouncedAddresses { tls: tls_there, map },
        }))
    }
}

/// Sentinels that were listed. A password in their URLs could be meant for them or for the servers.
fn sentinels(urls: Vec<RedisUrl>) -> Result<Hosts> {
    let hosts = Hosts::new(urls, "sentinels", SENTINEL_PORT)?;
    if hosts.login.username.is_some() || hosts.login.password.is_some() {
        return Err(Error::invalid(
            "the URLs in sentinels must not contain credentials: those of the Sentinels are sentinelUsername \
             and sentinelPassword, those of the servers that they announce username and password",
        ));
    }
    if hosts.login.db != Some(0) {
        return Err(Error::invalid(
            "the URLs in sentinels must not contain a database: Sentinels have none; pass it as db",
        ));
    }
    Ok(hosts)
}

fn refuse_sentinel_login(SentinelLogin { username, password, tls }: &SentinelLogin) -> Result<()> {
    if username.is_none() && password.is_none() && tls.is_none() {
        return Ok(());
    }
    Err(Error::invalid(
        "sentinelUsername, sentinelPassword and sentinelTls need Sentinels: redis: { sentinels, name }, or a \
         redis+sentinel:// URL",
    ))
}

fn parsed(urls: &[String]) -> Result<Vec<RedisUrl>> {
    urls.iter().map(|url| RedisUrl::parse(url)).collect()
}

fn standalone(place: Place, tls: Option<TlsOptions>) -> Result<Address> {
    match place {
        Place::Tcp { host, port, encrypted } => {
            let tls = tls_settings(encrypted, "tls", tls)?;
            Address::new(&host, port.unwrap_or(REDIS_PORT), tls.as_ref())
        }
        Place::Unix(path) => {
            tls_settings(false, "tls", tls)?;
            Ok(Address::Unix(path))
        }
    }
}
