//! The stages of opening an existing file. Each has a type, so that their order is fixed: nothing is written
//! before the file is known to be a lock file, and no connection opens before this process is visible to
//! other copies of fencelock.
//!
//! A stage returns `None` if the path names another file by then, or one that is not finished: the caller
//! starts again.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::header::{self, Content, HeaderProbe};
use super::{create, pragmas, wal_pair};
use crate::backend::sqlite::errors;
use crate::backend::sqlite::fs::kind::Kind;
use crate::backend::sqlite::fs::paths::{self, FileStat};
use crate::backend::sqlite::fs::regular_file::Permissions;
use crate::backend::sqlite::holders::liveness::{self, Liveness};
use crate::backend::sqlite::retry::RetryBudget;
use crate::backend::sqlite::store::Store;
use crate::error::Result;

/// The file that is to be opened.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its canonical path.
    pub path: &'a Path,
    /// What was found at that path.
    pub stat: FileStat,
    /// The file system it is on.
    pub kind: Kind,
}

/// First stage: it is a lock file. Its header was read; nothing was written.
pub struct Probed<'a> {
    candidate: Candidate<'a>,
    probe: HeaderProbe,
    is_wal: bool,
}

/// Second stage: this process has a liveness file (unless the file system is a network one), and is the only
/// copy of fencelock here that uses the file.
pub struct Alive<'a> {
    liveness: Option<Liveness>,
    probed: Probed<'a>,
}

/// Third stage: a connection to this very file, with nothing read or written yet.
pub struct Connected<'a> {
    connection: Connection,
    liveness: Option<Liveness>,
    candidate: Candidate<'a>,
    is_wal: bool,
}

impl<'a> Candidate<'a> {
    /// Goes through all stages.
    pub fn open(self, budget: &mut RetryBudget) -> Result<Option<Store>> {
        let Some(probed) = self.probe()? else { return Ok(None) };
        let Some(connected) = probed.show_liveness()?.connect(budget)? else { return Ok(None) };
        connected.configure(budget)
    }

    fn probe(self) -> Result<Option<Probed<'a>>> {
        let Self { path, stat, kind } = self;
        if !kind.is_network() {
            // Before our first descriptor of the file, because closing that would harm the other copy.
            liveness::refuse_second_copy(path)?;
        }
        let probe = match HeaderProbe::read(path, stat.id) {
            Ok(probe) => probe,
            Err(_) if !self.is_current()? => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_lock_file = matches!(probe.content, Content::LockFile { .. });
        if !is_lock_file && (create::is_in_progress(path) || !self.is_current()?) {
            return Ok(None);
        }
        let is_wal = probe.content.check(path)?;
        if let Kind::Network(name) = kind
            && is_wal
        {
            return Err(errors::unsupported(format!(
                "the lock file {} is on {name} and in WAL mode, which needs memory shared by all its users: \
                 it was created where it is on a local disk. Set `local` to another path",
                path.display()
            )));
        }
        Ok(Some(Probed { candidate: self, probe, is_wal }))
    }

    fn is_current(&self) -> Result<bool> {
        Ok(paths::stat(self.path)?.is_some_and(|now| now.id == self.stat.id))
    }
}

impl<'a> Probed<'a> {
    fn show_liveness(self) -> Result<Alive<'a>> {
        let Candidate { path, kind, .. } = self.candidate;
        let mut alive = Alive { liveness: None, probed: self };
        if !kind.is_network() {
            // Who may use the lock file must be able to see whether its other users are alive.
            alive.liveness = Some(Liveness::take_kept_or_create(path, Permissions::beside(path))?);
            // Two copies that get here at the same time see each other, and both refuse.
            liveness::refuse_second_copy(path)?;
        }
        Ok(alive)
    }
}

impl<'a> Alive<'a> {
    fn connect(self, budget: &mut RetryBudget) -> Result<Option<Connected<'a>>> {
        let Self { liveness, probed: Probed { candidate, probe, is_wal } } = self;
        let path = candidate.path;
        if is_wal {
            wal_pair::repair(path, budget)?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match Connection::open_with_flags(path, flags) {
            Ok(connection) => connection,
            Err(_) if !candidate.is_current()? => return Ok(None),
            Err(error) => return Err(errors::sql(path, &error)),
        };
        if !candidate.is_current()? {
            // This connection may be to the file that is at the path now, which may not be a lock file.
            if let Some(other) = paths::stat(path)? {
                header::keep_open(other.id, connection);
            }
            return Ok(None);
        }
        probe.close();
        Ok(Some(Connected { connection, liveness, candidate, is_wal }))
    }
}

impl Connected<'_> {
    fn configure(self, budget: &mut RetryBudget) -> Result<Option<Store>> {
        // On an error the connection closes first, then the liveness file is removed: the reverse of this
        // order.
        let Self { liveness, candidate: Candidate { path, stat, kind }, is_wal, connection } = self;
        if connection.is_readonly("main").map_err(|error| errors::sql(path, &error))? {
            return Err(errors::unavailable(format!(
                "the lock file {} is not writable for this process: give it the permission to write the file \
                 and its directory",
                path.display()
            )));
        }
        pragmas::harden(&connection).map_err(|error| errors::sql(path, &error))?;
        let pages: u32 = budget
            .retry_busy(path, || connection.pragma_query_value(None, "page_count", |row| row.get(0)))?;
        if pages == 0 {
            // The process that created the file died before it committed, and SQLite has just rolled that
            // back.
            return Ok(None);
        }
        let version = budget
            .retry_busy(path, || connection.pragma_query_value(None, "user_version", |row| row.get(0)))?;
        Content::LockFile { version, is_wal }.check(path)?;
        let mode = budget.retry_busy(path, || pragmas::configure(&connection, kind))?;
        if !kind.is_network() && mode != "wal" {
            return Err(errors::unsupported(format!(
                "the file system of the lock file {} does not support WAL mode: set `local` to a path on a \
                 local disk",
                path.display()
            )));
        }
        Ok(Some(Store::new(path.to_owned(), stat.id, kind, liveness, connection)))
    }
}
