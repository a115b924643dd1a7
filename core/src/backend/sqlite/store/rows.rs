//! The rows of leases, read and written inside a transaction. All SQL on them is here.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::Store;
use crate::backend::sqlite::errors;
use crate::backend::sqlite::fs::kind::Kind;
use crate::backend::sqlite::holders::holder::{End, Holder, Now};
use crate::backend::sqlite::holders::liveness::{self, Mark, Pulse};
use crate::lease::{Owner, Ttl};
use crate::runtime::clock::BootInstant;

/// One transaction, from the moment it has its lock.
pub struct Tx<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) store: &'a Store,
    /// The moment before the lock was asked for.
    pub sent: BootInstant,
    /// The moment at which the transaction's leases begin or end.
    pub now: Now,
    pub(crate) holder: Option<[u8; Holder::BYTES]>,
    /// Who was found dead or alive. In a batch many rows may have the same holder, and a probe costs four calls.
    probed: Vec<(Mark, Pulse)>,
    /// How many rows are new, and the last of them.
    pub added: (u32, Option<Arc<str>>),
    /// Rows that this process granted, and that it released. They count once this is committed.
    pub granted: usize,
    /// See `granted`.
    pub released: usize,
    /// Whether something was ended that others may wait for: a lease, or somebody's place in line.
    pub ended: bool,
    /// Which processes in the queue live, once that was looked at.
    pub(crate) living: Option<Vec<i64>>,
    /// What most operations of a batch run: looked up in the connection's cache once.
    grant_if_free: Option<CachedStatement<'a>>,
    free_if_held: Option<CachedStatement<'a>>,
}

/// What is known of a resource.
#[derive(Debug)]
pub struct Row {
    /// Its last token.
    pub token: u64,
    /// Its lease, over or not.
    pub lease: Option<Lease>,
    /// Whether there is a line for it.
    pub queued: bool,
}

/// A lease, as it is stored.
#[derive(Debug)]
pub struct Lease {
    /// Whose it is.
    pub owner: Owner,
    /// When it ends.
    pub end: End,
    mark: Option<Mark>,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(connection: &'a Connection, store: &'a Store, sent: BootInstant, now: Now) -> Self {
        let holder = store.holder(&now).map(|holder| holder.encode());
        let (probed, added) = (Vec::new(), (0, None));
        let (granted, released, ended, living) = (0, 0, false, None);
        let (grant_if_free, free_if_held) = (None, None);
        Self {
            connection,
            store,
            sent,
            now,
            holder,
            probed,
            added,
            granted,
            released,
            ended,
            living,
            grant_if_free,
            free_if_held,
        }
    }

    /// For tests that set what only this connection sees.
    #[cfg(test)]
    pub(crate) const fn connection(&self) -> &Connection {
        self.connection
    }

    /// What the file lies on.
    pub const fn kind(&self) -> Kind {
        self.store.kind()
    }

    /// Whether other processes may use the file.
    pub fn has_company(&self) -> bool {
        self.kind().is_network() || liveness::has_company(self.store.path())
    }

    /// What is stored of the resource.
    pub fn row(&self, resource: &str) -> rusqlite::Result<Option<Row>> {
        self.connection
            .prepare_cached(
                "SELECT token, owner, boot_us, wall_us, holder, queued FROM leases WHERE resource = ?1",
            )?
            .query_row([resource], |row| Row::read(row, 0))
            .optional()
    }

    /// How much longer the lease lasts; `None` if it is over, by time or because its holder is dead.
    pub fn held(&mut self, lease: &Lease) -> Option<Duration> {
        let remaining = lease.end.remaining(&self.now);
        if remaining.is_zero() {
            return None; // not worth a probe
        }
        let lives = match self.pulse(lease.mark) {
            Pulse::Alive => true,
            Pulse::Dead => false,
            Pulse::Unknown => !lease.end.other_boot(&self.now),
        };
        lives.then_some(remaining)
    }

    /// What can be told of the process that keeps this file.
    pub(crate) fn pulse(&mut self, mark: Option<Mark>) -> Pulse {
        // Over a network no lock proves anything.
        let Some(mark) = mark.filter(|_| !self.kind().is_network()) else { return Pulse::Unknown };
        if let Some((_, pulse)) = self.probed.iter().find(|(probed, _)| *probed == mark) {
            return *pulse;
        }
        let pulse = liveness::probe(self.store.path(), &mark);
        self.probed.push((mark, pulse));
        pulse
    }

