//! What must hold.

use std::fmt;

/// Something that must hold in every state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Invariant {
    /// At most one lease is valid.
    Exclusion,
    /// A lease is not valid after a later one was granted.
    Order,
    /// Tokens of leases differ.
    Unique,
    /// A lease that was asked for after another was granted has a higher token.
    Rising,
    /// Tokens rise in the order in which leases are granted.
    Sorted,
    /// A grant does not have a higher token than the lease that the primary has, and that is still valid.
    Fenced,
    /// When no client is active and nothing is under way, no node stays locked.
    Released,
    /// A client does not wait when every node has answered.
    Progress,
    /// No update is lost.
    Updates,
    /// The guarded reads of a reader agree with each other.
    Snapshot,
    /// The guard does not refuse the holder of a valid lease.
    Admitted,
}

impl Invariant {
    /// The short name, as in the tables of the documentation.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Exclusion => "M",
            Self::Order => "M2",
            Self::Unique => "U",
            Self::Rising => "R",
            Self::Sorted => "R+",
            Self::Fenced => "H",
            Self::Released => "O",
            Self::Progress => "W",
            Self::Updates => "G",
            Self::Snapshot => "S",
            Self::Admitted => "V",
        }
    }

    /// What is wrong where it does not hold.
    pub const fn breach(self) -> &'static str {
        match self {
            Self::Exclusion => "two valid leases at the same time",
            Self::Order => "a lease is valid after a later one was granted",
            Self::Unique => "two leases have the same token",
            Self::Rising => "a later lease has a lower token",
            Self::Sorted => "tokens do not rise in the order of leases",
            Self::Fenced => "a stale holder has the higher token",
            Self::Released => "no client holds or wants it, nothing is under way, and a node is locked",
            Self::Progress => "a client waits although every node has answered",
            Self::Updates => "an update is lost",
            Self::Snapshot => "a reader's guarded reads differ",
            Self::Admitted => "the guard refuses a valid holder",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id(), self.breach())
    }
}
