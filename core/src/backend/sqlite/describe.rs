//! What a lock file guarantees, in words.

use std::path::Path;

use super::fs::kind::{self, Kind};
use super::store::rows::Tx;
use crate::backend::guarantees::Guarantee;
use crate::backend::guarantees::{FailureModes, FileInfo, Judgement};

/// What is seen of a lock file.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Whether it is there.
    exists: bool,
    journal: String,
    /// Whether a commit survives power loss.
    is_durable: bool,
    kind: Kind,
    has_boot_identity: bool,
}

impl Facts {
    /// Reads them.
    pub fn read(tx: &Tx<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            exists: true,
            journal: tx.pragma("journal_mode")?,
            // 2 is FULL: https://sqlite.org/pragma.html#pragma_synchronous
            is_durable: tx.pragma("synchronous")? == "2",
            kind: tx.kind(),
            has_boot_identity: tx.now.identity.is_some(),
        })
    }

    /// What will be, once the first lock makes the file.
    pub fn expected(kind: Kind, is_durable: bool, has_boot_identity: bool) -> Self {
        let (journal, is_durable) = if kind.is_network() { ("delete", true) } else { ("wal", is_durable) };
        Self { exists: false, journal: journal.to_owned(), is_durable, kind, has_boot_identity }
    }
}

/// What to tell the user of the lock file of this path.
pub fn guarantee(path: &Path, facts: &Facts) -> Guarantee {
    let filesystem = match facts.kind {
        Kind::Network(name) => Some(name),
        Kind::Local => path.parent().and_then(kind::name),
    };
    Guarantee {
        summary: summary(path, facts),
        warnings: warnings(facts, filesystem),
        survives: survives(facts),
        file: Some(FileInfo {
            path: path.display().to_string(),
            exists: facts.exists,
            filesystem,
            is_network: facts.kind.is_network(),
            is_durable: facts.is_durable,
            journal: facts.journal.to_lowercase(),
        }),
        ..Guarantee::default()
    }
}

fn summary(path: &Path, facts: &Facts) -> String {
    if !facts.exists {
        return format!(
            "Local locks in {}, which does not exist yet: the first lock makes it.",
            path.display()
        );
    }
    let clock = if facts.has_boot_identity {
        "Leases end by the boot clock, so setting the wall clock ends none early."
    } else {
        "Leases end by the wall clock: setting it ends them early or late."
    };
    let deaths = match facts.kind {
        Kind::Local => "A lease of a process that died, or of an earlier boot, is free at once.",
        Kind::Network(_) => "A lease of a process that died runs out by itself.",
    };
    let durability = if facts.is_durable {
        "A commit survives power loss."
    } else {
        "A commit survives the death of any process; a power loss may cost the newest, whose holders die with it."
    };
    format!(
        "Local locks in {} (SQLite, journal {}): one holder per resource among the processes that use this file. \
         {durability} {deaths} {clock} Fencing tokens rise for each resource, even if the file is deleted, as long as \
         the wall clock is not behind the last token.",
        path.display(),
        facts.journal.to_uppercase(),
    )
}

fn warnings(facts: &Facts, filesystem: Option<&str>) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Kind::Network(name) = facts.kind {
        warnings.push(format!(
            "The lock file is on a network file system ({name}): mutual exclusion is as good as its file locks. \
             Every host must set allowNetworkFilesystem for this file, their clocks must agree, and a guard \
             should check the fencing token."
        ));
    }
    if filesystem == Some(OVERLAY) {
        warnings.push(
            "The lock file is in the own layer of a container (overlay file system): other containers do not see it, \
             and it goes with this one. Processes of this container are safe; for others put it on a volume that all of \
             them mount."
                .to_owned(),
        );
    }
    warnings
}

/// As [`kind::name`] calls what a container writes to when nothing is mounted.
const OVERLAY: &str = "overlay";

fn survives(facts: &Facts) -> FailureModes {
    let network = facts.kind.is_network();
    let no_server = || Judgement::not_applicable("there is no server, only a file");
    FailureModes {
        process_crash: Judgement::yes(if network {
            "the lease of a process that died runs out; nobody gets the lock before"
        } else {
            "the next one takes over as soon as the process is dead"
        }),
        pause: Judgement::with_guard(
            "a holder that stands still for longer than its lease does not know that it is over: what it writes then is \
             refused by a guard only",
        ),
        primary_crash: no_server(),
        failover: no_server(),
        partition: if network {
            Judgement::with_guard(
                "what a host that is cut off from the file system still holds, and when others see its file locks end, is \
                 up to the file system",
            )
        } else {
            Judgement::not_applicable("all holders are processes of this host")
        },
        clock_step: if facts.has_boot_identity && !network {
            Judgement::yes("leases end by the boot clock, which nobody can set")
        } else {
            Judgement::with_guard(
                "leases end by the wall clock: setting it ends them early or late by as much",
            )
        },
        power_loss: match (network, facts.is_durable) {
            (false, true) => Judgement::yes("all holders die with the host, and the file keeps every commit"),
            (false, false) => Judgement::yes(
                "all holders die with the host; the file may lose its newest commits, and tokens still rise as long as the \
                 wall clock is not behind the last one",
            ),
            (true, _) => Judgement::with_guard(
                "a file server that lost power may come back without the newest leases, while their holders go on",
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::guarantees::Verdict::{NotApplicable, WithGuard, Yes};

    #[test]
    fn a_network_file_system_leaves_less() {
        let of = |kind| guarantee(Path::new("/d/locks.sqlite"), &Facts::expected(kind, false, true));
        let (local, network) = (of(Kind::Local).survives, of(Kind::Network("NFS")).survives);
        let verdicts = |of: &FailureModes| {
            [&of.process_crash, &of.pause, &of.failover, &of.partition, &of.clock_step, &of.power_loss]
                .map(|event| event.verdict)
        };
        assert_eq!(verdicts(&local), [Yes, WithGuard, NotApplicable, NotApplicable, Yes, Yes]);
        assert_eq!(verdicts(&network), [Yes, WithGuard, NotApplicable, WithGuard, WithGuard, WithGuard]);
        let file = of(Kind::Network("NFS")).file.unwrap();
        assert_eq!((file.filesystem, file.is_network, file.is_durable), (Some("NFS"), true, true));
        assert_eq!((file.exists, file.journal.as_str()), (false, "delete"));
    }

    #[test]
    fn without_a_boot_clock_a_step_of_the_wall_clock_matters() {
        let facts = Facts::expected(Kind::Local, true, false);
        assert_eq!(survives(&facts).clock_step.verdict, WithGuard);
    }

    #[test]
    fn warns_of_the_layer_of_a_container() {
        let facts = Facts::expected(Kind::Local, true, true);
        assert!(warnings(&facts, Some(OVERLAY))[0].contains("volume"));
        assert_eq!(warnings(&facts, Some("ext4")), Vec::<String>::new());
        assert_eq!(warnings(&facts, None), Vec::<String>::new());
    }
}
