//! What a request is for, and what a refusal of it means.

use std::fmt;

use crate::error::{Consequence, Report};

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Acquire,
    Adopt,
    Extend,
    Release,
    ForceRelease,
    /// Anything that changes nothing.
    Query,
}

impl Operation {
    /// What it means that the operation was refused; `None`: that depends on what the query was for.
    const fn meaning(self) -> Option<&'static str> {
        Some(match self {
            Self::Acquire | Self::Adopt => "nothing was granted",
            Self::Extend => "the lease keeps its old deadline",
            Self::Release => {
                "the lease was not released yet; the release is retried in the background until it ends"
            }
            Self::ForceRelease => "the lock was not released",
            Self::Query => return None,
        })
    }

    /// What happened, what it means for the lease, and what to do.
    pub fn refused(
        self,
        what: &dyn fmt::Display,
        remedy: &str,
        cause: &(impl fmt::Display + ?Sized),
    ) -> Report {
        match self.meaning() {
            Some(meaning) => Report::caused(format!("{what}; {meaning}; {remedy}"), cause),
            None => {
                Report::caused(format!("{what}; {remedy}"), cause).with_consequence(Consequence::Unchanged)
            }
        }
    }
}
