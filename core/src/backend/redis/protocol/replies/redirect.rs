//! Replies of a cluster's nodes that did not execute a command: another node has the slot, or none at the
//! moment. Redis checks the keys before a script starts, so nothing was written.

use redis::ServerError;

use crate::backend::redis::config::slot::SLOTS;
use crate::backend::redis::protocol::operation::Operation;
use crate::error::Error;

/// Why a node did not execute a command, and who may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// Another node has the slot.
    Moved(RedirectTarget),
    /// The slot is moving, and the key is not here any more, or not yet: that node may have it.
    Ask(RedirectTarget),
    /// The slot is moving, and some of the keys have moved.
    TryAgain,
    /// The cluster serves nothing at the moment, or not this slot; or the reply names no usable node.
    Down,
}

/// The node that a reply names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RedirectTarget {
    pub slot: u16,
    /// `None`: the host that sent the reply.
    pub host: Option<String>,
    pub port: u16,
}

/// A request that a node did not execute.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Elsewhere {
    pub redirect: Redirect,
    /// The server that said so.
    pub address: String,
    /// What was requested.
    pub operation: Operation,
    /// In the server's words.
    pub said: String,
}

impl Elsewhere {
    /// The error when no node has executed it.
    pub fn into_error(self, what: &str, remedy: &str) -> Error {
        let Self { address, operation, said, .. } = self;
        let what = format_args!("redis at {address}: {what}");
        Error::BackendUnavailable(operation.refused(&what, remedy, &said)).of_failover()
    }
}

impl Redirect {
    /// From an error reply; `None` if it is no redirect.
    pub fn parse(error: &ServerError) -> Option<Self> {
        let target = || error.details().and_then(RedirectTarget::parse);
        Some(match error.code() {
            "MOVED" => target().map_or(Self::Down, Self::Moved),
            "ASK" => target().map_or(Self::Down, Self::Ask),
            "TRYAGAIN" => Self::TryAgain,
            "CLUSTERDOWN" => Self::Down,
            _ => return None,
        })
    }
}

impl RedirectTarget {
    /// From `slot host:port`. The host may be an IPv6 address without brackets, so the last colon counts. `?`
    /// is a node that has not been given the host name it is to announce.
    fn parse(details: &str) -> Option<Self> {
        let mut words = details.split_ascii_whitespace();
        let slot = words.next()?.parse().ok().filter(|&slot| slot < SLOTS)?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        let port = port.parse().ok().filter(|&port| port > 0)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match host {
            "?" => None,
            "" => Some(Self { slot, host: None, port }),
            host => Some(Self { slot, host: Some(host.to_owned()), port }),
        }
    }
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn parse(line: &str) -> Option<Redirect> {
        match redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap() {
            Value::ServerError(error) => Redirect::parse(&error),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_form_of_redirect_is_understood() {
        let target = |slot, host: &str, port| RedirectTarget {
            slot,
            host: (!host.is_empty()).then(|| host.to_owned()),
            port,
        };
        for (line, redirect) in [
            ("MOVED 3999 127.0.0.1:6381", Redirect::Moved(target(3999, "127.0.0.1", 6381))),
            ("MOVED 12182 :18702", Redirect::Moved(target(12_182, "", 18_702))),
            ("MOVED 0 ::1:7000", Redirect::Moved(target(0, "::1", 7000))),
            ("MOVED 0 fe80::1:2:7000", Redirect::Moved(target(0, "fe80::1:2", 7000))),
            ("MOVED 0 [::1]:7000", Redirect::Moved(target(0, "::1", 7000))),
            ("MOVED 16383 node-2.test:7000", Redirect::Moved(target(16_383, "node-2.test", 7000))),
            ("ASK 3999 127.0.0.1:6381", Redirect::Ask(target(3999, "127.0.0.1", 6381))),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Redirect::TryAgain),
            ("CLUSTERDOWN The cluster is down", Redirect::Down),
            ("CLUSTERDOWN Hash slot not served", Redirect::Down),
            ("MOVED 16384 127.0.0.1:6381", Redirect::Down),
            ("MOVED -1 127.0.0.1:6381", Redirect::Down),
            ("MOVED 5 127.0.0.1:0", Redirect::Down),
            ("MOVED 5 ?:6381", Redirect::Down),
            ("MOVED 5 127.0.0.1", Redirect::Down),
            ("MOVED 5 127.0.0.1:99999", Redirect::Down),
            ("MOVED", Redirect::Down),
            ("ASK x", Redirect::Down),
        ] {
            assert_eq!(parse(line), Some(redirect), "{line}");
        }
        assert_eq!(parse("READONLY You can't write"), None);
        assert_eq!(parse("ERR MOVED 5 127.0.0.1:1"), None);
    }
}
