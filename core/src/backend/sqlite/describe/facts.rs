//! What can be seen of a lock file.

use crate::backend::sqlite::fs::kind::Kind;
use crate::backend::sqlite::store::transaction::Tx;

/// What the guarantees depend on.
#[derive(Debug, Clone)]
pub struct FileFacts {
    /// Whether the file exists.
    pub exists: bool,
    /// SQLite's journal mode.
    pub journal: String,
    /// Whether a commit survives a power loss.
    pub is_durable: bool,
    /// The file system the file is on.
    pub kind: Kind,
    /// Whether leases can end by the boot clock.
    pub has_boot_identity: bool,
}

impl FileFacts {
    /// The facts of a file that exists.
    pub fn read(tx: &Tx<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            exists: true,
            journal: tx.pragma("journal_mode")?,
            // 2 is FULL: https://sqlite.org/pragma.html#pragma_synchronous
            is_durable: tx.pragma("synchronous")? == "2",
            kind: tx.context.kind,
            has_boot_identity: tx.now.identity.is_some(),
        })
    }

    /// The facts of a file that the first lock will create.
    pub fn expected(kind: Kind, is_durable: bool, has_boot_identity: bool) -> Self {
        let (journal, is_durable) = if kind.is_network() { ("delete", true) } else { ("wal", is_durable) };
        Self { exists: false, journal: journal.to_owned(), is_durable, kind, has_boot_identity }
    }
}
