//! Why a lease ends, in words for its holder.

use crate::runtime::clock::BootInstant;

/// What to do about it.
const ADVICE: &str = "Stop working on what it protects, or fence it";

/// Why a lease ends, or has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseEnd {
    /// It expires.
    Expires {
        /// When it must be assumed lost.
        deadline: BootInstant,
        /// Why it was not extended.
        why: String,
    },
    /// It was lost before its deadline.
    Lost {
        /// What happened to it.
        why: String,
    },
    /// Its manager was closed.
    Closed {
        /// Whether its holder had time to release it.
        drained: bool,
    },
}

impl LeaseEnd {
    /// The manager was closed; `drained` if its holders had time to release their leases.
    pub(in crate::manager) const fn closed(drained: bool) -> Self {
        Self::Closed { drained }
    }

    /// The message for the holder who is told at this moment. It may be read much later.
    pub fn message(&self, now: BootInstant) -> String {
        match self {
            Self::Expires { deadline, why } if now < *deadline => {
                format!(
                    "the lease ends {} ms after this was reported: {why}. {ADVICE}",
                    now.until(*deadline).as_millis()
                )
            }
            Self::Expires { deadline, why } => {
                format!(
                    "the lease ended {} ms before this was reported: {why}. {ADVICE}",
                    deadline.until(now).as_millis()
                )
            }
            Self::Lost { why } => format!("the lease is lost: {why}. {ADVICE}"),
            Self::Closed { drained: false } => {
                format!("the lease ended because its manager was closed. {ADVICE}")
            }
            Self::Closed { drained: true } => format!(
                "the lease ended because its manager was closed, and the lock was not released within drainMs. \
                 {ADVICE}"
            ),
        }
    }
}
