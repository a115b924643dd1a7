//! Clearing away what dead processes left: their leases, then their liveness files. In the background, for whoever meets
//! such a lease frees it anyway.

use std::sync::Weak;
use std::time::Duration;

use super::busy::Wait;
use super::liveness::{self, Remains};
use super::store::{Access, Store};
use crate::clock::Clock;
use crate::error::Result;

/// Rows of one transaction, so that nobody waits for it longer than about a millisecond.
const STEP_ROWS: u32 = 1000;
/// How long to wait for other processes. Nothing is lost by giving up: the next process to open the file tries again.
const PATIENCE: Duration = Duration::from_millis(500);

/// Sweeps a store once, as long as somebody uses it.
pub async fn sweep(store: Weak<Store>) {
    let dead = match store.upgrade() {
        Some(store) if store.keeps_liveness() => liveness::remains(store.path()).unwrap_or_default(),
        _ => return,
    };
    if dead.is_empty() {
        return;
    }
    let mut from = String::new();
    loop {
        let Some(store) = store.upgrade() else { return };
        match step(&store, &dead, &from) {
            Ok(Some(last)) => from = last,
            Ok(None) => break,
            Err(_) => return,
        }
        drop(store);
        tokio::task::yield_now().await;
    }
    dead.into_iter().for_each(Remains::bury);
}

/// Frees what the dead hold in the rows after this one; answers the last row it saw if there may be more.
fn step(store: &Store, dead: &[Remains], from: &str) -> Result<Option<String>> {
    let mut wait = Wait::at_most(PATIENCE);
    // A look without the write lock misses nothing, for the dead write no more.
    let (mut last, mut theirs) = (None, Vec::new());
    store.transact(Access::Read, &Clock::System, &mut wait, &mut |tx| {
        let rows = tx.holders_after(from, STEP_ROWS)?;
        last = rows.last().filter(|_| rows.len() == STEP_ROWS as usize).map(|(resource, _)| resource.clone());
        theirs = rows
            .into_iter()
            .filter_map(|(resource, mark)| mark.map(|mark| (resource, mark)))
            .filter(|(_, mark)| dead.iter().any(|remains| remains.mark == *mark))
            .collect();
        Ok(())
    })?;
    if !theirs.is_empty() {
        store.transact(Access::Write, &Clock::System, &mut wait, &mut |tx| {
            theirs.iter().try_for_each(|(resource, mark)| tx.free_if_held_by(resource, *mark))
        })?;
    }
    Ok(last)
}
