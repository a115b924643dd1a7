//! Removes the rows of resources that have not been locked for a week, a few rows at a time.

use std::sync::Arc;

use super::transaction::Tx;
use crate::lease::token::FENCE_TTL_MS;

/// How many rows are checked for each row that is added. More than one, so that pruning outpaces growth and
/// the table stays within about twice the size of what is in use.
const CHECKS_PER_ROW: u32 = 2;
/// The most rows checked in one transaction, which keeps it short.
const MAX_CHECKS: u32 = 64;

/// Walks through the table while it grows, and pauses while it does not.
#[derive(Debug, Default)]
pub struct Pruner {
    /// The last row that was checked. The walk starts at the first row that this process adds: many
    /// short-lived processes then start in different places or, if names increase, at the end, after which
    /// the oldest follow.
    cursor: Option<Arc<str>>,
}

impl Pruner {
    /// Checks the next rows, in a transaction that may have added some.
    ///
    /// A token that is seven days old is covered by the clock: the next one will be above it without the row.
    pub fn step(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        let (added, newest) = std::mem::take(&mut tx.added);
        let (Some(newest), checks @ 1..) = (newest, added.saturating_mul(CHECKS_PER_ROW).min(MAX_CHECKS))
        else {
            return Ok(());
        };
        let cursor = self.cursor.take().unwrap_or(newest);
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
        self.cursor = if is_at_end {
            Some("".into())
        } else {
            rows.into_iter().next_back().map(|(resource, _)| resource)
        };
        Ok(())
    }
}
