//! The end of a store: it is closed in good order, or given up because its file or its connection is of no
//! use any more.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Store;
use super::access::Access;
use crate::backend::sqlite::fs::paths;
use crate::backend::sqlite::holders::liveness::Liveness;
use crate::backend::sqlite::retry::RetryBudget;
use crate::error::Result;
use crate::runtime::clock::Clock;

/// How long a close waits for other processes to remove entries that would expire anyway.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(50);
/// How long another thread may keep the connection of a store that is given up.
const RETIRE_TIMEOUT: Duration = Duration::from_millis(100);

impl Store {
    /// The file was replaced, and all leases in it are lost.
    pub fn abandon(&self) {
        self.state.unreleased.store(0, Ordering::Relaxed);
        self.give_up(true);
    }

    /// The connection cannot be used any more. Its leases are lost only if a new one will not see them,
    /// because the files that it had open have gone.
    pub fn retire(&self) {
        let is_lost = match paths::stat(&self.path) {
            Ok(Some(stat)) if stat.id == self.id && stat.length > 0 => {
                // Another thread may be in its last transaction. If it does not end soon, that thread notices
                // itself whether the files have gone.
                let connection = self.lock(&mut RetryBudget::new(RETIRE_TIMEOUT));
                connection.is_ok_and(|mut connection| !connection.wal_files.check(&self.path))
            }
            // Another file, or an empty one.
            Ok(_) => true,
            // Nothing is known yet.
            Err(_) => false,
        };
        if is_lost { self.abandon() } else { self.give_up(false) }
    }

    fn give_up(&self, is_lost: bool) {
        if is_lost {
            self.state.is_lost.store(true, Ordering::SeqCst);
        }
        self.state.is_given_up.store(true, Ordering::SeqCst);
        // They lock their own state, so not while this is locked.
        let listeners = self.listeners.lock().clone();
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            listener.on_given_up(self, is_lost);
        }
    }

    /// Closes in good order: the WAL is copied into the database, and the last process removes it.
    pub fn close(mut self) {
        if !self.is_current().unwrap_or(false) {
            return;
        }
        if self.may_be_queued.load(Ordering::Relaxed) {
            // If this fails, other processes soon skip the entries.
            let mut budget = RetryBudget::new(CLOSE_TIMEOUT);
            let _ =
                self.transact(Access::Write, &Clock::System, &mut budget, &mut |tx| tx.leave_all_queues());
        }
        if self.must_keep_liveness() && matches!(self.has_no_active_lease(), Ok(true)) {
            self.state.unreleased.store(0, Ordering::Relaxed);
            self.liveness.take();
        }
        self.connection.lock().checkpoint_on_close();
    }

    /// Whether leases may be left that carry the mark of the liveness file.
    fn must_keep_liveness(&self) -> bool {
        self.may_hold_leases() || self.liveness.as_ref().is_some_and(Liveness::is_kept)
    }

    /// Whether all leases that were not released have expired, were taken over, or were ended by force.
    fn has_no_active_lease(&self) -> Result<bool> {
        let Some(mark) = self.liveness.as_ref().map(Liveness::mark) else { return Ok(true) };
        let mut has_none = false;
        let mut budget = RetryBudget::new(Duration::ZERO);
        self.transact(Access::Read, &Clock::System, &mut budget, &mut |tx| {
            has_none = !tx.has_active_lease(mark)?;
            Ok(())
        })?;
        Ok(has_none)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Ends the task that releases snapshots.
        self.snapshot_held.notify_one();
        if self.must_keep_liveness()
            && let Some(liveness) = self.liveness.take()
        {
            liveness.keep_until_exit();
        }
    }
}
