//! What strong locks survive on a deployment.

use crate::backend::guarantees::{FailureModes, Judgement, ServerInfo};

/// What a server has after its process died, or its power failed.
enum Memory {
    /// Every write that it answered.
    All,
    /// Some, in words.
    Some(&'static str),
}

fn memory(server: &ServerInfo) -> Memory {
    match (server.aof, server.fsync.as_deref(), server.rdb) {
        (Some(true), Some("always"), _) => Memory::All,
        (Some(true), Some("everysec"), _) => Memory::Some("without the last second or two"),
        (Some(true), Some(_), _) => Memory::Some("without what the system had not written to disk yet"),
        (Some(true), None, _) => Memory::Some("without the newest writes, unless appendfsync is always"),
        (Some(false), _, Some(true)) => Memory::Some("as of its last snapshot"),
        (Some(false), _, Some(false)) => Memory::Some("empty"),
        _ => Memory::Some("with what its persistence kept, which cannot be seen from here"),
    }
}

/// For locks that ask for `acks` of the `declared` replicas; `connected` are there now.
pub(crate) fn survives(server: &ServerInfo, acks: u32, declared: u32, connected: u32) -> FailureModes {
    FailureModes {
        process_crash: Judgement::yes(
            "the lease of a process that died runs out; nobody gets the lock before",
        ),
        pause: Judgement::with_guard(
            "a holder that stands still for longer than its lease does not know that it is over: what it writes then is \
             refused by a guard only",
        ),
        primary_crash: match memory(server) {
            Memory::All => Judgement::yes("a primary that comes back has every lease it granted on disk"),
            Memory::Some(what) => Judgement::with_guard(format!(
                "a primary that comes back does so {what}: leases it has forgotten can be granted again"
            )),
        },
        failover: failover(acks, declared),
        partition: partition(acks, declared, connected),
        clock_step: Judgement::with_guard(
            "a step of the primary's clock (after a failover: of the new one's against the old one's) ends leases early or \
             late by as much; clocks of the clients do not matter",
        ),
        power_loss: match memory(server) {
            Memory::All => {
                Judgement::yes("every granted lease is on the primary's disk, if it keeps what it flushed")
            }
            Memory::Some(what) => Judgement::with_guard(format!(
                "when all servers lose power the primary comes back {what}: leases it has forgotten can be granted again \
                 to those whose power did not fail"
            )),
        },
    }
}

fn failover(acks: u32, declared: u32) -> Judgement {
    Judgement::with_guard(if declared == 0 {
        "no replica is declared, so whatever takes the server's place has none of the leases".to_owned()
    } else if acks == 0 {
        "no replica need have a lease (acks is 0), so the new primary may have none of them".to_owned()
    } else if acks < declared {
        format!(
            "{acks} of {declared} replicas have a lease: the new primary has it if it is one of those, which acks: 'all' \
             makes sure of"
        )
    } else {
        format!(
            "all {declared} declared replicas had a lease when it was granted, so the new primary knows it unless it came \
             back since without its data, and ends it by its own clock"
        )
    })
}

fn partition(acks: u32, declared: u32, connected: u32) -> Judgement {
    if declared == 0 && connected == 0 {
        return Judgement::yes(
            "there is one server: who cannot reach it gets no lock, and the lease of a holder that is cut off ends on both \
             sides by itself",
        );
    }
    Judgement::with_guard(if acks == 0 {
        "a primary that is cut off goes on granting (acks is 0) beside the one that was promoted in its place: two holders \
         for as long as that lasts"
            .to_owned()
    } else {
        format!(
            "a primary that is cut off grants nothing more unless {acks} of its replicas are cut off with it; a holder on \
             its side keeps a lease that the primary promoted in its place may not know"
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
    fn only_a_flush_of_every_write_brings_all_leases_back() {
        let of = |aof, fsync, rdb| survives(&server(aof, fsync, rdb), 1, 1, 1);
        let always = of(Some(true), Some("always"), Some(false));
        assert_eq!((always.primary_crash.verdict, always.power_loss.verdict), (Verdict::Yes, Verdict::Yes));
        for (survives, word) in [
            (of(Some(true), Some("everysec"), None), "last second"),
            (of(Some(true), Some("no"), None), "not written to disk"),
            (of(Some(true), None, None), "unless appendfsync"),
            (of(Some(false), Some("everysec"), Some(true)), "last snapshot"),
            (of(Some(false), Some("always"), Some(false)), "empty"),
            (of(None, None, None), "cannot be seen"),
            (of(Some(false), None, None), "cannot be seen"),
        ] {
            for event in [&survives.primary_crash, &survives.power_loss] {
                assert_eq!(event.verdict, Verdict::WithGuard, "{word}");
                assert!(event.reason.contains(word), "{word}: {event:?}");
            }
        }
    }

    #[test]
    fn no_number_of_acknowledgements_makes_a_failover_safe() {
        for (acks, declared, word) in
            [(0, 0, "no replica is declared"), (0, 2, "acks is 0"), (1, 2, "1 of 2"), (2, 2, "all 2")]
        {
            let event = failover(acks, declared);
            assert_eq!(event.verdict, Verdict::WithGuard);
            assert!(event.reason.contains(word), "{event:?}");
        }
    }

    #[test]
    fn a_partition_does_no_harm_to_one_server_alone() {
        assert_eq!(partition(0, 0, 0).verdict, Verdict::Yes);
        assert_eq!(partition(0, 0, 1).verdict, Verdict::WithGuard, "that one may be promoted");
        assert!(partition(0, 2, 2).reason.contains("two holders"));
        assert!(partition(2, 2, 2).reason.contains("unless 2"));
    }
}
