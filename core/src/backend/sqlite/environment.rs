//! What the lock files of a process depend on.

use std::path::Path;

use super::fs::kind::{self, Kind};
use super::retry::Timeouts;
use crate::error::Result;
use crate::runtime::clock::Clock;

/// The outside world of a process's lock files. Tests replace parts of it.
#[derive(Debug)]
pub struct Environment {
    /// The clock that decides when leases end.
    pub clock: Clock,
    /// How long callers wait for other processes.
    pub timeouts: Timeouts,
    /// Finds the kind of file system a directory is on.
    pub filesystem: fn(&Path) -> Result<Kind>,
}

impl Environment {
    /// The default timeouts, and the file systems of this host.
    pub fn new(clock: Clock) -> Self {
        Self { clock, timeouts: Timeouts::default(), filesystem: kind::detect }
    }
}
