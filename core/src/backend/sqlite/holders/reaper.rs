//! Clearing away what dead processes left: their leases, then their liveness files. In the background, for whoever meets
//! such a lease frees it anyway.

use std::sync::Weak;
use std::time::Duration;

use super::liveness::{self, Remains};
use crate::backend::sqlite::retry::Wait;
use crate::backend::sqlite::store::{Access, Done, Store};
use crate::error::Result;
use crate::runtime::clock::Clock;

/// Rows of one transaction, so that nobody waits for it longer than about a millisecond.
const STEP_ROWS: u32 = 1000;
/// How long one try waits for other processes, on the thread that others need.
const BLOCKING: Duration = Duration::from_millis(2);
/// How often it is tried, and the pause in between. Nothing is lost by giving up: the next process to open the file tries
/// again.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// Sweeps a store once, as long as somebody uses it.
pub async fn sweep(store: Weak<Store>) {
    let dead = match store.upgrade() {
        Some(store) if store.keeps_liveness() => liveness::remains(store.path()).unwrap_or_default(),
        _ => return,
    };
    if dead.is_empty() {
        return;
    }
    let (mut from, mut failed) = (String::new(), 0);
    loop {
        let Some(open) = store.upgrade() else { return };
        let stepped = step(&open, &dead, &from);
        drop(open);
        match stepped {
            Ok(Step::Done) => break,
            Ok(Step::More(last)) => {
                from = last;
                tokio::task::yield_now().await;
            }
            Err(_) if failed < TRIES => {
                failed += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(Step::Replaced) | Err(_) => return,
        }
    }
    if let Some(open) = store.upgrade() {
        // While their files still tell that they are dead.
        let mut wait = Wait::at_most(BLOCKING);
        let _ = open.transact(Access::Write, &Clock::System, &mut wait, &mut |tx| tx.bury());
    }
    dead.into_iter().for_each(Remains::bury);
}

/// How far a sweep came.
enum Step {
    /// There may be more rows after this one.
    More(String),
    Done,
    /// The file is another by now: nothing is known of the rows in it.
    Replaced,
}

/// Frees what the dead hold in the rows after this one.
fn step(store: &Store, dead: &[Remains], from: &str) -> Result<Step> {
    let mut wait = Wait::at_most(BLOCKING);
    // A look without the write lock misses nothing, for the dead write no more.
    let (mut last, mut theirs) = (None, Vec::new());
    let looked = store.transact(Access::Read, &Clock::System, &mut wait, &mut |tx| {
        let rows = tx.holders_after(from, STEP_ROWS)?;
        last = rows.last().filter(|_| rows.len() == STEP_ROWS as usize).map(|(resource, _)| resource.clone());
        theirs = rows
            .into_iter()
            .filter_map(|(resource, mark)| mark.map(|mark| (resource, mark)))
            .filter(|(_, mark)| dead.iter().any(|remains| remains.mark == *mark))
            .collect();
        Ok(())
    })?;
    if looked == Done::Replaced {
        return Ok(Step::Replaced);
    }
    if !theirs.is_empty() {
        let freed = store.transact(Access::Write, &Clock::System, &mut wait, &mut |tx| {
            theirs.iter().try_for_each(|(resource, mark)| tx.free_if_held_by(resource, *mark))
        })?;
        if freed == Done::Replaced {
            return Ok(Step::Replaced);
        }
    }
    Ok(last.map_or(Step::Done, Step::More))
}
