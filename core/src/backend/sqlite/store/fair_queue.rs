//! The queue of fair waiters for a resource: first come, first served, across processes. All of its SQL is
//! here.
//!
//! A waiter enters in the transaction that found the resource taken, and leaves in the one that grants it.
//! Each process regularly writes a heartbeat for all its waiters. The waiters of a process whose heartbeats
//! have stopped are skipped, and the next process that writes removes them from the queue.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::{ToSql, params};

use super::name::Name;
use super::transaction::{Tx, signed, unsigned};
use crate::backend::Waiter;
use crate::backend::sqlite::holders::holder::{Holder, LeaseEnd};
use crate::backend::sqlite::holders::liveness::ProcessState;
use crate::backend::sqlite::holders::mark::Mark;
use crate::lease::Resources;

/// How long a heartbeat is valid. A process writes one every second (see `waiters/poller.rs`); the rest
/// is what a busy machine may delay it by.
pub const HEARTBEAT_VALIDITY: Duration = Duration::from_millis(1500);

/// A waiter in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueEntry {
    process: i64,
    waiter: i64,
}

impl QueueEntry {
    /// The number of the waiter, if it is one of this process.
    pub fn waiter_of(&self, tx: &Tx<'_>) -> Option<u64> {
        (self.process == tx.context.process).then(|| self.waiter.cast_unsigned())
    }
}

