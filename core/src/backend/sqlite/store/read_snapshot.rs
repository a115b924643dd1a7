//! Keeps the connection's read snapshot from one transaction to the next during a burst of transactions.
//!
//! In WAL mode a transaction takes and releases three file locks, six system calls in all. One of the locks
//! is for writing, the other two are for its snapshot. A transaction that begins to write in a snapshot that
//! is still the newest needs only the first. SQLite checks that it is the newest once it has the write lock,
//! and fails immediately if it is not (<https://sqlite.org/rescode.html#busy_snapshot>), so no transaction
//! sees less than it would otherwise.
//!
//! While a snapshot is held, no checkpoint gets past it and the WAL cannot restart. Therefore it is released
//! after a limited number of transactions, so that our own checkpoints do not meet it; when it was unused for
//! some milliseconds; and when another process writes, because two processes that keep snapshots could let
//! the WAL grow.

use std::time::Duration;

use rusqlite::Connection;

use crate::runtime::clock::BootInstant;

/// The longest pause between two transactions of a burst.
const MAX_PAUSE: Duration = Duration::from_millis(1);
/// How many transactions of a burst come before one that keeps its snapshot. The count restarts when another
/// process writes, so processes that write in turn hardly ever hold one.
const MIN_BURST: u32 = 256;
/// How many transactions share one snapshot, each counted together with the rows it changes: 64 that acquire
/// or release one lock; none of those that do so for many. The WAL may be longer by about as many frames
/// before it is copied into the database.
const MAX_USES: u64 = 128;

/// Reads from a table that no transaction writes: a change to the table of a running query would have to save
/// the query's position. It is never asked for a second row.
const QUERY: &str = "SELECT 1 FROM sqlite_schema";

/// A connection's read snapshot, which may be held between its transactions.
#[derive(Debug, Default)]
pub struct ReadSnapshot {
    /// The number of transactions in this burst.
    burst: u32,
    /// When the last of them began.
    last: Option<BootInstant>,
    held: Option<HeldSnapshot>,
    /// The number of rows that the connection had changed by the end of the last transaction.
    changes: u64,
    /// Whether the burst has continued since the last [`Self::release_if_idle`].
    is_fresh: bool,
    /// Whether a task will release it when it is idle.
    is_watched: bool,
}

#[derive(Debug)]
struct HeldSnapshot {
    query: RunningQuery,
    /// See [`MAX_USES`].
    uses: u64,
}

impl ReadSnapshot {
    /// A transaction is about to begin. Counts those that only read too: otherwise a burst would seem to have
    /// a pause.
    pub fn count(&mut self, now: BootInstant) {
        let continues = self.last.replace(now).is_some_and(|last| now <= last + MAX_PAUSE);
        self.burst = if continues { self.burst.saturating_add(1) } else { 1 };
    }

    /// In a transaction, right before its commit: keeps its snapshot, or releases it. Returns `true` if one
    /// is held that no task watches yet.
    pub fn keep(&mut self, connection: &Connection) -> bool {
        let changes = connection.total_changes();
        let uses = self.held.as_ref().map_or(0, |held| held.uses) + 1 + (changes - self.changes);
        self.changes = changes;
        self.is_fresh = self.burst > MIN_BURST;
        if self.is_fresh && uses < MAX_USES {
            match &mut self.held {
                Some(held) => held.uses = uses,
                None => self.held = RunningQuery::start(connection).map(|query| HeldSnapshot { query, uses }),
            }
        } else {
            // So that the checkpoint of this commit does not meet it.
            self.release(connection);
        }
        self.held.is_some() && !std::mem::replace(&mut self.is_watched, true)
    }

    /// Releases the snapshot, if one is held.
    pub fn release(&mut self, connection: &Connection) {
        if let Some(held) = self.held.take() {
            held.query.stop(connection);
        }
    }

    /// Releases it because another process writes, and holds none until another burst is as long. Returns
    /// whether one was held.
    pub fn give_up(&mut self, connection: &Connection) -> bool {
        let was_held = self.held.is_some();
        self.release(connection);
        self.burst = 0;
        was_held
    }

