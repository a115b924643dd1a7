//! Reading on: in a run of transactions, the connection keeps its read snapshot from one to the next.
//!
//! In WAL mode a transaction takes and gives back three file locks, six calls in all. One of the three is for the right to
//! write; the others are for its snapshot. Whoever begins to write in a snapshot that is still the newest needs only the
//! first. That it is the newest, SQLite finds out once it has the right to write, and refuses at once if it is not
//! (<https://sqlite.org/rescode.html#busy_snapshot>): no transaction sees less than it would without.
//!
//! While a snapshot is held, no checkpoint gets past it, and the WAL cannot start over. So it is let go after a few
//! transactions, so that our own checkpoints find none; when nothing has used it for some milliseconds; and when somebody
//! else writes, for two who keep snapshots could let the WAL grow.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Notify;

use super::Store;
use crate::runtime::clock::BootInstant;

/// Transactions that follow each other this fast are a run.
const PAUSE: Duration = Duration::from_millis(1);
/// How many transactions of a run come before one that keeps its snapshot. Whoever finds that others write starts anew, so
/// among processes that write in turn, hardly any holds one.
const RUN: u32 = 256;
/// How many transactions share one snapshot, each counted together with the rows that it changes: 64 that take or give back one
/// lock; none that do so for many. The WAL may be longer by about as many frames before it is copied into the database.
const MOST_USES: u64 = 128;
/// How often it is looked for one that nothing uses any more.
const IDLE: Duration = Duration::from_millis(5);

/// A query that is begun and not ended keeps the snapshot. Of a table that no transaction writes: a change would have to
/// save where the query stands. It is not asked for a second row.
const QUERY: &str = "SELECT 1 FROM sqlite_schema";

/// A connection's read snapshot, held between its transactions or not.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// How many transactions of the run there were.
    run: u32,
    /// When the last of them began.
    last: Option<BootInstant>,
    /// A count for the one that is held; see [`MOST_USES`].
    uses: Option<u64>,
    /// How many rows the connection had changed by the end of the last transaction.
    changes: u64,
    /// The run went on since somebody asked.
    fresh: bool,
    /// Somebody sees to it that it is let go.
    attended: bool,
}

impl Snapshot {
    /// Another transaction is about to begin, also one that only reads: without, it would pass for one of a run that is over.
    pub fn count(&mut self, now: BootInstant) {
        let goes_on = self.last.replace(now).is_some_and(|last| now <= last + PAUSE);
        self.run = if goes_on { self.run.saturating_add(1) } else { 1 };
    }

    /// In a transaction, right before its commit: keeps its snapshot, or lets it go. `true`: one is held that nobody attends
    /// to yet.
    pub fn keep(&mut self, connection: &Connection) -> bool {
        let changes = connection.total_changes();
        let uses = self.uses.unwrap_or(0) + 1 + (changes - self.changes);
        self.changes = changes;
        self.fresh = self.run > RUN;
        if self.fresh && uses < MOST_USES {
            if self.uses.is_some() || hold(connection) {
                self.uses = Some(uses);
            }
        } else {
            // The commit's own checkpoint finds none.
            self.let_go(connection);
        }
        self.uses.is_some() && !std::mem::replace(&mut self.attended, true)
    }

    /// Lets it go, if one is held.
    pub fn let_go(&mut self, connection: &Connection) {
        if self.uses.take().is_some()
            && let Ok(mut query) = connection.prepare_cached(QUERY)
        {
            drop(query.query([]));
        }
    }

    /// Somebody else writes: lets it go, and holds none until another run has come so far. Answers whether one was held.
    pub fn give_up(&mut self, connection: &Connection) -> bool {
        let was_held = self.uses.is_some();
        self.let_go(connection);
        self.run = 0;
        was_held
    }

    /// Lets it go if the run has ended since this was asked last; nobody attends to it then. Answers whether that was so.
    pub fn let_go_if_idle(&mut self, connection: &Connection) -> bool {
        let is_idle = !std::mem::take(&mut self.fresh);
        if is_idle {
            self.attended = false;
            self.let_go(connection);
        }
        is_idle
    }
}

/// Keeps the snapshot of a transaction beyond its end.
fn hold(connection: &Connection) -> bool {
    let Ok(mut query) = connection.prepare_cached(QUERY) else { return false };
    let Ok(mut rows) = query.query([]) else { return false };
    if !matches!(rows.next(), Ok(Some(_))) {
        return false;
    }
    // Dropping them would end the query. It goes back to the connection's cache as it is, and the next who takes it from
    // there, see `Snapshot::let_go`, finds it so. Were it thrown out, or ended, then so would be the snapshot, and the next
    // transaction would begin as any other does.
    std::mem::forget(rows);
    true
}

/// Sees to it that a store's snapshots are let go soon after a run's end, for as long as there is the store.
pub async fn attend(attention: Arc<Notify>, store: Weak<Store>) {
    let _next = Next(&attention);
    while store.strong_count() > 0 {
        attention.notified().await;
        loop {
            tokio::time::sleep(IDLE).await;
            if store.upgrade().is_none_or(|store| store.let_go_if_idle()) {
                break;
            }
        }
    }
}

/// Where a store is used through two spellings of its path, two threads attend to it. When one of them ends, with or without
/// the store, the other goes on.
struct Next<'a>(&'a Notify);

impl Drop for Next<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_kept_in_a_long_run_that_nobody_disturbs() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE leases (resource)").unwrap();
        let (mut snapshot, mut now) = (Snapshot::default(), BootInstant::from_micros(1));
        let mut transactions_until_held = |snapshot: &mut Snapshot, pause| {
            (1..1000).find(|_| {
                now = now + pause;
                snapshot.count(now);
                snapshot.keep(&connection);
                snapshot.uses.is_some()
            })
        };
        assert_eq!(transactions_until_held(&mut snapshot, PAUSE), Some(RUN + 1));
        assert!(snapshot.give_up(&connection));
        assert_eq!(transactions_until_held(&mut snapshot, PAUSE), Some(RUN + 1));
        snapshot.let_go(&connection);
        assert_eq!(transactions_until_held(&mut snapshot, PAUSE), Some(1));
        snapshot.let_go(&connection);
        assert_eq!(transactions_until_held(&mut snapshot, PAUSE + Duration::from_micros(1)), None);
    }

    #[test]
    fn is_shared_by_so_many_transactions_or_rows() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE leases (resource)").unwrap();
        let (mut snapshot, now) = (Snapshot::default(), BootInstant::from_micros(1));
        let mut uses_of = |rows: usize| {
            snapshot.give_up(&connection);
            (0..RUN).for_each(|_| snapshot.count(now));
            let held = (0..).take_while(|_| {
                for _ in 0..rows {
                    connection.execute("INSERT INTO leases VALUES (1)", []).unwrap();
                }
                snapshot.count(now);
                snapshot.keep(&connection);
                snapshot.uses.is_some()
            });
            // The last of them lets it go.
            held.count() + 1
        };
        assert_eq!([0, 1, 3, 126, 127].map(&mut uses_of), [128, 64, 32, 2, 1]);
    }
}
