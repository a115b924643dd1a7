//! Who holds what, as functions of one transaction. A dead holder holds nothing.

use crate::backend::contract::{Info, Locks};
use crate::backend::sqlite::store::leases::Row;
use crate::backend::sqlite::store::name::Name;
use crate::backend::sqlite::store::transaction::Tx;
use crate::backend::sqlite::waiters::local_waiters::LocalWaiters;

/// How many rows one transaction looks at.
const PAGE_ROWS: u32 = 128;

/// Some locks, of resources that begin with a prefix.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// In the order of their names.
    pub locks: Locks,
    /// The last row that was looked at; `None`: there are no more.
    pub last: Option<Name>,
}

/// Returns the holder of the resource.
pub fn inspect(tx: &mut Tx<'_>, resource: &str, waiters: &LocalWaiters) -> rusqlite::Result<Option<Info>> {
    match tx.row(resource)? {
        Some(row) => info(tx, resource, row, waiters),
        None => Ok(None),
    }
}

fn info(tx: &mut Tx<'_>, resource: &str, row: Row, waiters: &LocalWaiters) -> rusqlite::Result<Option<Info>> {
    let Row { token, lease: Some(lease), queued } = row else { return Ok(None) };
    let Some(remaining) = tx.remaining(&lease) else { return Ok(None) };
    let queued = if queued { tx.count_queued(resource)? } else { 0 };
    let waiters = queued + waiters.without_place(resource);
    Ok(Some(Info { owner: lease.owner.to_string(), token, remaining, waiters }))
}

/// Returns the locks of the next rows whose names begin with the prefix; `after` is the last of the page
/// before. Rows that cannot be read are left out.
pub fn list(
    tx: &mut Tx<'_>,
    prefix: &str,
    after: Option<&Name>,
    waiters: &LocalWaiters,
) -> rusqlite::Result<Page> {
    let mut page = Page::default();
    if after.is_none()
        && let Some(info) = inspect(tx, prefix, waiters).ok().flatten()
    {
        page.locks.push((prefix.into(), info));
    }
    let first = Name::from(prefix);
    let rows = tx.rows_after(after.unwrap_or(&first), PAGE_ROWS)?;
    let is_full = rows.len() == PAGE_ROWS as usize;
    for (name, row) in rows {
        if !name.begins_with(prefix) {
            return Ok(Page { last: None, ..page });
        }
        if let (Some(resource), Some(row)) = (name.as_str(), row)
            && let Some(info) = info(tx, resource, row, waiters)?
        {
            page.locks.push((resource.into(), info));
        }
        page.last = Some(name);
    }
    Ok(if is_full { page } else { Page { last: None, ..page } })
}
