//! What a manager has done: counters that any thread may raise.

mod histogram;
mod report;

use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use self::histogram::Histogram;
pub use self::histogram::Summary;

/// Passes all counters to the macro `$define`: the one list of them, from which the addon derives what
/// JavaScript sees.
#[macro_export]
macro_rules! with_counters {
    ($define:ident) => {
        $define! {
            gauges {
                /// Leases held right now: those that were lost or have expired are not.
                held,
                /// Unknown outcomes that are being cleaned up right now.
                cleanups,
                /// Leases that were found lost before their release, for any cause.
                lost,
            }
            counters {
                /// Calls that have not completed.
                pending,
                /// Those of them that may wait for another owner's lease to end.
                waiting,
                /// Attempts that got the lease.
                granted,
                /// Calls that ended because another owner holds the lock.
                busy,
                /// Attempts with too few acknowledgements.
                insufficient,
                /// Attempts whose outcome is unknown.
                unknown,
                /// Attempts that failed in any other way.
                failed,
                /// Extensions that were acknowledged, renewals among them.
                extended,
                /// Releases that ended a lease.
                released,
                /// Leases whose deadline passed.
                lost_expired,
                /// Leases that another owner took, or that were released by force.
                lost_taken,
                /// Leases that a server did not have after a failover or a restart.
                lost_failover,
                /// Leases whose lock file is gone.
                lost_file,
            }
        }
    };
}

macro_rules! define {
    (
        gauges { $($(#[$gauge_doc:meta])* $gauge:ident,)+ }
        counters { $($(#[$counter_doc:meta])* $counter:ident,)+ }
    ) => {
        /// What a manager has done since it was created.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct Stats {
            $($(#[$gauge_doc])* pub $gauge: u64,)+
            $($(#[$counter_doc])* pub $counter: u64,)+
        }

        /// The counters behind [`Stats`].
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $counter: AtomicU64,)+ }

        impl Counters {
            pub(crate) fn read(&self) -> Stats {
                Stats { $($counter: self.$counter.load(Ordering::Relaxed),)+ ..Stats::default() }
            }
        }
    };
}

with_counters!(define);

/// Counts something for as long as it lives.
pub(crate) struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    pub(crate) fn new(counter: &'a AtomicU64) -> Self {
        count(counter);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
