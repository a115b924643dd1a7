//! Which failures strong locks survive on a deployment.

use crate::backend::guarantees::{FailureModes, Judgement, PAUSE, PROCESS_CRASH, ServerInfo};

/// The data that a server has after its process died, or its power failed.
enum Recovered {
    /// Every write that it replied to.
    All,
    /// Less; completes the sentence "the primary comes back …".
    Partly(&'static str),
}

fn recovered(server: &ServerInfo) -> Recovered {
    match (server.aof, server.fsync.as_deref(), server.rdb) {
        (Some(true), Some("always"), _) => Recovered::All,
        (Some(true), Some("everysec"), _) => Recovered::Partly("without the last second or two"),
        (Some(true), Some(_), _) => Recovered::Partly("without what the system had not written to disk yet"),
        (Some(true), None, _) => Recovered::Partly("without the newest writes, unless appendfsync is always"),
        (Some(false), _, Some(true)) => Recovered::Partly("as of its last snapshot"),
        (Some(false), _, Some(false)) => Recovered::Partly("empty"),
        _ => Recovered::Partly("with what its persistence kept, which cannot be seen from here"),
    }
}

/// For locks that require `acks` of the `declared` replicas; `connected` replicas are connected now.
pub(crate) fn failure_modes(server: &ServerInfo, acks: u32, declared: u32, connected: u32) -> FailureModes {
    FailureModes {
        process_crash: Judgement::yes(PROCESS_CRASH),
        pause: Judgement::with_guard(PAUSE),
        primary_crash: match recovered(server) {
            Recovered::All => Judgement::yes("a primary that comes back has every granted lease on disk"),
            Recovered::Partly(data) => Judgement::with_guard(format!(
                "a primary that comes back does so {data}: leases it has lost can be granted again"
            )),
        },
        failover: failover(acks, declared),
        partition: partition(acks, declared, connected),
        clock_step: Judgement::with_guard(
            "a step of the primary's clock (after a failover: the difference between the clocks of the new \
             and the old primary) ends leases early or late by as much; the clients' clocks do not matter",
        ),
        power_loss: match recovered(server) {
            Recovered::All => Judgement::yes(
                "every granted lease is on the primary's disk, if the disk keeps what was flushed to it",
            ),
            Recovered::Partly(data) => Judgement::with_guard(format!(
                "after a power loss of all servers the primary comes back {data}: leases it has lost can be \
                 granted again to clients whose power did not fail"
            )),
        },
    }
}

/// The same where a reply means that a quorum has the write in a log on disk.
pub(crate) fn with_durable_log(modes: FailureModes) -> FailureModes {
    FailureModes {
        primary_crash: Judgement::yes(
            "a primary that comes back reads every granted lease from the log (redis.durable)",
        ),
        failover: Judgement::yes(
            "a grant is in the log of a quorum before it counts (redis.durable), and the new primary has the log",
        ),
        partition: Judgement::yes(
            "a primary that is cut off cannot write to the log (redis.durable), so it grants nothing more",
        ),
        power_loss: Judgement::yes("every granted lease is in the log of a quorum, on disk (redis.durable)"),
        ..modes
    }
}

fn failover(acks: u32, declared: u32) -> Judgement {
    Judgement::with_guard(if declared == 0 {
        "no replica is declared, so a server that replaces this one has none of its leases".to_owned()
    } else if acks == 0 {
        "no replica is required to have a lease (acks is 0), so the new primary may have none of them"
            .to_owned()
    } else if acks < declared {
        format!(
            "{acks} of {declared} replicas have a lease: the new primary has it if it is one of them, which \
             acks: 'all' ensures"
        )
    } else {
        format!(
            "all {declared} declared replicas had a lease when it was granted, so the new primary knows it, \
             unless it has restarted since without its data; it ends the lease by its own clock"
        )
    })
}

fn partition(acks: u32, declared: u32, connected: u32) -> Judgement {
    if declared == 0 && connected == 0 {
        return Judgement::yes(
            "there is a single server: a client that cannot reach it gets no lock, and the lease of a holder \
             that is cut off ends on both sides",
        );
    }
    Judgement::with_guard(if acks == 0 {
        "a primary that is cut off keeps granting (acks is 0) next to the replica that was promoted in its \
         place: two holders for as long as that lasts"
            .to_owned()
    } else {
        format!(
            "a primary that is cut off grants nothing more unless {acks} of its replicas are cut off with \
             it; a holder on its side keeps a lease that the newly promoted primary may not know"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::guarantees::Verdict;

    fn server(aof: Option<bool>, fsync: Option<&str>, rdb: Option<bool>) -> ServerInfo {
        ServerInfo { aof, fsync: fsync.map(str::to_owned), rdb, ..ServerInfo::default() }
    }

    #[test]
    fn only_a_flush_of_every_write_recovers_all_leases() {
        let of = |aof, fsync, rdb| failure_modes(&server(aof, fsync, rdb), 1, 1, 1);
        let always = of(Some(true), Some("always"), Some(false));
        assert_eq!((always.primary_crash.verdict, always.power_loss.verdict), (Verdict::Yes, Verdict::Yes));
        for (modes, word) in [
            (of(Some(true), Some("everysec"), None), "last second"),
            (of(Some(true), Some("no"), None), "not written to disk"),
            (of(Some(true), None, None), "unless appendfsync"),
            (of(Some(false), Some("everysec"), Some(true)), "last snapshot"),
            (of(Some(false), Some("always"), Some(false)), "empty"),
            (of(None, None, None), "cannot be seen"),
            (of(Some(false), None, None), "cannot be seen"),
        ] {
            for judgement in [&modes.primary_crash, &modes.power_loss] {
                assert_eq!(judgement.verdict, Verdict::WithGuard, "{word}");
                assert!(judgement.reason.contains(word), "{word}: {judgement:?}");
            }
        }
    }

    #[test]
    fn no_number_of_acknowledgements_makes_a_failover_safe() {
        for (acks, declared, word) in
            [(0, 0, "no replica is declared"), (0, 2, "acks is 0"), (1, 2, "1 of 2"), (2, 2, "all 2")]
        {
            let judgement = failover(acks, declared);
            assert_eq!(judgement.verdict, Verdict::WithGuard);
            assert!(judgement.reason.contains(word), "{judgement:?}");
        }
    }

    #[test]
    fn a_partition_is_harmless_with_a_single_server() {
        assert_eq!(partition(0, 0, 0).verdict, Verdict::Yes);
        assert_eq!(partition(0, 0, 1).verdict, Verdict::WithGuard, "that replica may be promoted");
        assert!(partition(0, 2, 2).reason.contains("two holders"));
        assert!(partition(2, 2, 2).reason.contains("unless 2"));
    }

    #[test]
    fn a_durable_log_has_the_leases_whatever_happens_to_servers() {
        let modes = with_durable_log(failure_modes(&server(None, None, None), 0, 0, 2));
        for judgement in [&modes.failover, &modes.partition, &modes.primary_crash, &modes.power_loss] {
            assert_eq!(judgement.verdict, Verdict::Yes);
            assert!(judgement.reason.contains("redis.durable"), "{judgement:?}");
        }
        for judgement in [&modes.pause, &modes.clock_step] {
            assert_eq!(judgement.verdict, Verdict::WithGuard, "no log helps there: {judgement:?}");
        }
    }
}
