//! The transactions of a store: how one begins, and what must still hold when it commits.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::access::Access;
use super::connection::StoreConnection;
use super::transaction::{Tx, TxContext};
use super::wal_files::CHECK_INTERVAL;
use super::{Done, Store};
use crate::backend::sqlite::errors;
use crate::backend::sqlite::holders::holder::{Holder, Now};
use crate::backend::sqlite::holders::liveness::Liveness;
use crate::backend::sqlite::open::header::Content;
use crate::backend::sqlite::retry::RetryBudget;
use crate::error::{Error, Result};
use crate::runtime::clock::{BootInstant, Clock};

/// How long a commit at least waits for readers, with a rollback journal. No new ones come meanwhile: to roll
/// back earlier would let them in again.
const COMMIT_PATIENCE: Duration = Duration::from_millis(100);

impl Store {
    /// The error for what SQLite refused; remembers if that was because of the connection.
    fn failure(&self, connection: &StoreConnection, error: &rusqlite::Error) -> Error {
        if errors::is_of_connection(error) {
            self.is_broken.store(true, Ordering::Relaxed);
        }
        errors::sql_on(&self.path, error, &connection.connection)
    }

    /// Runs `work` in one transaction; calls it at most once, and only when it has the lock. An error rolls
    /// everything back. After [`Done::Replaced`] it may have run, but nothing of it counts.
    pub fn transact(
        &self,
        access: Access,
        clock: &Clock,
        budget: &mut RetryBudget,
        work: &mut dyn FnMut(&mut Tx<'_>) -> rusqlite::Result<()>,
    ) -> Result<Done> {
        loop {
            // With a rollback journal, beginning would play back a journal of that name, which may be a
            // successor's.
            if self.kind.is_network() && !self.is_current()? {
                return Ok(Done::Replaced);
            }
            let mut connection = self.lock(budget)?;
            let sent = clock.boot();
            if !self.kind.is_network() {
                if !connection.wal_files.may_be_used(&self.path, sent) {
                    return Ok(Done::Replaced);
                }
                // With a rollback journal, a reader keeps other processes from committing.
                connection.snapshot.count(sent);
            }
            match connection.begin(access, self.full.load(Ordering::Relaxed)) {
                Ok(()) => return self.run(&mut connection, clock, sent, budget, work),
                Err(error) if errors::is_busy(&error) => {}
                Err(_) if !self.is_current()? => return Ok(Done::Replaced),
                Err(error) => {
                    let failure = self.failure(&connection, &error);
                    return if self.is_broken() { Ok(Done::Unusable(failure)) } else { Err(failure) };
                }
            }
            drop(connection);
            if !self.is_current()? {
                return Ok(Done::Replaced);
            }
            if !budget.pause() {
                return Err(errors::busy_timeout(&self.path, budget.elapsed()));
            }
        }
    }

    /// The rest of a transaction that has begun.
    fn run(
        &self,
        connection: &mut StoreConnection,
        clock: &Clock,
        sent: BootInstant,
        budget: &mut RetryBudget,
        work: &mut dyn FnMut(&mut Tx<'_>) -> rusqlite::Result<()>,
    ) -> Result<Done> {
        // Checked only now: this thread may have waited for the lock while the file was replaced. A
        // transaction that begins after another one noticed that must notice it too.
        let is_whole = self.is_current().map(|is_current| {
            is_current && (self.kind.is_network() || connection.wal_files.are_current(&self.path, sent))
        });
        if !matches!(is_whole, Ok(true)) {
            connection.roll_back();
            return is_whole.map(|_| Done::Replaced);
        }
        if let Err(error) = self.check_schema(connection) {
            connection.roll_back();
            return Err(error);
        }
        let now = Now::read(clock, self.kind.is_network());
        let mut tx = Tx::new(&connection.connection, self.context(&now), sent, now);
        tx.wants_granted_last = connection.pruner.needs_start(sent);
        let outcome = work(&mut tx).and_then(|()| match connection.pruner.step(&mut tx) {
            // Nothing that was asked for depends on pruning, so a row that it cannot read fails no call.
            Err(error) if connection.connection.is_autocommit() => Err(error),
            _ => Ok(()),
        });
        let (granted, released, ended) = (tx.granted, tx.released, tx.ended);
        if tx.entered_queue {
            self.may_be_queued.store(true, Ordering::Relaxed);
        }
        drop(tx);
        if let Err(error) = outcome {
            let failure = self.failure(connection, &error);
            connection.roll_back();
            return Err(failure);
        }
        // A commit may copy the old -wal into a database that others use with a new one.
        if self.was_replaced_since(connection, sent, clock) {
            connection.roll_back();
            return Ok(Done::Replaced);
        }
        if connection.snapshot.keep(&connection.connection) {
            self.snapshot_held.notify_one();
        }
        self.commit(connection, budget)?;
        if self.was_replaced_since(connection, sent, clock) {
            return Ok(Done::Replaced);
        }
        self.ended.fetch_add(u64::from(ended), Ordering::Relaxed);
        self.state.unreleased.fetch_add(granted, Ordering::Relaxed);
        let fewer = |unreleased: usize| Some(unreleased.saturating_sub(released));
        let _ = self.state.unreleased.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        Ok(Done::Committed { ended })
    }

    /// Whether the files have gone during a transaction that took unusually long: this process may have been
    /// stopped, and others may use new files by now. If the files cannot be looked at, that is not known.
    fn was_replaced_since(&self, connection: &mut StoreConnection, sent: BootInstant, clock: &Clock) -> bool {
        sent.until(clock.boot()) >= CHECK_INTERVAL
            && (matches!(self.is_current(), Ok(false))
                || !self.kind.is_network() && !connection.wal_files.check(&self.path))
    }

    /// Whether this version of fencelock still knows the file's schema.
    fn check_schema(&self, connection: &mut StoreConnection) -> Result<()> {
        let version =
            connection.changed_schema_version().map_err(|error| self.failure(connection, &error))?;
        let Some(version) = version else { return Ok(()) };
        let checked = Content::LockFile { version, is_wal: !self.kind.is_network() }.check(&self.path);
        if checked.is_err() {
            // Opening it again finds out what it is now.
            self.is_broken.store(true, Ordering::Relaxed);
        }
        checked.map(|_| ())
    }

    fn commit(&self, connection: &mut StoreConnection, budget: &mut RetryBudget) -> Result<()> {
        let mut patience = RetryBudget::new(COMMIT_PATIENCE);
        loop {
            let Err(error) = connection.commit() else { return Ok(()) };
            // Only with a rollback journal: another process is reading. The transaction stays open meanwhile.
            if errors::is_busy(&error) && !connection.connection.is_autocommit() {
                if budget.pause() || patience.pause() {
                    continue;
                }
                connection.roll_back();
                return Err(errors::busy_timeout(&self.path, budget.elapsed()));
            }
            let failure = self.failure(connection, &error);
            connection.roll_back();
            // After an I/O error it is not certain that nothing was committed.
            return Err(match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::SystemIoFailure) | None => {
                    errors::unknown(&self.path, failure.cause().unwrap_or_default())
                }
                Some(_) => failure,
            });
        }
    }

    fn context(&self, now: &Now) -> TxContext<'_> {
        let holder = Holder { identity: now.identity, mark: self.liveness.as_ref().map(Liveness::mark) };
        TxContext {
            path: &self.path,
            kind: self.kind,
            process: self.process,
            holder: Some(holder).filter(|holder| holder.identity.is_some() || holder.mark.is_some()),
        }
    }
}
