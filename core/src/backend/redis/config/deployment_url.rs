//! Redis URLs of a whole deployment, with several hosts, which the `url` crate does not parse.

use super::url::{RedisUrl, database, decoded, unreadable};
use crate::error::Result;

/// What one URL says.
pub(crate) enum DeploymentUrl {
    /// One server at a fixed address.
    Standalone(RedisUrl),
    /// Sentinels, and the primary that they watch. Its database number is in each of them.
    Sentinel { sentinels: Vec<RedisUrl>, name: String },
    /// Nodes of a Redis Cluster.
    Cluster(Vec<RedisUrl>),
}

#[derive(Clone, Copy)]
enum Kind {
    Sentinel,
    Cluster,
}

impl DeploymentUrl {
    /// No error repeats the URL, because it may contain a password.
    pub fn parse(text: &str) -> Result<Self> {
        match kind(text) {
            None => RedisUrl::parse(text).map(Self::Standalone),
            Some((kind, scheme, rest)) => Self::several(kind, scheme, rest),
        }
    }

    /// `scheme` is that of the servers; `rest` follows the `://`.
    fn several(kind: Kind, scheme: &str, rest: &str) -> Result<Self> {
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (path, after) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
        // The last `@`, as the `url` crate has it for one host.
        let (login, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        let each = |db: &str| {
            let url = |host| RedisUrl::parse(&format!("{scheme}://{login}{host}/{db}{after}"));
            hosts.split(',').map(url).collect::<Result<Vec<_>>>()
        };
        let path = path.trim_matches('/');
        match kind {
            Kind::Cluster => each(path).map(Self::Cluster),
            Kind::Sentinel => {
                let (name, db) = path.split_once('/').unwrap_or((path, ""));
                if name.is_empty() {
                    return Err(unreadable(
                        "it does not name the primary that the Sentinels watch: \
                         redis+sentinel://host:26379/name",
                    ));
                }
                if !db.is_empty() {
                    database(db)?;
                }
                let name = decoded(name, "the name of its primary is not valid UTF-8")?;
                Ok(Self::Sentinel { sentinels: each(db)?, name })
            }
        }
    }
}

/// The kind of deployment, the scheme of its servers, and what follows the `://`; `None` for one server.
fn kind(text: &str) -> Option<(Kind, &'static str, &str)> {
    // What the `url` crate ignores, too.
    let text = text.trim_matches(|c: char| c <= ' ');
    let (scheme, rest) = text.split_once("://")?;
    let (kind, scheme) = match scheme.to_ascii_lowercase().as_str() {
        "redis+sentinel" | "valkey+sentinel" => (Kind::Sentinel, "redis"),
        "rediss+sentinel" | "valkeys+sentinel" => (Kind::Sentinel, "rediss"),
        "redis+cluster" | "valkey+cluster" => (Kind::Cluster, "redis"),
        "rediss+cluster" | "valkeys+cluster" => (Kind::Cluster, "rediss"),
        _ => return None,
    };
    Some((kind, scheme, rest))
}
