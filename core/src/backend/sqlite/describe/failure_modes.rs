//! Which failures local locks survive.

use super::facts::FileFacts;
use crate::backend::guarantees::{FailureModes, Judgement, PAUSE, PROCESS_CRASH};

/// For locks in a file with these facts.
pub fn failure_modes(facts: &FileFacts) -> FailureModes {
    let is_network = facts.kind.is_network();
    let no_server = || Judgement::not_applicable("there is no server, only a file");
    FailureModes {
        process_crash: Judgement::yes(if is_network {
            PROCESS_CRASH
        } else {
            "another owner can get the lock as soon as the process is dead"
        }),
        pause: Judgement::with_guard(PAUSE),
        primary_crash: no_server(),
        failover: no_server(),
        partition: if is_network {
            Judgement::with_guard(
                "the file system decides what a host that is cut off from it still holds, and when other \
                 hosts see its file locks end",
            )
        } else {
            Judgement::not_applicable("all holders are processes of this host")
        },
        clock_step: if facts.has_boot_identity && !is_network {
            Judgement::yes("leases end by the boot clock, which cannot be set")
        } else {
            Judgement::with_guard(
                "leases end by the wall clock: setting it ends them early or late by as much",
            )
        },
        power_loss: match (is_network, facts.is_durable) {
            (false, true) => Judgement::yes("all holders die with the host, and the file keeps every commit"),
            (false, false) => Judgement::yes(
                "all holders die with the host; the file may lose its newest commits, but tokens keep rising \
                 as long as the wall clock is not behind the last one",
            ),
            (true, _) => Judgement::with_guard(
                "a file server that lost power may come back without the newest leases, while their holders \
                 continue",
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::guarantees::Verdict::{NotApplicable, WithGuard, Yes};
    use crate::backend::sqlite::fs::kind::Kind;

    #[test]
    fn locks_on_a_network_file_system_survive_less() {
        let verdicts = |kind| {
            let modes = failure_modes(&FileFacts::expected(kind, false, true));
            [
                modes.process_crash,
                modes.pause,
                modes.failover,
                modes.partition,
                modes.clock_step,
                modes.power_loss,
            ]
            .map(|judgement| judgement.verdict)
        };
        assert_eq!(verdicts(Kind::Local), [Yes, WithGuard, NotApplicable, NotApplicable, Yes, Yes]);
        assert_eq!(
            verdicts(Kind::Network("NFS")),
            [Yes, WithGuard, NotApplicable, WithGuard, WithGuard, WithGuard]
        );
    }

    #[test]
    fn without_a_boot_clock_a_step_of_the_wall_clock_matters() {
        let facts = FileFacts::expected(Kind::Local, true, false);
        assert_eq!(failure_modes(&facts).clock_step.verdict, WithGuard);
    }
}
