//! What happens to leases and connections without a call. Nothing of it is put together unless an observer
//! wants it.

pub(in crate::manager) mod observing;

use std::time::Duration;

use super::held_lease::{HeldLease, LeaseId};
use crate::backend::connections::ConnectionChange;
use crate::error::Result;
use crate::lease::{Owner, Resources, Strategy};
use crate::runtime::clock::BootInstant;

/// What an observer may want to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Calls that begin to wait.
    Waits,
    /// Leases that are lost.
    Losses,
    /// Attempts to renew a lease.
    Renewals,
    /// Connections that open and end.
    Connections,
}

impl Topic {
    /// A bit of its own.
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Hears of what it wants to hear of. Called from any thread; must not block or call back.
pub trait Observer: Send + Sync {
    /// Whether it wants to hear of this now. Asked often.
    fn wants(&self, topic: Topic) -> bool;

    /// Something happened that it wants to hear of.
    fn notify(&self, event: Event);
}

/// Why a lease was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossCause {
    /// Its deadline passed.
    Expired,
    /// Another owner took it, or it was released by force.
    Taken,
    /// A server that took over, or was restarted, does not have it.
    Failover,
    /// Its lock file is gone.
    File,
}

impl LossCause {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Taken => "taken",
            Self::Failover => "failover",
            Self::File => "file",
        }
    }
}

/// A lease at the time of an event.
#[derive(Debug, Clone)]
pub struct LeaseFacts {
    /// Which one.
    pub id: LeaseId,
    /// Where it is.
    pub strategy: Strategy,
    /// What it covers.
    pub resources: Resources,
    /// Its owner.
    pub owner: Owner,
    /// Its token.
    pub token: u64,
    /// How long it has been held.
    pub held: Duration,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A lease was lost.
    Lost {
        /// The lease.
        lease: LeaseFacts,
        /// Why.
        cause: LossCause,
        /// Why, in words.
        message: String,
    },
    /// An attempt to renew a lease has ended.
    Renewed {
        /// The lease.
        lease: LeaseFacts,
        /// How long after it was due the attempt began.
        lag: Duration,
        /// How long it took.
        took: Duration,
        /// For how much longer the lease counts.
        remaining: Duration,
        /// What came of it.
        result: Result<()>,
    },
    /// A connection opened or ended.
    Connection {
        /// Of this strategy's backend.
        strategy: Strategy,
        /// What happened.
        change: ConnectionChange,
    },
}

impl HeldLease {
    /// How long it has been held: from before it was asked for, as its deadline.
    pub(super) fn held_for(&self, now: BootInstant) -> Duration {
        self.sent.until(now)
    }

    pub(super) fn facts(&self, now: BootInstant) -> LeaseFacts {
        LeaseFacts {
            id: self.id,
            strategy: self.strategy,
            resources: self.resources.clone(),
            owner: self.owner,
            token: self.token,
            held: self.held_for(now),
        }
    }
}
