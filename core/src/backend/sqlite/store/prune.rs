//! Removes the rows of resources that have not been locked for a week, a few rows at a time.

use std::time::Duration;

use super::name::Name;
use super::transaction::Tx;
use crate::lease::token::FENCE_TTL_MS;
use crate::runtime::clock::BootInstant;

/// How many rows are checked for each row that is added. More than one, so that pruning outpaces growth and
/// the table stays within about twice the size of what is in use.
const CHECKS_PER_ROW: u32 = 2;
/// The most rows checked in one transaction, which keeps it short.
const MAX_CHECKS: u32 = 64;
/// How often rows are checked although none are added.
const INTERVAL: Duration = Duration::from_millis(100);
/// The pause after all rows were checked. Short next to the week that they stay.
const REST: Duration = Duration::from_secs(60 * 60);

/// Walks through the table: at a steady pace, and faster while it grows. Only in transactions that change
/// leases, because a file that is not used needs no room for more.
#[derive(Debug, Default)]
pub struct Pruner {
    /// The last row that was checked. The walk starts at the first row that this process adds or grants: many
    /// short-lived processes then start in different places or, if names increase, at the end, after which
    /// the oldest follow.
    cursor: Option<Name>,
    /// Whether it has started again at the first row since.
    is_from_start: bool,
    /// When rows are checked even if none are added.
    due: Option<BootInstant>,
    /// Whether that is after a [`REST`].
    is_resting: bool,
}

impl Pruner {
    fn is_due(&self, now: BootInstant) -> bool {
        self.due.is_none_or(|due| now >= due)
    }

    /// Whether a transaction that begins now has to say where the walk starts.
    pub fn needs_start(&self, now: BootInstant) -> bool {
        self.cursor.is_none() && self.is_due(now)
    }

    /// Checks the next rows, in a transaction that may have granted some.
    ///
    /// A token that is seven days old is covered by the clock: the next one will be above it without the row.
    pub fn step(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        let (added, newest) = std::mem::take(&mut tx.added);
        let is_regular = tx.granted > 0 && self.is_due(tx.sent);
        let checks =
            if is_regular { MAX_CHECKS } else { added.saturating_mul(CHECKS_PER_ROW).min(MAX_CHECKS) };
        if checks == 0 {
            return Ok(());
        }
        if is_regular && std::mem::take(&mut self.is_resting) {
            (self.cursor, self.is_from_start) = (Some(Name::from("")), true);
        }
        let start = || newest.or_else(|| tx.granted_last.take()).map(|name| Name::from(&*name));
        let Some(cursor) = self.cursor.take().or_else(start) else { return Ok(()) };
        if is_regular {
            self.due = Some(tx.sent + INTERVAL);
        }
        let rows = tx.rows_after(&cursor, checks)?;
        let is_at_end = rows.len() < checks as usize;
        let covered = tx.now.wall.saturating_sub(FENCE_TTL_MS * 1000);
        for (resource, row) in &rows {
            let Some(row) = row else { continue };
            let is_free = row.lease.as_ref().is_none_or(|lease| tx.remaining(lease).is_none());
            if row.token < covered && is_free {
                tx.delete_row(resource)?;
            }
        }
        if is_at_end {
            if std::mem::replace(&mut self.is_from_start, true) {
                (self.due, self.is_resting) = (Some(tx.sent + REST), true);
            }
            self.cursor = Some(Name::from(""));
        } else {
            self.cursor = rows.into_iter().next_back().map(|(resource, _)| resource);
        }
        Ok(())
    }
}
