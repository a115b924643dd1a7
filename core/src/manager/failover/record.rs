//! What a manager remembers of the failovers of a backend.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::manager::held_lease::HeldLease;
use crate::runtime::clock::BootInstant;
use crate::runtime::sync::Mutex;

/// What a manager remembers of the failovers of a backend.
#[derive(Debug, Default)]
pub(in crate::manager) struct Failovers {
    /// Microseconds on the boot clock: what was asked for before may have been granted by a server that is
    /// gone.
    last: AtomicU64,
    /// Leases of such grants that arrived since.
    pub late: Mutex<Vec<Arc<HeldLease>>>,
}

impl Failovers {
    /// Whether a lease that was asked for at this moment may be on a server that is gone.
    pub fn may_have_hit(&self, sent: BootInstant) -> bool {
        sent.as_micros() < self.last.load(Ordering::Acquire)
    }

    /// A server may be gone since this moment.
    pub fn note(&self, now: BootInstant) {
        self.last.fetch_max(now.as_micros(), Ordering::AcqRel);
    }
}
