//! Does a node remember what it accepted? One that was restarted, or took the place of another, may not: it
//! votes again only once everything that it may have forgotten is over.

use std::time::Duration;

/// What a node says about its past.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// For how long it has been running, at least.
    pub uptime: Option<Duration>,
    /// Whether it was a replica at some time in this run, or does not say.
    pub was_replica: bool,
}

/// What `uptime_in_seconds` may be too large by: it is the difference of two times without their fractions.
const ROUNDING: Duration = Duration::from_secs(1);

impl Past {
    /// From the sections `server` and `replication` of INFO. Its persistence does not matter: what CONFIG
    /// shows now need not be what held before the restart.
    pub fn new(server: &str, replication: &str) -> Self {
        let uptime = field(server, "uptime_in_seconds").and_then(|seconds| seconds.parse().ok());
        let never = |id: &str| !id.is_empty() && id.bytes().all(|digit| digit == b'0');
        Self {
            uptime: uptime.map(|seconds| Duration::from_secs(seconds).saturating_sub(ROUNDING)),
            was_replica: !field(replication, "master_replid2").is_some_and(never),
        }
    }

    /// An earlier run, or another server in its place, answered this long ago. The uptime that it reports is
    /// the difference of two times of a wall clock, which may have been set in between.
    pub fn began_within(self, ago: Duration) -> Self {
        Self { uptime: self.uptime.map(|uptime| uptime.min(ago)), ..self }
    }

    /// For how long it must not vote, and why, if `away` is how long what it may have forgotten can matter.
    pub fn quarantine(&self, away: Duration) -> Option<(Duration, &'static str)> {
        match self.uptime {
            // It may have taken the place of a primary that had more.
            _ if self.was_replica => Some((away, "it was a replica before, or does not say")),
            Some(uptime) => Some((away.saturating_sub(uptime), "it was started a moment ago")),
            None => Some((away, "it does not say when it was started")),
        }
        .filter(|(time, _)| !time.is_zero())
    }
}

/// The value of this field of INFO.
pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY: Duration = Duration::from_secs(60);
    const NEVER: &str = "role:master\r\nmaster_replid2:0000000000000000000000000000000000000000\r\n";

    fn waits(server: &str, replication: &str) -> u64 {
        let quarantine = Past::new(server, replication).quarantine(AWAY);
        quarantine.map_or(0, |(time, _)| time.as_secs())
    }

    #[test]
    fn a_node_votes_once_what_it_may_have_forgotten_is_over() {
        assert_eq!(waits("uptime_in_seconds:60\r\n", NEVER), 1, "59 seconds and a moment may be shown as 60");
        assert_eq!(waits("uptime_in_seconds:61\r\n", NEVER), 0);
        assert_eq!(waits("uptime_in_seconds:0\r\n", NEVER), 60);
        assert_eq!(waits("", NEVER), 60, "it does not say");
        assert!(Past::default().quarantine(Duration::ZERO).is_none(), "for development");
    }

    #[test]
    fn a_node_is_not_older_than_the_last_answer_of_the_run_before() {
        let past = || Past::new("uptime_in_seconds:3600\r\n", NEVER);
        let waits =
            |ago| past().began_within(Duration::from_secs(ago)).quarantine(AWAY).map(|(time, _)| time);
        assert_eq!(waits(5), Some(Duration::from_secs(55)));
        assert_eq!(waits(60), None);
    }

    #[test]
    fn a_replica_that_was_promoted_may_have_less_than_its_primary() {
        let promoted = "role:master\r\nmaster_replid2:00000000000000000000000000000000000000a1\r\n";
        assert_eq!(waits("uptime_in_seconds:90000\r\n", promoted), 60);
        assert_eq!(waits("uptime_in_seconds:90000\r\n", "role:master\r\n"), 60, "it does not say");
    }
}
