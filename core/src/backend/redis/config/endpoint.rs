//! A server and how to talk to it.

use std::sync::Arc;

use super::address::Address;
use super::settings::Settings;

/// One server, and what all connections to it use.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub address: Address,
    pub kind: ServerKind,
    pub settings: Arc<Settings>,
}

impl Endpoint {
    /// Whether it has leases: only then are connections to it counted.
    pub fn has_leases(&self) -> bool {
        use ServerKind::{ClusterNode, ClusterPrimary, Primary, Replica, Sentinel, Voter};
        match self.kind {
            Primary | ClusterPrimary | Voter => true,
            ClusterNode | Replica | Sentinel => false,
        }
    }
}

/// What a server must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// A primary that has all keys.
    Primary,
    /// A primary that may have only some of the slots.
    ClusterPrimary,
    /// A server that is asked for the map of its cluster; perhaps a replica.
    ClusterNode,
    /// A replica, whose clock is read; perhaps a primary by now.
    Replica,
    /// A Sentinel.
    Sentinel,
    /// A node of a quorum: a primary of its own.
    Voter,
}