    /// Grants a resource with this token, if it has a row, no lease, no line, and a lower token: one statement for what is the rule.
    /// Answers whether that was so. (No RETURNING, which goes through a table of its own and takes longer than the update.)
    pub fn grant_if_free(
        &mut self,
        resource: &str,
        token: u64,
        owner: Owner,
        ttl: Ttl,
    ) -> rusqlite::Result<bool> {
        let ttl = ttl.as_duration();
        let statement = prepared(
            &mut self.grant_if_free,
            self.connection,
            "UPDATE leases SET token = ?2, owner = ?3, boot_us = ?4, wall_us = ?5, holder = ?6
             WHERE resource = ?1 AND owner IS NULL AND token < ?2 AND queued IS NULL",
        )?;
        let changed = statement.execute(params![
            resource,
            signed(token),
            owner.as_bytes(),
            signed((self.now.boot + ttl).as_micros()),
            signed(self.now.wall + ttl.as_micros() as u64),
            self.holder,
        ])?;
        Ok(changed == 1)
    }

    /// Ends this owner's lease if it has not run out: one statement for what is the rule. Answers whether that was so.
    pub fn free_if_held(&mut self, resource: &str, owner: Owner) -> rusqlite::Result<bool> {
        // As `End::remaining` has it: the boot clock if it is the same, else the wall clock.
        let statement = prepared(
            &mut self.free_if_held,
            self.connection,
            "UPDATE leases SET owner = NULL, boot_us = NULL, wall_us = NULL, holder = NULL
             WHERE resource = ?1 AND owner = ?2
             AND CASE WHEN substr(holder, 1, 24) = ?3 THEN boot_us > ?4 ELSE wall_us > ?5 END",
        )?;
        let changed = statement.execute(params![
            resource,
            owner.as_bytes(),
            self.holder.as_ref().filter(|_| self.now.identity.is_some()).map(|holder| &holder[..24]),
            signed(self.now.boot.as_micros()),
            signed(self.now.wall),
        ])?;
        self.ended |= changed == 1;
        Ok(changed == 1)
    }

    /// Writes a lease that begins now.
    pub fn grant(&mut self, resource: &str, token: u64, owner: Owner, ttl: Ttl) -> rusqlite::Result<()> {
        let ttl = ttl.as_duration();
        self.connection
            .prepare_cached(
                "INSERT INTO leases (resource, token, owner, boot_us, wall_us, holder)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (resource) DO UPDATE SET token = excluded.token, owner = excluded.owner,
                 boot_us = excluded.boot_us, wall_us = excluded.wall_us, holder = excluded.holder",
            )?
            .execute(params![
                resource,
                signed(token),
                owner.as_bytes(),
                signed((self.now.boot + ttl).as_micros()),
                signed(self.now.wall + ttl.as_micros() as u64),
                self.holder,
            ])
            .map(|_| ())
    }

    /// Moves a lease's end to the later of what it is and what it would be if it began now, on each clock.
    pub fn prolong(&mut self, resource: &str, end: End, ttl: Ttl) -> rusqlite::Result<()> {
        let ttl = ttl.as_duration();
        let mut boot = (self.now.boot + ttl).as_micros();
        if end.identity == self.now.identity {
            boot = boot.max(end.boot);
        }
        let wall = (self.now.wall + ttl.as_micros() as u64).max(end.wall);
        self.connection
            .prepare_cached("UPDATE leases SET boot_us = ?2, wall_us = ?3, holder = ?4 WHERE resource = ?1")?
            .execute(params![resource, signed(boot), signed(wall), self.holder])
            .map(|_| ())
    }

    /// Ends a lease. The row stays, for its token.
    pub fn free(&mut self, resource: &str) -> rusqlite::Result<()> {
        self.ended = true;
        self.connection
            .prepare_cached(
                "UPDATE leases SET owner = NULL, boot_us = NULL, wall_us = NULL, holder = NULL WHERE resource = ?1",
            )?
            .execute([resource])
            .map(|_| ())
    }

