//! The -wal and -shm files of a lock file: whether they still are the ones that our connection has open. A
//! user may delete them by hand; a process that opens the database afterwards gets new ones and sees nothing
//! of what the old ones hold. Or a program may cut the -shm, for example by copying another one over it.
//! SQLite has it mapped, so the next access beyond its end would kill this process with SIGBUS.

use std::path::Path;
use std::time::Duration;

use crate::backend::sqlite::fs::paths::{self, FileId};
use crate::runtime::clock::BootInstant;

/// Infrequent enough to be negligible next to a transaction. The database file itself is checked before each
/// one.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// Which files the names lead to; `None` if to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    wal: Option<FileId>,
    shm: Option<FileId>,
    shm_length: u64,
}

impl Found {
    fn at(database: &Path) -> Self {
        let metadata = |suffix| std::fs::metadata(paths::sibling(database, suffix)).ok();
        let (wal, shm) = (metadata("-wal"), metadata("-shm"));
        Self {
            wal: wal.as_ref().map(FileId::of),
            shm: shm.as_ref().map(FileId::of),
            shm_length: shm.map_or(0, |shm| shm.len()),
        }
    }
}

/// The files that the first check found, which our connection had just opened.
#[derive(Debug, Default)]
pub struct WalFiles {
    opened: Option<Found>,
    next_check: Option<BootInstant>,
}

impl WalFiles {
    /// Whether they are the ones of the first check. To be called inside a transaction, which has opened
    /// them.
    pub fn are_current(&mut self, database: &Path, now: BootInstant) -> bool {
        if self.opened.is_none() {
            self.opened = Some(Found::at(database));
        }
        self.may_be_used(database, now)
    }

    /// The same before a transaction, which reads what is mapped. `true` if there was no first check yet.
    pub fn may_be_used(&mut self, database: &Path, now: BootInstant) -> bool {
        if self.next_check.is_some_and(|next| now < next) {
            return true;
        }
        let current = self.check(database);
        if current && self.opened.is_some() {
            self.next_check = Some(now + CHECK_INTERVAL);
        }
        current
    }

    /// The same, whenever the last check was.
    pub fn check(&mut self, database: &Path) -> bool {
        let Some(opened) = &mut self.opened else { return true };
        let found = Found::at(database);
        let is_same = (found.wal, found.shm) == (opened.wal, opened.shm);
        // It only ever grows while a process has it open.
        let is_whole = found.shm_length >= opened.shm_length;
        if is_same && is_whole {
            opened.shm_length = found.shm_length;
        } else {
            // Every later transaction on this connection must notice.
            self.next_check = None;
        }
        is_same && is_whole
    }
}