impl Tx<'_> {
    /// The entry of a waiter of this process.
    pub fn queue_entry(&self, waiter: &Waiter) -> QueueEntry {
        QueueEntry { process: self.context.process, waiter: waiter.number().cast_signed() }
    }

    /// The first waiter in the queue for the resource whose process is alive.
    pub fn queue_head(&mut self, resource: &str) -> rusqlite::Result<Option<QueueEntry>> {
        let live = match self.live_processes.take() {
            Some(live) => live,
            None => self.queued_processes()?.0,
        };
        let mut statement = self
            .connection
            .prepare_cached("SELECT process, waiter FROM queue WHERE resource = ?1 ORDER BY place")?;
        let entries = statement
            .query_map([resource], |row| Ok(QueueEntry { process: row.get(0)?, waiter: row.get(1)? }))?;
        let mut head = None;
        for entry in entries {
            let entry = entry?;
            // This process may have entered in this very transaction.
            if entry.process == self.context.process || live.contains(&entry.process) {
                head = Some(entry);
                break;
            }
        }
        self.live_processes = Some(live);
        Ok(head)
    }

    /// How many waiters are in the queue for the resource whose processes are alive.
    pub fn count_queued(&mut self, resource: &str) -> rusqlite::Result<u32> {
        let live = match self.live_processes.take() {
            Some(live) => live,
            None => self.queued_processes()?.0,
        };
        let mut count = 0;
        {
            let mut statement =
                self.connection.prepare_cached("SELECT process FROM queue WHERE resource = ?1")?;
            let mut rows = statement.query([resource])?;
            while let Some(row) = rows.next()? {
                count += u32::from(live.contains(&row.get(0)?));
            }
        }
        self.live_processes = Some(live);
        Ok(count)
    }

    /// Puts a waiter at the end of the queue for each of the resources, unless it has entered already.
    pub fn enter_queue(&mut self, resources: &Resources, waiter: &Waiter) -> rusqlite::Result<()> {
        let entry = self.queue_entry(waiter);
        let mut has_entered = false;
        for resource in resources.as_slice() {
            let is_queued = self
                .connection
                .prepare_cached("SELECT 1 FROM queue WHERE resource = ?1 AND process = ?2 AND waiter = ?3")?
                .exists(params![resource, entry.process, entry.waiter])?;
            if is_queued {
                continue;
            }
            has_entered = true;
            self.connection
                .prepare_cached(
                    "INSERT INTO queue (resource, place, process, waiter)
                     SELECT ?1, coalesce(max(place), 0) + 1, ?2, ?3 FROM queue WHERE resource = ?1",
                )?
                .execute(params![resource, entry.process, entry.waiter])?;
            // One of several resources may never have been locked. Any token is above 0.
            self.connection
                .prepare_cached(
                    "INSERT INTO leases (resource, token, queued) VALUES (?1, 0, 1)
                     ON CONFLICT (resource) DO UPDATE SET queued = 1",
                )?
                .execute([resource])?;
        }
        if has_entered {
            self.entered_queue = true;
            self.write_heartbeat()?;
        }
        Ok(())
    }

    /// Removes a waiter from the queues for these resources.
    pub fn leave_queue(&mut self, resources: &Resources, waiter: &Waiter) -> rusqlite::Result<()> {
        let entry = self.queue_entry(waiter);
        for resource in resources.as_slice() {
            let removed = self
                .connection
                .prepare_cached("DELETE FROM queue WHERE resource = ?1 AND process = ?2 AND waiter = ?3")?
                .execute(params![resource, entry.process, entry.waiter])?;
            if removed > 0 {
                self.ended = true;
                self.clear_queued_if_empty(resource)?;
            }
        }
        Ok(())
    }

    /// Writes a heartbeat of this process. `false`: other processes have taken it for dead and removed its
    /// waiters.
    pub fn renew_heartbeat(&mut self) -> rusqlite::Result<bool> {
        let is_known = self
            .connection
            .prepare_cached("SELECT 1 FROM processes WHERE process = ?1")?
            .exists([self.context.process])?;
        if is_known {
            self.write_heartbeat()?;
        }
        Ok(is_known)
    }

    /// How many entries each waiter of this process has.
    pub fn own_entries(&self) -> rusqlite::Result<HashMap<u64, usize>> {
        let mut entries = HashMap::new();
        let mut statement = self.connection.prepare_cached("SELECT waiter FROM queue WHERE process = ?1")?;
        let mut rows = statement.query([self.context.process])?;
        while let Some(row) = rows.next()? {
            *entries.entry(row.get::<_, i64>(0)?.cast_unsigned()).or_default() += 1;
        }
        Ok(entries)
    }

    fn write_heartbeat(&mut self) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO processes (process, boot_us, wall_us, holder) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (process) DO UPDATE SET boot_us = excluded.boot_us, wall_us = excluded.wall_us,
                 holder = excluded.holder",
            )?
            .execute(params![
                self.context.process,
                signed((self.now.boot + HEARTBEAT_VALIDITY).as_micros()),
                signed(self.now.wall + HEARTBEAT_VALIDITY.as_micros() as u64),
                self.holder,
            ])
            .map(|_| ())
    }

    /// Removes the waiters of dead processes from all queues, once in a transaction.
    pub fn remove_dead_waiters(&mut self) -> rusqlite::Result<()> {
        if self.live_processes.is_some() {
            return Ok(());
        }
        let (live, dead) = self.queued_processes()?;
        self.live_processes = Some(live);
        dead.into_iter().try_for_each(|process| self.remove_process(process))
    }

    /// Removes this process's waiters from all queues, because it closes the file.
    pub fn leave_all_queues(&mut self) -> rusqlite::Result<()> {
        self.remove_process(self.context.process)
    }

    fn remove_process(&mut self, process: i64) -> rusqlite::Result<()> {
        let resources: Vec<Name> = self
            .connection
            .prepare_cached("SELECT DISTINCT resource FROM queue WHERE process = ?1")?
            .query_map([process], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for delete in ["DELETE FROM queue WHERE process = ?1", "DELETE FROM processes WHERE process = ?1"] {
            self.connection.prepare_cached(delete)?.execute([process])?;
        }
        self.ended |= !resources.is_empty();
        resources.iter().try_for_each(|resource| self.clear_queued_if_empty(resource))
    }

    /// Clears the flag in the resource's row if the queue has no entries for it any more.
    fn clear_queued_if_empty(&self, resource: impl ToSql) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "UPDATE leases SET queued = NULL
                 WHERE resource = ?1 AND NOT EXISTS (SELECT 1 FROM queue WHERE resource = ?1)",
            )?
            .execute([resource])
            .map(|_| ())
    }

    /// The processes in the queue: those that are alive, and those that are dead. This one is always alive.
    fn queued_processes(&mut self) -> rusqlite::Result<(Vec<i64>, Vec<i64>)> {
        let mut statement =
            self.connection.prepare_cached("SELECT process, boot_us, wall_us, holder FROM processes")?;
        let mut rows = statement.query([])?;
        let (mut live, mut dead) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next()? {
            let process = row.get(0)?;
            let holder = row.get_ref(3)?.as_blob_or_null().ok().flatten().and_then(Holder::decode);
            let mark = holder.and_then(|holder| holder.mark);
            let is_alive = match (unsigned(row, 1), unsigned(row, 2)) {
                _ if process == self.context.process => true,
                (Ok(boot), Ok(wall)) => {
                    let identity = holder.and_then(|holder| holder.identity);
                    self.is_alive(&LeaseEnd { boot, wall, identity }, mark)
                }
                // No process writes such an end.
                _ => false,
            };
            if is_alive { live.push(process) } else { dead.push(process) }
        }
        Ok((live, dead))
    }

    fn is_alive(&mut self, valid_until: &LeaseEnd, mark: Option<Mark>) -> bool {
        let remaining = valid_until.remaining(&self.now);
        // If a heartbeat is valid for much longer, the wall clock was set back or the host was booted since:
        // that must not keep other waiters waiting.
        !remaining.is_zero()
            && remaining <= HEARTBEAT_VALIDITY * 2
            && self.process_state(mark) != ProcessState::Dead
    }
}
