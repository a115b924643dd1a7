//! What a manager has done: counters that any thread may raise.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// What a manager has done since it was made.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct Stats {
            /// Leases held right now.
            pub held: u64,
            /// Cleanups of unknown outcomes that are still going on.
            pub cleanups: u64,
            $($(#[$doc])* pub $name: u64,)+
        }

        /// The counters behind [`Stats`].
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)+ }

        impl Counters {
            pub(crate) fn read(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed),)+ ..Stats::default() }
            }
        }
    };
}

stats! {
    /// Calls that have not been answered yet.
    pending,
    /// Those of them that may wait for somebody else's lease to end.
    waiting,
    /// Attempts that got the lease.
    granted,
    /// Attempts that found somebody else.
    busy,
    /// Attempts that too few replicas acknowledged.
    insufficient,
    /// Attempts whose outcome is unknown.
    unknown,
    /// Attempts that failed in any other way.
    failed,
    /// Extensions that were acknowledged, renewals among them.
    extended,
    /// Releases that ended a lease.
    released,
    /// Leases that were found lost before their release.
    lost,
}

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
