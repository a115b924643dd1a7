//! One transaction on a lock file. The SQL of leases is in [`leases`](super::leases), that of the fair queue
//! in [`fair_queue`](super::fair_queue); both extend [`Tx`].

use std::path::Path;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection};

use crate::backend::sqlite::fs::kind::Kind;
use crate::backend::sqlite::holders::holder::{Holder, Now};
use crate::backend::sqlite::holders::liveness::{self, ProcessState};
use crate::backend::sqlite::holders::mark::Mark;
use crate::runtime::clock::BootInstant;

/// The file and the process that a transaction belongs to.
#[derive(Debug, Clone, Copy)]
pub struct TxContext<'a> {
    /// The path of the lock file.
    pub path: &'a Path,
    /// The file system it is on.
    pub kind: Kind,
    /// The number of this process in the queue.
    pub process: i64,
    /// What the leases of this process carry.
    pub holder: Option<Holder>,
}

/// One transaction, from the moment it has its lock.
pub struct Tx<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) context: TxContext<'a>,
    /// The moment before the lock was requested.
    pub sent: BootInstant,
    /// The moment at which the transaction's leases begin or end.
    pub now: Now,
    /// `context.holder` as it is stored.
    pub(crate) holder: Option<[u8; Holder::BYTES]>,
    /// The processes that were probed. Many rows of a batch may have the same holder, and a probe costs four
    /// calls.
    probed: Vec<(Mark, ProcessState)>,
    /// The number of rows that were added, and the last of them.
    pub added: (u32, Option<Arc<str>>),
    /// A resource that was granted, if [`Self::wants_granted_last`].
    pub granted_last: Option<Arc<str>>,
    /// Whether pruning needs a place to start.
    pub wants_granted_last: bool,
    /// The number of rows that this process granted. Counts once the transaction is committed, as do the next
    /// two.
    pub granted: usize,
    /// The number of rows that this process released.
    pub released: usize,
    /// Whether it ended something that waiters may be waiting for: a lease, or a place in a queue.
    pub ended: bool,
    /// Whether it entered waiters of this process into the queue.
    pub entered_queue: bool,
    /// The live processes in the queue, once they were determined.
    pub(crate) live_processes: Option<Vec<i64>>,
    /// The statements that most operations of a batch run: looked up in the connection's cache once.
    pub(super) grant_if_free: Option<CachedStatement<'a>>,
    pub(super) free_if_held: Option<CachedStatement<'a>>,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        context: TxContext<'a>,
        sent: BootInstant,
        now: Now,
    ) -> Self {
        Self {
            connection,
            context,
            sent,
            now,
            holder: context.holder.map(|holder| holder.encode()),
            probed: Vec::new(),
            added: (0, None),
            granted_last: None,
            wants_granted_last: false,
            granted: 0,
            released: 0,
            ended: false,
            entered_queue: false,
            live_processes: None,
            grant_if_free: None,
            free_if_held: None,
        }
    }

    /// For tests that change a setting of this connection.
    #[cfg(test)]
    pub(crate) const fn connection(&self) -> &Connection {
        self.connection
    }

    /// Whether other processes may use the file.
    pub fn may_have_other_users(&self) -> bool {
        self.context.kind.is_network() || liveness::may_have_other_users(self.context.path)
    }

    /// The state of the process that keeps this liveness file.
    pub(crate) fn process_state(&mut self, mark: Option<Mark>) -> ProcessState {
        // On a network file system no lock proves anything.
        let Some(mark) = mark.filter(|_| !self.context.kind.is_network()) else {
            return ProcessState::Unknown;
        };
        if let Some((_, state)) = self.probed.iter().find(|(probed, _)| *probed == mark) {
            return *state;
        }
        let state = liveness::probe(self.context.path, &mark);
        self.probed.push((mark, state));
        state
    }

    /// The value of a pragma, for `describe`.
    pub fn pragma(&self, name: &str) -> rusqlite::Result<String> {
        self.connection.pragma_query_value(None, name, |row| {
            row.get_ref(0).and_then(|value| match value {
                ValueRef::Integer(number) => Ok(number.to_string()),
                text => text.as_str().map(str::to_owned).map_err(Into::into),
            })
        })
    }
}

/// Reads a token or a time: SQLite's integers are signed, these are not negative.
pub(crate) fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// A token or a time as SQLite stores it.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
