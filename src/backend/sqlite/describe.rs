//! What a lock file guarantees, in words.

use std::path::Path;

use super::filesystem::Kind;
use super::rows::Tx;
use crate::backend::Guarantee;

/// What is seen of an open lock file.
#[derive(Debug, Clone)]
pub struct Facts {
    journal: String,
    synchronous: String,
    kind: Kind,
    has_boot_identity: bool,
}

impl Facts {
    /// Reads them.
    pub fn read(tx: &Tx<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            journal: tx.pragma("journal_mode")?,
            synchronous: tx.pragma("synchronous")?,
            kind: tx.kind(),
            has_boot_identity: tx.now.identity.is_some(),
        })
    }
}

/// What to tell the user, of an open lock file or of one that is not there yet.
pub fn guarantee(path: &Path, facts: Option<&Facts>) -> Guarantee {
    let Some(facts) = facts else {
        let summary =
            format!("Local locks in {}, which does not exist yet: the first lock makes it.", path.display());
        return Guarantee { summary, ..Guarantee::default() };
    };
    let mut warnings = Vec::new();
    let clock = if facts.has_boot_identity {
        "Leases end by the boot clock, so setting the wall clock ends none early."
    } else {
        "Leases end by the wall clock: setting it ends them early or late."
    };
    let deaths = match facts.kind {
        Kind::Local => "A lease of a process that died, or of an earlier boot, is free at once.",
        Kind::Network(name) => {
            warnings.push(format!(
                "The lock file is on a network file system ({name}): mutual exclusion is as good as its file locks. \
                 Every host must set allowNetworkFilesystem for this file, their clocks must agree, and a guard \
                 should check the fencing token."
            ));
            "A lease of a process that died runs out by itself."
        }
    };
    // 2 is FULL: https://sqlite.org/pragma.html#pragma_synchronous
    let durability = if facts.synchronous == "2" {
        "A commit survives power loss."
    } else {
        "A commit survives the death of any process; a power loss may cost the newest, whose holders die with it."
    };
    let summary = format!(
        "Local locks in {} (SQLite, journal {}): one holder per resource among the processes that use this file. \
         {durability} {deaths} {clock} Fencing tokens rise for each resource, even if the file is deleted, as long as \
         the wall clock is not behind the last token.",
        path.display(),
        facts.journal.to_uppercase(),
    );
    Guarantee { summary, warnings, ..Guarantee::default() }
}
