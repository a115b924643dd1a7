//! The -wal and -shm files of a lock file: whether their names still lead to the ones that our connection has
//! open. A user may delete them by hand; a process that opens the database afterwards gets new ones and sees
//! nothing of what the old ones hold.

use std::path::Path;
use std::time::Duration;

use crate::backend::sqlite::fs::paths::{self, FileId};
use crate::runtime::clock::BootInstant;

/// Infrequent enough to be negligible next to a transaction. The database file itself is checked before each
/// one.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The files that the first check found, which our connection had just opened.
#[derive(Debug, Default)]
pub struct WalFiles {
    opened: Option<[Option<FileId>; 2]>,
    next_check: Option<BootInstant>,
}

impl WalFiles {
    /// Whether they are the ones of the first check. To be called inside a transaction, which keeps them
    /// open.
    pub fn are_current(&mut self, database: &Path, now: BootInstant) -> bool {
        if self.next_check.is_some_and(|next| now < next) {
            return true;
        }
        let found = ["-wal", "-shm"].map(|suffix| paths::id(&paths::sibling(database, suffix)));
        let current = *self.opened.get_or_insert(found) == found;
        // Once they have changed, every later transaction on this connection must notice.
        self.next_check = current.then_some(now + CHECK_INTERVAL);
        current
    }
}
