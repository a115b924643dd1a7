//! Removes what dead processes left: their leases, then their liveness files. In the background, because a
//! process that comes across such a lease frees it anyway.

use std::sync::Weak;
use std::time::Duration;

use crate::backend::sqlite::holders::liveness::{self, DeadHolder};
use crate::backend::sqlite::retry::RetryBudget;
use crate::backend::sqlite::store::access::Access;
use crate::backend::sqlite::store::name::Name;
use crate::backend::sqlite::store::{Done, Store};
use crate::error::Result;
use crate::runtime::clock::Clock;

/// The rows of one transaction, so that no other waits for it longer than about a millisecond.
const STEP_ROWS: u32 = 1000;
/// The liveness files that are open at a time. A crash loop may leave thousands, and the process needs its
/// descriptors for other things.
const OPEN_FILES: usize = 64;
/// How long one attempt blocks the thread, which other tasks need.
const BLOCKING_LIMIT: Duration = Duration::from_millis(2);
/// How many attempts may fail, and the pause between them. Giving up loses nothing: the next process to open
/// the file tries again.
const MAX_FAILURES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// Removes the dead from a store once, as long as the store is in use.
pub async fn reap(store: Weak<Store>) {
    let dead = match store.upgrade() {
        Some(store) if store.keeps_liveness() => liveness::dead_holders(store.path()),
        _ => return,
    };
    let Ok(mut dead) = dead else { return };
    loop {
        let some: Vec<_> = dead.by_ref().take(OPEN_FILES).collect();
        if some.is_empty() || !reap_some(&store, &some).await {
            return;
        }
        some.into_iter().for_each(DeadHolder::remove_file);
        tokio::task::yield_now().await;
    }
}

/// Removes what these left in the lock file; `false` if that cannot be done now.
async fn reap_some(store: &Weak<Store>, dead: &[DeadHolder]) -> bool {
    let (mut from, mut failures) = (Name::from(""), 0);
    loop {
        let Some(open) = store.upgrade() else { return false };
        let progress = free_leases(&open, dead, &from);
        drop(open);
        match progress {
            Ok(ReapProgress::Done) => break,
            Ok(ReapProgress::More(last)) => {
                from = last;
                tokio::task::yield_now().await;
            }
            Err(_) if failures < MAX_FAILURES => {
                failures += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(ReapProgress::Replaced) | Err(_) => return false,
        }
    }
    if let Some(open) = store.upgrade() {
        // While their files still prove them dead.
        let mut budget = RetryBudget::new(BLOCKING_LIMIT);
        let _ = open.transact(Access::Write, &Clock::System, &mut budget, &mut |tx| tx.remove_dead_waiters());
    }
    true
}

/// How far reaping has come.
enum ReapProgress {
    /// There may be more rows after this one.
    More(Name),
    /// All rows were checked.
    Done,
    /// The path names another file now, and nothing is known of the rows in that.
    Replaced,
}

/// Frees the leases of the dead in the rows after this one.
fn free_leases(store: &Store, dead: &[DeadHolder], from: &Name) -> Result<ReapProgress> {
    let mut budget = RetryBudget::new(BLOCKING_LIMIT);
    // Reading without the write lock misses nothing, because the dead do not write.
    let (mut last, mut theirs) = (None, Vec::new());
    let read = store.transact(Access::Read, &Clock::System, &mut budget, &mut |tx| {
        let rows = tx.holders_after(from, STEP_ROWS)?;
        last = rows.last().filter(|_| rows.len() == STEP_ROWS as usize).map(|(resource, _)| resource.clone());
        theirs = rows
            .into_iter()
            .filter_map(|(resource, mark)| mark.map(|mark| (resource, mark)))
            .filter(|(_, mark)| dead.iter().any(|dead| dead.mark == *mark))
            .collect();
        Ok(())
    })?;
    if read == Done::Replaced {
        return Ok(ReapProgress::Replaced);
    }
    if !theirs.is_empty() {
        let freed = store.transact(Access::Write, &Clock::System, &mut budget, &mut |tx| {
            theirs.iter().try_for_each(|(resource, mark)| tx.free_if_held_by(resource, *mark))
        })?;
        if freed == Done::Replaced {
            return Ok(ReapProgress::Replaced);
        }
    }
    Ok(last.map_or(ReapProgress::Done, ReapProgress::More))
}