    /// Releases it, and with it the watching task, if the burst has ended since the last call. Returns
    /// whether it had.
    pub fn release_if_idle(&mut self, connection: &Connection) -> bool {
        let is_idle = !std::mem::take(&mut self.is_fresh);
        if is_idle {
            self.is_watched = false;
            self.release(connection);
        }
        is_idle
    }
}

/// A query that has returned a row and was not reset: as long as it runs, SQLite keeps the snapshot, even
/// across a commit. The connection's statement cache owns the statement, and this value stands for the fact
/// that it runs.
///
/// A `rusqlite::Statement` or `Rows` of our own could not be stored next to its connection: it borrows the
/// connection and is not `Send`. An `sqlite3_stmt` of our own could, but only with unsafe code. What this
/// type relies on instead, that rusqlite resets a statement only when its `Rows` are dropped and that the
/// cache keeps it as it is, is tested below. Were a statement evicted or reset, its snapshot would merely be
/// released early.
#[derive(Debug)]
struct RunningQuery(());

impl RunningQuery {
    /// In a transaction: keeps its snapshot beyond its end. `None` if that is impossible.
    fn start(connection: &Connection) -> Option<Self> {
        let mut query = connection.prepare_cached(QUERY).ok()?;
        let mut rows = query.query([]).ok()?;
        if !matches!(rows.next(), Ok(Some(_))) {
            return None;
        }
        // Dropping the rows would reset the statement. They own nothing.
        std::mem::forget(rows);
        Some(Self(()))
    }

    /// Resets the statement. Dropped without it, it runs until its connection closes.
    fn stop(self, connection: &Connection) {
        let Self(()) = self;
        if let Ok(mut query) = connection.prepare_cached(QUERY) {
            drop(query.query([]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE leases (resource)").unwrap();
        connection
    }

    #[test]
    fn a_query_keeps_running_across_commits_until_it_is_stopped() {
        let connection = connection();
        for _ in 0..2 {
            connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            let query = RunningQuery::start(&connection).unwrap();
            connection.execute_batch("INSERT INTO leases VALUES (1); COMMIT").unwrap();
            connection.execute_batch("BEGIN IMMEDIATE; INSERT INTO leases VALUES (2); COMMIT").unwrap();
            assert!(connection.is_busy(), "a statement was not reset");
            query.stop(&connection);
            assert!(!connection.is_busy());
        }
        // Closing succeeds only if the connection owns every statement.
        RunningQuery::start(&connection).unwrap();
        connection.close().unwrap();
    }

    #[test]
    fn is_kept_in_a_long_burst_without_other_writers() {
        let connection = connection();
        let (mut snapshot, mut now) = (ReadSnapshot::default(), BootInstant::from_micros(1));
        let mut transactions_until_held = |snapshot: &mut ReadSnapshot, pause| {
            (1..1000).find(|_| {
                now = now + pause;
                snapshot.count(now);
                snapshot.keep(&connection);
                snapshot.held.is_some()
            })
        };
        assert_eq!(transactions_until_held(&mut snapshot, MAX_PAUSE), Some(MIN_BURST + 1));
        assert!(snapshot.give_up(&connection));
        assert_eq!(transactions_until_held(&mut snapshot, MAX_PAUSE), Some(MIN_BURST + 1));
        snapshot.release(&connection);
        assert_eq!(transactions_until_held(&mut snapshot, MAX_PAUSE), Some(1));
        snapshot.release(&connection);
        assert_eq!(transactions_until_held(&mut snapshot, MAX_PAUSE + Duration::from_micros(1)), None);
    }

    #[test]
    fn is_shared_by_a_limited_number_of_transactions_and_rows() {
        let connection = connection();
        let (mut snapshot, now) = (ReadSnapshot::default(), BootInstant::from_micros(1));
        let mut uses_of = |rows: usize| {
            snapshot.give_up(&connection);
            (0..MIN_BURST).for_each(|_| snapshot.count(now));
            let held = (0..).take_while(|_| {
                for _ in 0..rows {
                    connection.execute("INSERT INTO leases VALUES (1)", []).unwrap();
                }
                snapshot.count(now);
                snapshot.keep(&connection);
                snapshot.held.is_some()
            });
            // The last of them releases it.
            held.count() + 1
        };
        assert_eq!([0, 1, 3, 126, 127].map(&mut uses_of), [128, 64, 32, 2, 1]);
    }
}
