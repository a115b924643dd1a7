//! What a lock file guarantees.

mod access;
mod facts;
mod failure_modes;

use std::path::Path;

pub use self::access::AccessFacts;
pub use self::facts::FileFacts;
use self::failure_modes::failure_modes;
use super::fs::kind::{self, Kind};
use crate::backend::guarantees::{FileInfo, Guarantee};

/// How [`kind::name`] calls the file system that a container writes to when nothing is mounted.
const OVERLAY: &str = "overlay";

/// The guarantees of the lock file at this path.
pub fn guarantee(path: &Path, facts: &FileFacts, access: &AccessFacts) -> Guarantee {
    let filesystem = match facts.kind {
        Kind::Network(name) => Some(name),
        Kind::Local => path.parent().and_then(kind::name),
    };
    Guarantee {
        summary: summary(path, facts),
        warnings: warnings(facts, filesystem).into_iter().chain(access.warnings()).collect(),
        survives: failure_modes(facts),
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

fn summary(path: &Path, facts: &FileFacts) -> String {
    if !facts.exists {
        return format!(
            "Local locks in {}, which does not exist yet: the first lock creates it.",
            path.display()
        );
    }
    let clock = if facts.has_boot_identity {
        "Leases end by the boot clock, so setting the wall clock does not end them early."
    } else {
        "Leases end by the wall clock: setting it ends them early or late."
    };
    let deaths = match facts.kind {
        Kind::Local => "A lease of a process that died, or of an earlier boot, is free at once.",
        Kind::Network(_) => "A lease of a process that died has to expire.",
    };
    let durability = if facts.is_durable {
        "A commit survives power loss."
    } else {
        "A commit survives the death of any process; a power loss may undo the newest commits, whose holders \
         die with it."
    };
    format!(
        "Local locks in {} (SQLite, journal {}): one holder per resource among the processes that use this \
         file. {durability} {deaths} {clock} Fencing tokens rise for each resource, even if the file is \
         deleted, as long as the wall clock is not behind the last token.",
        path.display(),
        facts.journal.to_uppercase(),
    )
}

fn warnings(facts: &FileFacts, filesystem: Option<&str>) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Kind::Network(name) = facts.kind {
        warnings.push(format!(
            "The lock file is on a network file system ({name}): mutual exclusion is as good as its file \
             locks. Every host must set allowNetworkFilesystem for this file, their clocks must agree, and a \
             guard should check the fencing token."
        ));
    }
    if filesystem == Some(OVERLAY) {
        warnings.push(
            "The lock file is in the writable layer of a container (overlay file system): other containers \
             do not see it, and it is removed with the container. Processes of this container are safe; for \
             others put the file on a volume that all of them mount."
                .to_owned(),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_on_a_network_file_system_is_durable_and_has_a_rollback_journal() {
        let facts = FileFacts::expected(Kind::Network("NFS"), false, true);
        let file = guarantee(Path::new("/d/locks.sqlite"), &facts, &AccessFacts::default()).file.unwrap();
        assert_eq!((file.filesystem, file.is_network, file.is_durable), (Some("NFS"), true, true));
        assert_eq!((file.exists, file.journal.as_str()), (false, "delete"));
    }

    #[test]
    fn warns_of_the_writable_layer_of_a_container() {
        let facts = FileFacts::expected(Kind::Local, true, true);
        assert!(warnings(&facts, Some(OVERLAY))[0].contains("volume"));
        assert_eq!(warnings(&facts, Some("ext4")), Vec::<String>::new());
        assert_eq!(warnings(&facts, None), Vec::<String>::new());
    }
}
