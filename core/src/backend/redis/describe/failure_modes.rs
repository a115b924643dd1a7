//! Which failures strong locks survive on a deployment.

use super::asked::Asked;
use super::clocks::Clocks;
use super::persistence::{Recovered, after_crash, after_power_loss};
use crate::backend::guarantees::{FailureModes, Judgement, PAUSE, PROCESS_CRASH, ServerInfo};

/// What is added where both sides of a partition may grant, because tokens come from the clocks then.
const BOTH_GRANT: &str =
    "in a network split both sides may grant; two leases may then even have the same token";

/// For locks that require this.
pub(crate) fn failure_modes(server: &ServerInfo, asked: &Asked, clocks: &Clocks) -> FailureModes {
    FailureModes {
        process_crash: Judgement::yes(PROCESS_CRASH),
        pause: Judgement::with_guard(PAUSE),
        primary_crash: match after_crash(server, asked) {
            Recovered::All => {
                Judgement::yes("a primary that comes back has every granted lease in its append-only file")
            }
            Recovered::Partly(data) => Judgement::with_guard(format!(
                "a primary that comes back does so {data}: leases it has lost can be granted again"
            )),
        },
        failover: failover(asked),
        partition: partition(asked),
        clock_step: Judgement::with_guard(format!(
            "a step of the primary's clock (after a failover: the difference between the clocks of the new \
             and the old primary) ends leases early or late by as much; the clients' clocks do not matter{}",
            clocks.of_replicas()
        )),
        power_loss: match after_power_loss(server, asked) {
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

fn failover(&Asked { acks, declared, fsync, .. }: &Asked) -> Judgement {
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
        let (place, unless) = if fsync {
            (" on disk", "if its disk has kept what was flushed to it")
        } else {
            ("", "unless it has restarted since without its data")
        };
        format!(
            "all {declared} declared replicas had a lease{place} when it was granted, so the new primary knows \
             it, {unless}; it ends the lease by its own clock"
        )
    })
}

fn partition(&Asked { acks, declared, connected, .. }: &Asked) -> Judgement {
    if declared == 0 && connected == Some(0) {
        return Judgement::yes(
            "there is a single server: a client that cannot reach it gets no lock, and the lease of a holder \
             that is cut off ends on both sides",
        );
    }
    Judgement::with_guard(if acks == 0 {
        format!(
            "a primary that is cut off keeps granting (acks is 0) next to the replica that was promoted in \
             its place: two holders for as long as that lasts; {BOTH_GRANT}"
        )
    } else if acks < declared {
        format!(
            "a primary that is cut off with {acks} of its replicas keeps granting next to one that was \
             promoted: {BOTH_GRANT}"
        )
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

    const fn asked(acks: u32, declared: u32, connected: u32) -> Asked {
        Asked { acks, fsync: false, declared, connected: Some(connected) }
    }

    fn modes(server: &ServerInfo, asked: &Asked) -> FailureModes {
        failure_modes(server, asked, &Clocks::default())
    }

    #[test]
    fn only_a_flush_of_every_write_recovers_all_leases() {
        let of = |aof, fsync, rdb| modes(&server(aof, fsync, rdb), &asked(1, 1, 1));
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
            let judgement = failover(&asked(acks, declared, declared));
            assert_eq!(judgement.verdict, Verdict::WithGuard);
            assert!(judgement.reason.contains(word), "{judgement:?}");
        }
        let on_disk = failover(&Asked { fsync: true, ..asked(2, 2, 2) });
        assert!(on_disk.reason.contains("a lease on disk when it was granted"), "{on_disk:?}");
    }

    #[test]
    fn a_partition_is_harmless_with_a_single_server() {
        assert_eq!(partition(&asked(0, 0, 0)).verdict, Verdict::Yes);
        assert_eq!(partition(&asked(0, 0, 1)).verdict, Verdict::WithGuard, "that replica may be promoted");
        assert!(partition(&asked(0, 2, 2)).reason.contains("two holders"));
        assert!(partition(&asked(2, 2, 2)).reason.contains("unless 2"));
    }

    #[test]
    fn fewer_acknowledgements_than_replicas_allow_equal_tokens_in_a_partition() {
        for (acks, declared, equal) in
            [(0, 2, true), (1, 2, true), (2, 3, true), (2, 2, false), (1, 1, false)]
        {
            let reason = partition(&asked(acks, declared, declared)).reason;
            assert_eq!(
                reason.contains("may then even have the same token"),
                equal,
                "{acks} of {declared}: {reason}"
            );
        }
    }

    #[test]
    fn a_durable_log_has_the_leases_whatever_happens_to_servers() {
        let modes = with_durable_log(modes(&server(None, None, None), &asked(0, 0, 2)));
        for judgement in [&modes.failover, &modes.partition, &modes.primary_crash, &modes.power_loss] {
            assert_eq!(judgement.verdict, Verdict::Yes);
            assert!(judgement.reason.contains("redis.durable"), "{judgement:?}");
        }
        for judgement in [&modes.pause, &modes.clock_step] {
            assert_eq!(judgement.verdict, Verdict::WithGuard, "no log helps there: {judgement:?}");
        }
    }
}
