//! Where a server listens.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::tls::{Tls, TlsSettings};
use crate::backend::connections::Server;
use crate::error::Result;

/// Where a server listens. Messages show its `Display`; it contains no secret.
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

impl Address {
    /// A server at a host and a port; encrypted with these settings, if there are any.
    pub fn new(host: &str, port: u16, tls: Option<&TlsSettings>) -> Result<Self> {
        let address = host.to_owned();
        Ok(match tls {
            None => Self::Tcp { host: address, port },
            Some(tls) => Self::Tls { host: address, port, tls: Arc::new(tls.for_host(host)?) },
        })
    }

    /// Without how it is encrypted.
    pub fn server(&self) -> Server {
        let (address, port) = match self {
            Self::Tcp { host, port } | Self::Tls { host, port, .. } => (host.clone(), Some(*port)),
            Self::Unix(path) => (path.display().to_string(), None),
        };
        Server { address, port }
    }

    /// Another server of the same deployment, encrypted in the same way.
    pub fn of_neighbour(&self, host: &str, port: u16) -> Result<Self> {
        let address = host.to_owned();
        Ok(match self {
            Self::Tls { tls, .. } => Self::Tls { host: address, port, tls: Arc::new(tls.for_host(host)?) },
            Self::Tcp { .. } | Self::Unix(_) => Self::Tcp { host: address, port },
        })
    }

    /// Whether a password for this server may be sent to a neighbour that it tells of: one that shows a
    /// certificate, or is on the same host. Any other may be a stranger, seen from here.
    pub fn trusts(&self, neighbour: &Self) -> bool {
        match (self, neighbour) {
            (Self::Tls { .. }, Self::Tls { .. }) => true,
            (Self::Tcp { host: own, .. }, Self::Tcp { host, .. }) => {
                comparable(own) == comparable(host) || (is_loopback(own) && is_loopback(host))
            }
            _ => false,
        }
    }
}

/// Turns what servers announce into addresses that this client can reach.
#[derive(Debug, Default)]
pub(crate) struct AnnouncedAddresses {
    /// Of all servers.
    pub tls: Option<TlsSettings>,
    /// What is reached instead of an announced host and port, as behind NAT.
    pub map: AddressMap,
}

/// Hosts and ports, by the host and port that is announced.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddressMap(HashMap<(String, u16), (String, u16)>);

impl AddressMap {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn get(&self, host: &str, port: u16) -> Option<&(String, u16)> {
        if self.0.is_empty() { None } else { self.0.get(&(comparable(host), port)) }
    }
}

impl FromIterator<((String, u16), (String, u16))> for AddressMap {
    fn from_iter<T: IntoIterator<Item = ((String, u16), (String, u16))>>(pairs: T) -> Self {
        Self(pairs.into_iter().map(|((host, port), to)| ((comparable(&host), port), to)).collect())
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Names and IPv6 addresses can be written in several ways.
fn comparable(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_string(),
        Err(_) => host.to_ascii_lowercase(),
    }
}

impl AnnouncedAddresses {
    /// The address of a server that is announced like this.
    pub fn address(&self, host: &str, port: u16) -> Result<Address> {
        match self.map.get(host, port) {
            Some((host, port)) => Address::new(host, *port, self.tls.as_ref()),
            None => Address::new(host, port, self.tls.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tls::TlsOptions;
    use super::*;

    #[test]
    fn announced_addresses_are_mapped() {
        let to = |port| ("public.test".to_owned(), port);
        let map = [
            (("10.0.0.1".to_owned(), 6379), to(7000)),
            (("0:0::1".to_owned(), 6379), to(7001)),
            (("Node-1.internal".to_owned(), 6379), to(7002)),
        ];
        let announced = AnnouncedAddresses { tls: None, map: map.into_iter().collect() };
        assert_eq!(announced.address("10.0.0.1", 6379).unwrap().to_string(), "public.test:7000");
        assert_eq!(announced.address("10.0.0.1", 6380).unwrap().to_string(), "10.0.0.1:6380");
        assert_eq!(announced.address("::1", 6380).unwrap().to_string(), "[::1]:6380");
        assert_eq!(announced.address("::1", 6379).unwrap().to_string(), "public.test:7001");
        assert_eq!(announced.address("node-1.INTERNAL", 6379).unwrap().to_string(), "public.test:7002");
    }

    #[test]
    fn a_neighbour_is_reached_in_the_same_way() {
        let tls = TlsSettings::new(TlsOptions::default()).unwrap();
        let encrypted = Address::new("primary.test", 6380, Some(&tls)).unwrap();
        let Address::Tls { tls, .. } = encrypted.of_neighbour("replica.test", 6381).unwrap() else {
            panic!("its neighbours use TLS too")
        };
        assert_eq!(tls.server_name.to_str(), "replica.test", "each has its own certificate");
        let plain = Address::new("primary.test", 6379, None).unwrap();
        let neighbour = plain.of_neighbour("10.0.0.2", 6379).unwrap();
        assert!(matches!(neighbour, Address::Tcp { .. }));
        assert!(!plain.trusts(&neighbour), "it may be a stranger");
        assert!(plain.trusts(&plain.of_neighbour("Primary.test", 6380).unwrap()));
        assert!(!plain.trusts(&plain.of_neighbour("127.0.0.1", 6380).unwrap()), "that is this host");
        let local = Address::new("localhost", 6379, None).unwrap();
        assert!(local.trusts(&local.of_neighbour("127.0.0.1", 6380).unwrap()));
        assert!(encrypted.trusts(&encrypted.of_neighbour("10.0.0.2", 6380).unwrap()));
    }
}
