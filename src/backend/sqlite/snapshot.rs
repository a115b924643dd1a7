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

use super::store::Store;
use crate::clock::BootInstant;

/// Transactions that follow each other this fast are a run.
const PAUSE: Duration = Duration::from_millis(1);
/// How many transactions of a run, undisturbed, come before one that keeps its snapshot. Several times [`MOST_USES`], so that
/// among processes that write in turn, it is seldom that any holds one.
const RUN: u32 = 256;
/// How many transactions begin in one snapshot. They share what the calls for it cost; the WAL may be longer by as many
/// before it is copied into the database.
const MOST_USES: u32 = 64;
/// How often it is looked for one that nothing uses any more.
const IDLE: Duration = Duration::from_millis(5);

/// A query that is begun and not ended keeps the snapshot. Of a table that no transaction writes: a change would have to
/// save where the query stands. It has rows that are not asked for, or it would end with the first.
const QUERY: &str = "SELECT 1 FROM sqlite_schema";

/// A connection's read snapshot, held between its transactions or not.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// How many transactions of the run there were.
    run: u32,
    /// When the last of them began.
    last: Option<BootInstant>,
    /// How many transactions began in the one that is held. `None`: none is held.
    uses: Option<u32>,
    /// The run went on since somebody asked.
    fresh: bool,
    /// Somebody sees to it that it is let go.
    attended: bool,
}

impl Snapshot {
    /// Another transaction that writes is about to begin.
    pub fn count(&mut self, now: BootInstant) {
        let goes_on = self.last.replace(now).is_some_and(|last| now <= last + PAUSE);
        self.run = if goes_on { self.run.saturating_add(1) } else { 1 };
    }

    /// Whether one is held.
    pub const fn is_held(&self) -> bool {
        self.uses.is_some()
    }

    /// In a transaction, right before its commit: keeps its snapshot, or lets it go. `true`: one is held that nobody attends
    /// to yet.
    pub fn keep(&mut self, connection: &Connection) -> bool {
        self.fresh = self.run > RUN;
        match self.uses {
            None if self.fresh => self.hold(connection),
            Some(uses) if self.fresh && uses < MOST_USES => self.uses = Some(uses + 1),
            // The commit's own checkpoint finds none.
            _ => self.let_go(connection),
        }
        self.is_held() && !std::mem::replace(&mut self.attended, true)
    }

    fn hold(&mut self, connection: &Connection) {
        let Ok(mut query) = connection.prepare_cached(QUERY) else { return };
        let Ok(mut rows) = query.query([]) else { return };
        if matches!(rows.next(), Ok(Some(_))) {
            self.uses = Some(0);
            // Dropping them would end the query. It goes back to the connection's cache as it is, and the next who takes it
            // from there, see `let_go`, finds it so. Were it thrown out, or ended, then so would be the snapshot, and the
            // next transaction would begin as any other does.
            std::mem::forget(rows);
        }
    }

    /// Lets it go, if one is held.
    pub fn let_go(&mut self, connection: &Connection) {
        if self.uses.take().is_some()
            && let Ok(mut query) = connection.prepare_cached(QUERY)
        {
            drop(query.query([]));
        }
    }

    /// Somebody else writes: lets it go, and holds none until another run has come so far.
    pub fn give_up(&mut self, connection: &Connection) {
        self.let_go(connection);
        self.run = 0;
    }

    /// Whether the run has ended since this was asked last.
    pub fn is_idle(&mut self) -> bool {
        !std::mem::take(&mut self.fresh)
    }

    /// Nobody attends to it any more.
    pub fn leave_alone(&mut self, connection: &Connection) {
        self.attended = false;
        self.let_go(connection);
    }
}

/// Sees to it that a store's snapshots are let go soon after a run's end, for as long as there is the store.
pub async fn attend(attention: Arc<Notify>, store: Weak<Store>) {
    while store.strong_count() > 0 {
        attention.notified().await;
        let attendant = Attendant(&store);
        loop {
            tokio::time::sleep(IDLE).await;
            if store.upgrade().is_none_or(|store| store.is_idle()) {
                break;
            }
        }
        drop(attendant);
    }
    // There is another, if the path is spelled in two ways.
    attention.notify_one();
}

/// Lets go also when its task is thrown away, together with the thread that it is on.
struct Attendant<'a>(&'a Weak<Store>);

impl Drop for Attendant<'_> {
    fn drop(&mut self) {
        if let Some(store) = self.0.upgrade() {
            store.leave_alone();
        }
    }
}
