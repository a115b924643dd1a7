//! What a deployment really guarantees, in words and fields.

use std::borrow::Cow;

/// What can be told of a deployment now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Guarantee {
    /// One paragraph in plain words.
    pub summary: String,
    /// Replicas the deployment is declared to have; `None` for backends without any.
    pub replicas_declared: Option<u32>,
    /// Replicas that are connected right now.
    pub replicas_connected: Option<u32>,
    /// What to look at, each with what to do.
    pub warnings: Vec<String>,
    /// Whether at most one holder can write, through what may happen.
    pub survives: Survives,
    /// The server, for backends that have one.
    pub server: Option<Server>,
    /// The lock file, for backends that have one.
    pub file: Option<LockFile>,
}

/// Whether mutual exclusion survives something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    /// It cannot happen here.
    #[default]
    NotApplicable,
    /// Nobody else gets the lock while its holder may still work.
    Yes,
    /// Somebody else may get the lock while its holder still works. What they write stays right if a guard checks the
    /// token, because tokens go on rising.
    WithGuard,
}

/// A verdict, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// Whether.
    pub verdict: Verdict,
    /// Why.
    pub words: Cow<'static, str>,
}

impl Event {
    /// Nobody else gets the lock.
    pub fn yes(words: impl Into<Cow<'static, str>>) -> Self {
        Self { verdict: Verdict::Yes, words: words.into() }
    }

    /// Somebody else may.
    pub fn with_guard(words: impl Into<Cow<'static, str>>) -> Self {
        Self { verdict: Verdict::WithGuard, words: words.into() }
    }

    /// It does not happen.
    pub fn not_applicable(words: impl Into<Cow<'static, str>>) -> Self {
        Self { verdict: Verdict::NotApplicable, words: words.into() }
    }
}

/// What may happen to a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survives {
    /// The holder's process dies.
    pub process_crash: Event,
    /// The holder's process stands still for longer than its lease lasts, and goes on.
    pub pause: Event,
    /// The primary's process dies, and comes back.
    pub primary_crash: Event,
    /// A replica takes the primary's place.
    pub failover: Event,
    /// Some of the hosts cannot reach the others.
    pub partition: Event,
    /// A wall clock is set.
    pub clock_step: Event,
    /// All hosts of the deployment lose power.
    pub power_loss: Event,
}

/// What a server says about itself. `None` is what it did not say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Server {
    /// `Redis` or `Valkey`.
    pub product: &'static str,
    /// Its own.
    pub version: Option<String>,
    /// Whether it takes writes of its own.
    pub is_primary: Option<bool>,
    /// Whether it writes an append-only file.
    pub aof: Option<bool>,
    /// When that is flushed to disk: `always`, `everysec` or `no`.
    pub fsync: Option<String>,
    /// Whether it writes snapshots by itself.
    pub rdb: Option<bool>,
    /// Its `maxmemory-policy`.
    pub eviction_policy: Option<String>,
    /// Bytes; 0 for no limit.
    pub max_memory: Option<u64>,
    /// How its clock compares with this host's.
    pub skew: Option<Skew>,
}

/// The difference of two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// How far the server's clock is ahead of ours, in µs; negative when it is behind.
    pub ahead_micros: i64,
    /// Half of the round trip in which that was measured: the true value is within this of it.
    pub error_micros: u64,
}

impl Skew {
    /// What the server answered to a question that was under way from `sent` to `received`, all in µs since 1970.
    pub const fn between(sent: u64, server: u64, received: u64) -> Self {
        let half = received.saturating_sub(sent) / 2;
        Self {
            ahead_micros: server.wrapping_sub(sent.saturating_add(half)).cast_signed(),
            error_micros: half,
        }
    }

    /// How far apart the clocks are at least, in µs.
    pub const fn at_least(self) -> u64 {
        self.ahead_micros.unsigned_abs().saturating_sub(self.error_micros)
    }
}

/// What is seen of a lock file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LockFile {
    /// Absolute.
    pub path: String,
    /// Whether it is there already.
    pub exists: bool,
    /// For example `ext4` or `NFS`; `None` where it has no name that we know.
    pub filesystem: Option<&'static str>,
    /// Whether other hosts, or another program, can see the file too.
    pub is_network: bool,
    /// Whether a commit survives power loss.
    pub is_durable: bool,
    /// SQLite's journal mode, in lower case: `wal` or `delete`.
    pub journal: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skew_is_as_exact_as_the_round_trip_was_short() {
        assert_eq!(Skew::between(1000, 1500, 2000), Skew { ahead_micros: 0, error_micros: 500 });
        let ahead = Skew::between(1000, 5500, 2000);
        assert_eq!((ahead.ahead_micros, ahead.at_least()), (4000, 3500));
        let behind = Skew::between(10_000, 1500, 12_000);
        assert_eq!((behind.ahead_micros, behind.at_least()), (-9500, 8500));
        // Our own clock was set back meanwhile.
        assert_eq!(Skew::between(2000, 1000, 1000).error_micros, 0);
    }
}