    /// The rows after this resource, at most so many, each with its holder's mark if it has one.
    pub fn holders_after(&self, resource: &str, limit: u32) -> rusqlite::Result<Vec<(String, Option<Mark>)>> {
        let mark = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Option<Mark>> {
            let holder = row.get_ref(1)?.as_blob_or_null().ok().flatten().and_then(Holder::decode);
            Ok(holder.and_then(|holder| holder.mark))
        };
        self.connection
            .prepare_cached(
                "SELECT resource, holder FROM leases WHERE resource > ?1 ORDER BY resource LIMIT ?2",
            )?
            .query_map(params![resource, limit], |row| Ok((row.get(0)?, mark(row)?)))?
            .collect()
    }

    /// Whether any lease of this holder's has not run out. Reads the whole table.
    pub fn is_holding(&self, mark: Mark) -> rusqlite::Result<bool> {
        let mut statement = self.connection.prepare_cached(
            "SELECT token, owner, boot_us, wall_us, holder, queued FROM leases WHERE owner IS NOT NULL",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let lease = Row::read(row, 0).ok().and_then(|row| row.lease);
            if lease
                .is_some_and(|lease| lease.mark == Some(mark) && !lease.end.remaining(&self.now).is_zero())
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends the resource's lease, if this is still its holder.
    pub fn free_if_held_by(&mut self, resource: &str, mark: Mark) -> rusqlite::Result<()> {
        match self.row(resource)?.and_then(|row| row.lease) {
            Some(lease) if lease.mark == Some(mark) => self.free(resource),
            _ => Ok(()),
        }
    }

    /// The rows after this resource, at most so many; `None` for a row that cannot be read.
    pub fn after(&self, resource: &str, limit: u32) -> rusqlite::Result<Vec<(Arc<str>, Option<Row>)>> {
        self.connection
            .prepare_cached(
                "SELECT resource, token, owner, boot_us, wall_us, holder, queued FROM leases
                 WHERE resource > ?1 ORDER BY resource LIMIT ?2",
            )?
            .query_map(params![resource, limit], |row| Ok((row.get(0)?, Row::read(row, 1).ok())))?
            .collect()
    }

    /// Forgets the resource, its token too, unless somebody is in line for it.
    pub fn forget(&mut self, resource: &str) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("DELETE FROM leases WHERE resource = ?1 AND queued IS NULL")?
            .execute([resource])
            .map(|_| ())
    }

    /// What a pragma says, for `describe`.
    pub fn pragma(&self, name: &str) -> rusqlite::Result<String> {
        self.connection.pragma_query_value(None, name, |row| {
            row.get_ref(0).and_then(|value| match value {
                ValueRef::Integer(number) => Ok(number.to_string()),
                text => text.as_str().map(str::to_owned).map_err(Into::into),
            })
        })
    }
}

impl Row {
    /// From the columns `token, owner, boot_us, wall_us, holder, queued`, of which `first` is the first.
    fn read(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Self> {
        let token = unsigned(row, first)?;
        let queued = row.get_ref(first + 5)? != ValueRef::Null;
        let Some(Bytes(owner)) = row.get::<_, Option<Bytes<16>>>(first + 1)? else {
            return Ok(Self { token, lease: None, queued });
        };
        let holder = match row.get_ref(first + 4)? {
            ValueRef::Null => None,
            ValueRef::Blob(bytes) => Holder::decode(bytes),
            _ => return Err(errors::malformed(first + 4, "holder")),
        };
        let end = End {
            boot: unsigned(row, first + 2)?,
            wall: unsigned(row, first + 3)?,
            identity: holder.and_then(|holder| holder.identity),
        };
        let mark = holder.and_then(|holder| holder.mark);
        Ok(Self { token, lease: Some(Lease { owner: Owner::from_bytes(owner), end, mark }), queued })
    }
}

/// The statement that is kept here.
fn prepared<'s, 'a>(
    kept: &'s mut Option<CachedStatement<'a>>,
    connection: &'a Connection,
    sql: &str,
) -> rusqlite::Result<&'s mut CachedStatement<'a>> {
    if kept.is_none() {
        *kept = Some(connection.prepare_cached(sql)?);
    }
    Ok(kept.as_mut().expect("it was there, or was just made"))
}

/// SQLite's integers are signed; tokens and times are not negative.
pub(crate) fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A BLOB of exactly so many bytes.
struct Bytes<const N: usize>([u8; N]);

impl<const N: usize> FromSql for Bytes<N> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_blob()?.try_into().map(Self).map_err(|_| FromSqlError::InvalidType)
    }
}
