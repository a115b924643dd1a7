//! Forgetting resources that nobody locks any more, a few rows at a time.

use std::sync::Arc;

use super::rows::Tx;
use crate::lease::token::FENCE_TTL_MS;

/// How many rows are looked at for each row that is added. More than one, so that the walk gains on the growth and
/// the table stays within about twice what is in use.
const STEPS_PER_ROW: u32 = 2;
/// So that no transaction takes long.
const MOST_STEPS: u32 = 64;

/// A walk through the table that goes on while the table grows, and rests while it does not.
#[derive(Debug, Default)]
pub struct Purge {
    /// The row it came to. It starts at the first row this process adds: many short-lived processes then start in
    /// different places, or, if names rise, at the end, behind which the oldest come.
    cursor: Option<Arc<str>>,
}

impl Purge {
    /// Looks at the next rows, in a transaction that may have added some.
    ///
    /// A token that is seven days old is covered by the clock: the next one will be above it without the row.
    pub fn step(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        let (added, newest) = std::mem::take(&mut tx.added);
        let (Some(newest), steps @ 1..) = (newest, added.saturating_mul(STEPS_PER_ROW).min(MOST_STEPS))
        else {
            return Ok(());
        };
        let cursor = self.cursor.take().unwrap_or(newest);
        let rows = tx.after(&cursor, steps)?;
        let wrapped = rows.len() < steps as usize;
        let covered = tx.now.wall.saturating_sub(FENCE_TTL_MS * 1000);
        for (resource, row) in &rows {
            let Some(row) = row else { continue };
            let over = row.lease.as_ref().is_none_or(|lease| tx.held(lease).is_none());
            if row.token < covered && over {
                tx.forget(resource)?;
            }
        }
        self.cursor = if wrapped {
            Some("".into())
        } else {
            rows.into_iter().next_back().map(|(resource, _)| resource)
        };
        Ok(())
    }
}
