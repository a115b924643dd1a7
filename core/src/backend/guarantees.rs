//! What a deployment really guarantees, as text and as fields.

use std::borrow::Cow;

/// What can be seen of a deployment now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Guarantee {
    /// One paragraph for people.
    pub summary: String,
    /// Replicas the deployment is declared to have; `None` for backends without any.
    pub replicas_declared: Option<u32>,
    /// Replicas that are connected right now.
    pub replicas_connected: Option<u32>,
    /// What to look at, each with what to do.
    pub warnings: Vec<String>,
    /// Whether at most one holder can write, through what may happen.
    pub survives: FailureModes,
    /// The server, for backends that have one.
    pub server: Option<ServerInfo>,
    /// The lock file, for backends that have one.
    pub file: Option<FileInfo>,
}

/// Whether mutual exclusion survives something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    /// It cannot happen here.
    #[default]
    NotApplicable,
    /// No other owner gets the lock while its holder may still work.
    Yes,
    /// Another owner may get the lock while its holder still works. Data stays correct if a guard checks the
    /// token, because tokens keep rising.
    WithGuard,
}

/// The reason for [`FailureModes::process_crash`] where a lease can only expire.
pub const PROCESS_CRASH: &str =
    "the lease of a dead process expires, and no other owner gets the lock before";
/// The reason for [`FailureModes::pause`].
pub const PAUSE: &str = "a holder that is paused for longer than its lease does not know that it has expired: only a \
                         guard refuses what it writes then";

/// A verdict and its reason.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    pub verdict: Verdict,
    /// A one-sentence explanation.
    pub reason: Cow<'static, str>,
}

impl Judgement {
    /// [`Verdict::Yes`], for this reason.
    pub fn yes(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { verdict: Verdict::Yes, reason: reason.into() }
    }

    /// [`Verdict::WithGuard`], for this reason.
    pub fn with_guard(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { verdict: Verdict::WithGuard, reason: reason.into() }
    }

    /// [`Verdict::NotApplicable`], for this reason.
    pub fn not_applicable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { verdict: Verdict::NotApplicable, reason: reason.into() }
    }
}

/// What may happen to a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailureModes {
    /// The holder's process dies.
    pub process_crash: Judgement,
    /// The holder's process is paused for longer than its lease lasts, and resumes.
    pub pause: Judgement,
    /// The primary's process dies, and comes back.
    pub primary_crash: Judgement,
    /// A replica takes the primary's place.
    pub failover: Judgement,
    /// Some of the hosts cannot reach the others.
    pub partition: Judgement,
    /// A wall clock is set.
    pub clock_step: Judgement,
    /// All hosts of the deployment lose power.
    pub power_loss: Judgement,
}

/// What a server reports about itself. `None`: it did not.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServerInfo {
    /// `Redis` or `Valkey`.
    pub product: &'static str,
    /// As the server reports it.
    pub version: Option<String>,
    /// Whether it is a primary.
    pub is_primary: Option<bool>,
    /// Whether it writes an append-only file.
    pub aof: Option<bool>,
    /// When that file is flushed to disk: `always`, `everysec` or `no`.
    pub fsync: Option<String>,
    /// Whether it writes snapshots on its own.
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
    /// What the server answered to a question that was under way from `sent` to `received`, all in µs since
    /// 1970.
    pub const fn between(sent: u64, server: u64, received: u64) -> Self {
        let half = received.saturating_sub(sent) / 2;
        Self {
            ahead_micros: server.wrapping_sub(sent.saturating_add(half)).cast_signed(),
            error_micros: half,
        }
    }

    /// How this server's clock compares with that of another one, both measured by the same clock.
    #[must_use]
    pub const fn relative_to(self, other: Self) -> Self {
        Self {
            ahead_micros: self.ahead_micros.wrapping_sub(other.ahead_micros),
            error_micros: self.error_micros.saturating_add(other.error_micros),
        }
    }

    /// How far apart the clocks are at most, in µs.
    pub const fn at_most(self) -> u64 {
        self.ahead_micros.unsigned_abs().saturating_add(self.error_micros)
    }

    /// How far apart the clocks are at least, in µs.
    pub const fn at_least(self) -> u64 {
        self.ahead_micros.unsigned_abs().saturating_sub(self.error_micros)
    }
}

/// What can be seen of a lock file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileInfo {
    /// An absolute path.
    pub path: String,
    /// Whether it exists already.
    pub exists: bool,
    /// For example `ext4` or `NFS`; `None` if its name is unknown.
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
        let between = behind.relative_to(ahead);
        assert_eq!((between.ahead_micros, between.error_micros), (-13_500, 1500));
        assert_eq!((between.at_least(), between.at_most()), (12_000, 15_000));
        // Our own clock was set back meanwhile.
        assert_eq!(Skew::between(2000, 1000, 1000).error_micros, 0);
    }
}
