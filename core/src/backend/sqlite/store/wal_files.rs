//! The lock file's -wal and -shm: whether the ones that our connection has open still have their names. Somebody may delete
//! them by hand; whoever opens the database then gets new ones, and sees nothing of what the old ones hold.

use std::path::Path;
use std::time::Duration;

use crate::backend::sqlite::fs::paths::{self, FileId};
use crate::runtime::clock::BootInstant;

/// Seldom enough to cost nothing beside a transaction. The database itself is looked at before each one.
const EVERY: Duration = Duration::from_millis(10);

/// What was seen at the first look, which is when our connection has just opened them.
#[derive(Debug, Default)]
pub struct SideFiles {
    opened: Option<[Option<FileId>; 2]>,
    due: Option<BootInstant>,
}

impl SideFiles {
    /// Whether they are the ones that were there at first. To be asked inside of a transaction, which holds them open.
    pub fn are_current(&mut self, database: &Path, now: BootInstant) -> bool {
        if self.due.is_some_and(|due| now < due) {
            return true;
        }
        let seen = ["-wal", "-shm"].map(|suffix| paths::id(&paths::beside(database, suffix)));
        let current = *self.opened.get_or_insert(seen) == seen;
        // Once they are not, everybody who still comes here is to find that out.
        self.due = current.then_some(now + EVERY);
        current
    }
}
