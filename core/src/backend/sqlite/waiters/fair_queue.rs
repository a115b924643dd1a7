//! The line of fair waiters for a resource: first come, first served, across processes. All SQL on it is here.
//!
//! Whoever enters does so in the transaction that found the resource taken, and whoever is granted leaves in that of the
//! grant. A process says now and then, for all its waiters, that it lives; those of a process that is not heard of any
//! more are passed over, and put out of the line by the next one who writes.

use std::time::Duration;

use rusqlite::params;

use crate::backend::Waiter;
use crate::backend::sqlite::holders::holder::{End, Holder};
use crate::backend::sqlite::holders::liveness::{Mark, Pulse};
use crate::backend::sqlite::store::rows::{Tx, signed, unsigned};
use crate::lease::Resources;

/// How long a process is believed to live after it showed life. It does so every second ([`crate::backend::sqlite::waiters::poller`]), and the rest
/// is what a busy machine may delay that by.
pub const BELIEVED: Duration = Duration::from_millis(1500);

/// Somebody in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    process: i64,
    waiter: i64,
}

impl Tx<'_> {
    /// A waiter of this process, as the line knows it.
    pub fn member(&self, waiter: &Waiter) -> Member {
        Member { process: self.store.process(), waiter: waiter.number().cast_signed() }
    }

    /// Who is first in line for the resource, the dead aside.
    pub fn first(&mut self, resource: &str) -> rusqlite::Result<Option<Member>> {
        let living = match self.living.take() {
            Some(living) => living,
            None => self.look_around()?.0,
        };
        let mut statement = self
            .connection
            .prepare_cached("SELECT process, waiter FROM queue WHERE resource = ?1 ORDER BY place")?;
        let members = statement
            .query_map([resource], |row| Ok(Member { process: row.get(0)?, waiter: row.get(1)? }))?;
        let mut first = None;
        for member in members {
            let member = member?;
            // This process may have entered in this very transaction.
            if member.process == self.store.process() || living.contains(&member.process) {
                first = Some(member);
                break;
            }
        }
        self.living = Some(living);
        Ok(first)
    }

    /// Puts a waiter at the end of the line for each of the resources, unless it is in it.
    pub fn enter(&mut self, resources: &Resources, waiter: &Waiter) -> rusqlite::Result<()> {
        let member = self.member(waiter);
        let mut entered = false;
        for resource in resources.as_slice() {
            let stands = self
                .connection
                .prepare_cached("SELECT 1 FROM queue WHERE resource = ?1 AND process = ?2 AND waiter = ?3")?
                .exists(params![resource, member.process, member.waiter])?;
            if stands {
                continue;
            }
            entered = true;
            self.connection
                .prepare_cached(
                    "INSERT INTO queue (resource, place, process, waiter)
                     SELECT ?1, coalesce(max(place), 0) + 1, ?2, ?3 FROM queue WHERE resource = ?1",
                )?
                .execute(params![resource, member.process, member.waiter])?;
            // One of several may never have been locked. Any token is above 0.
            self.connection
                .prepare_cached(
                    "INSERT INTO leases (resource, token, queued) VALUES (?1, 0, 1)
                     ON CONFLICT (resource) DO UPDATE SET queued = 1",
                )?
                .execute([resource])?;
        }
        if entered {
            self.store.stands_in_line();
            self.write_life()?;
        }
        Ok(())
    }

    /// Takes a waiter out of the lines for these resources.
    pub fn take_out(&mut self, resources: &Resources, waiter: &Waiter) -> rusqlite::Result<()> {
        let member = self.member(waiter);
        for resource in resources.as_slice() {
            let left = self
                .connection
                .prepare_cached("DELETE FROM queue WHERE resource = ?1 AND process = ?2 AND waiter = ?3")?
                .execute(params![resource, member.process, member.waiter])?;
            if left > 0 {
                self.ended = true;
                self.end_line(resource)?;
            }
        }
        Ok(())
    }

    /// Says that this process lives. `false`: others did not believe so, and its waiters are no longer in line.
    pub fn show_life(&mut self) -> rusqlite::Result<bool> {
        let known = self
            .connection
            .prepare_cached("SELECT 1 FROM processes WHERE process = ?1")?
            .exists([self.store.process()])?;
        if known {
            self.write_life()?;
        }
        Ok(known)
    }

    fn write_life(&mut self) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO processes (process, boot_us, wall_us, holder) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (process) DO UPDATE SET boot_us = excluded.boot_us, wall_us = excluded.wall_us,
                 holder = excluded.holder",
            )?
            .execute(params![
                self.store.process(),
                signed((self.now.boot + BELIEVED).as_micros()),
                signed(self.now.wall + BELIEVED.as_micros() as u64),
                self.holder,
            ])
            .map(|_| ())
    }

    /// Puts the waiters of dead processes out of all lines, once in a transaction.
    pub fn bury(&mut self) -> rusqlite::Result<()> {
        if self.living.is_some() {
            return Ok(());
        }
        let (living, dead) = self.look_around()?;
        self.living = Some(living);
        dead.into_iter().try_for_each(|process| self.put_out(process))
    }

    /// Puts this process's waiters out of all lines: it uses the file no more.
    pub fn put_out_all(&mut self) -> rusqlite::Result<()> {
        self.put_out(self.store.process())
    }

    fn put_out(&mut self, process: i64) -> rusqlite::Result<()> {
        let resources: Vec<String> = self
            .connection
            .prepare_cached("SELECT DISTINCT resource FROM queue WHERE process = ?1")?
            .query_map([process], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for table in ["DELETE FROM queue WHERE process = ?1", "DELETE FROM processes WHERE process = ?1"] {
            self.connection.prepare_cached(table)?.execute([process])?;
        }
        self.ended |= !resources.is_empty();
        resources.iter().try_for_each(|resource| self.end_line(resource))
    }

    /// Says so in the resource's row if nobody is in line for it any more.
    fn end_line(&self, resource: &str) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "UPDATE leases SET queued = NULL
                 WHERE resource = ?1 AND NOT EXISTS (SELECT 1 FROM queue WHERE resource = ?1)",
            )?
            .execute([resource])
            .map(|_| ())
    }

    /// The processes in the queue: those that live, and the others. This one always does.
    fn look_around(&mut self) -> rusqlite::Result<(Vec<i64>, Vec<i64>)> {
        let mut statement =
            self.connection.prepare_cached("SELECT process, boot_us, wall_us, holder FROM processes")?;
        let mut rows = statement.query([])?;
        let (mut living, mut dead) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next()? {
            let process = row.get(0)?;
            let holder = row.get_ref(3)?.as_blob_or_null().ok().flatten().and_then(Holder::decode);
            let end = End {
                boot: unsigned(row, 1)?,
                wall: unsigned(row, 2)?,
                identity: holder.and_then(|holder| holder.identity),
            };
            let lives =
                process == self.store.process() || self.lives(&end, holder.and_then(|holder| holder.mark));
            if lives { living.push(process) } else { dead.push(process) }
        }
        Ok((living, dead))
    }

    fn lives(&mut self, until: &End, mark: Option<Mark>) -> bool {
        let remaining = until.remaining(&self.now);
        // One that is believed for long has set its wall clock since, or booted: that must not keep the others waiting.
        !remaining.is_zero() && remaining <= BELIEVED * 2 && self.pulse(mark) != Pulse::Dead
    }
}
