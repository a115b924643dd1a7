//! The SQL of leases, as functions of a transaction.

use std::time::Duration;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, ToSql, params};

use super::name::Name;
use super::transaction::{Tx, signed, unsigned};
use crate::backend::sqlite::errors;
use crate::backend::sqlite::holders::holder::{Holder, LeaseEnd, StoredHolder};
use crate::backend::sqlite::holders::liveness::ProcessState;
use crate::backend::sqlite::holders::mark::Mark;
use crate::lease::{Owner, Ttl};

/// The row of a resource.
#[derive(Debug)]
pub struct Row {
    /// Its last token.
    pub token: u64,
    /// Its lease, whether active or over.
    pub lease: Option<Lease>,
    /// Whether the queue has entries for it.
    pub queued: bool,
}

/// A lease as it is stored.
#[derive(Debug)]
pub struct Lease {
    /// Its owner.
    pub owner: Owner,
    /// When it ends.
    pub end: LeaseEnd,
    /// Until when others are kept out although its holder is dead.
    minimum: Option<LeaseEnd>,
    mark: Option<Mark>,
}

impl Tx<'_> {
    /// Reads the row of a resource.
    pub fn row(&self, resource: impl ToSql) -> rusqlite::Result<Option<Row>> {
        self.connection
            .prepare_cached(
                "SELECT token, owner, boot_us, wall_us, holder, queued FROM leases WHERE resource = ?1",
            )?
            .query_row([resource], |row| Row::read(row, 0))
            .optional()
    }

    /// How much longer the lease lasts; `None` if it is over, because its time has passed, or its minimum has
    /// and its holder is dead.
    pub fn remaining(&mut self, lease: &Lease) -> Option<Duration> {
        let remaining = lease.end.remaining(&self.now);
        if remaining.is_zero() {
            return None; // not worth a probe
        }
        let is_alive = match self.process_state(lease.mark) {
            ProcessState::Alive => true,
            ProcessState::Dead => false,
            ProcessState::Unknown => !lease.end.is_from_other_boot(&self.now),
        };
        if is_alive {
            return Some(remaining);
        }
        let rest = lease.minimum?.remaining(&self.now).min(remaining);
        (!rest.is_zero()).then_some(rest)
    }

    /// Grants a resource with this token if it has a row, no lease, no queue and a lower token: one statement
    /// for the common case. Returns whether it did. (No RETURNING: it goes through a table of its own and
    /// takes longer than the update.)
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

    /// Ends this owner's lease if its time has not passed: one statement for the common case. Returns whether
    /// it did.
    pub fn free_if_held(&mut self, resource: &str, owner: Owner) -> rusqlite::Result<bool> {
        // The CASE is `LeaseEnd::remaining` in SQL; a test below compares the two.
        let statement = prepared(
            &mut self.free_if_held,
            self.connection,
            "UPDATE leases SET owner = NULL, boot_us = NULL, wall_us = NULL, holder = NULL
             WHERE resource = ?1 AND owner = ?2
             AND CASE WHEN substr(holder, 1, 24) = ?3 THEN boot_us > ?4 ELSE wall_us > ?5 END",
        )?;
        let identity = self.holder.as_ref().filter(|_| self.now.identity.is_some());
        let changed = statement.execute(params![
            resource,
            owner.as_bytes(),
            identity.map(|holder| &holder[..Holder::IDENTITY_BYTES]),
            signed(self.now.boot.as_micros()),
            signed(self.now.wall),
        ])?;
        self.ended |= changed == 1;
        Ok(changed == 1)
    }

    /// Writes a lease that begins now.
    pub fn grant(
        &mut self,
        resource: &str,
        token: u64,
        owner: Owner,
        ttl: Ttl,
        min_hold: Duration,
    ) -> rusqlite::Result<()> {
        let ttl = ttl.as_duration();
        let with_minimum = (!min_hold.is_zero())
            .then(|| StoredHolder::encode(self.context.holder, self.now.both_after(min_hold)));
        let holder = with_minimum.as_ref().map(<[u8; _]>::as_slice);
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
                holder.or(self.holder.as_ref().map(<[u8; _]>::as_slice)),
            ])
            .map(|_| ())
    }

    /// Moves a lease's end to the later of its current end and that of a lease that begins now, on each
    /// clock.
    pub fn extend(&mut self, resource: &str, lease: &Lease, ttl: Ttl) -> rusqlite::Result<()> {
        let (ttl, end) = (ttl.as_duration(), lease.end);
        let mut boot = (self.now.boot + ttl).as_micros();
        if end.identity == self.now.identity {
            boot = boot.max(end.boot);
        }
        let wall = (self.now.wall + ttl.as_micros() as u64).max(end.wall);
        // One that is over is left out: an older process cannot read a holder that has one.
        let rest = lease.minimum.map(|minimum| minimum.remaining(&self.now)).filter(|rest| !rest.is_zero());
        let with_minimum =
            rest.map(|rest| StoredHolder::encode(self.context.holder, self.now.both_after(rest)));
        let holder = with_minimum.as_ref().map(<[u8; _]>::as_slice);
        let holder = holder.or(self.holder.as_ref().map(<[u8; _]>::as_slice));
        self.connection
            .prepare_cached("UPDATE leases SET boot_us = ?2, wall_us = ?3, holder = ?4 WHERE resource = ?1")?
            .execute(params![resource, signed(boot), signed(wall), holder])
            .map(|_| ())
    }

    /// Leaves this much of a lease at most, without a process that could be dead or alive: what stays is its
    /// minimum.
    pub fn leave_rest(
        &mut self,
        resource: impl ToSql,
        lease: &Lease,
        rest: Duration,
    ) -> rusqlite::Result<()> {
        let (boot, wall) = self.now.both_after(rest.min(lease.end.remaining(&self.now)));
        let holder = Holder { identity: self.now.identity, mark: None };
        self.connection
            .prepare_cached("UPDATE leases SET boot_us = ?2, wall_us = ?3, holder = ?4 WHERE resource = ?1")?
            .execute(params![
                resource,
                signed(boot),
                signed(wall),
                StoredHolder::encode(Some(holder), (boot, wall))
            ])
            .map(|_| ())
    }

    /// Takes the process off a lease, which lives by its TTL from then on. What says on which clock it ends
    /// stays, and so does its minimum.
    pub fn detach(&mut self, resource: &str, lease: &Lease) -> rusqlite::Result<()> {
        let holder = Holder { identity: lease.end.identity, mark: None };
        let with_minimum =
            lease.minimum.map(|minimum| StoredHolder::encode(Some(holder), (minimum.boot, minimum.wall)));
        self.connection
            .prepare_cached("UPDATE leases SET holder = ?2 WHERE resource = ?1")?
            .execute(params![
                resource,
                with_minimum.as_ref().map_or(&holder.encode()[..], <[u8; _]>::as_slice)
            ])
            .map(|_| ())
    }

    /// Ends a lease. The row stays, because of its token.
    pub fn free(&mut self, resource: impl ToSql) -> rusqlite::Result<()> {
        self.ended = true;
        self.connection
            .prepare_cached(
                "UPDATE leases SET owner = NULL, boot_us = NULL, wall_us = NULL, holder = NULL
                 WHERE resource = ?1",
            )?
            .execute([resource])
            .map(|_| ())
    }

    /// Ends the resource's lease if this is still its holder, who is dead; what is left of its minimum stays.
    /// Not if the row cannot be read.
    pub fn free_if_held_by(&mut self, resource: &Name, mark: Mark) -> rusqlite::Result<()> {
        match self.row(resource) {
            Ok(Some(Row { lease: Some(lease), .. })) if lease.mark == Some(mark) => {
                let rest = lease.minimum.map(|minimum| minimum.remaining(&self.now));
                match rest.filter(|rest| !rest.is_zero() && !lease.end.remaining(&self.now).is_zero()) {
                    Some(rest) => self.leave_rest(resource, &lease, rest),
                    None => self.free(resource),
                }
            }
            Err(error) if errors::is_of_row(&error) => Ok(()),
            row => row.map(|_| ()),
        }
    }

    /// At most `limit` rows after this resource, each with its holder's mark if it has one.
    pub fn holders_after(&self, resource: &Name, limit: u32) -> rusqlite::Result<Vec<(Name, Option<Mark>)>> {
        let mark = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Option<Mark>> {
            let stored = row.get_ref(1)?.as_blob_or_null().ok().flatten().and_then(StoredHolder::decode);
            Ok(stored.and_then(|stored| stored.holder.mark))
        };
        self.connection
            .prepare_cached(
                "SELECT resource, holder FROM leases WHERE resource > ?1 ORDER BY resource LIMIT ?2",
            )?
            .query_map(params![resource, limit], |row| Ok((row.get(0)?, mark(row)?)))?
            .collect()
    }

    /// Whether this holder has a lease whose time has not passed. Reads the whole table.
    pub fn has_active_lease(&self, mark: Mark) -> rusqlite::Result<bool> {
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

    /// At most `limit` rows after this resource; `None` for a row that cannot be read.
    pub fn rows_after(&self, resource: &Name, limit: u32) -> rusqlite::Result<Vec<(Name, Option<Row>)>> {
        self.connection
            .prepare_cached(
                "SELECT resource, token, owner, boot_us, wall_us, holder, queued FROM leases
                 WHERE resource > ?1 ORDER BY resource LIMIT ?2",
            )?
            .query_map(params![resource, limit], |row| Ok((row.get(0)?, Row::read(row, 1).ok())))?
            .collect()
    }

    /// Deletes the row of a resource, its token too, unless the queue has entries for it.
    pub fn delete_row(&mut self, resource: &Name) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("DELETE FROM leases WHERE resource = ?1 AND queued IS NULL")?
            .execute([resource])
            .map(|_| ())
    }
}

impl Row {
    /// Reads the columns `token, owner, boot_us, wall_us, holder, queued`, of which `first` is the first.
    fn read(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Self> {
        let token = unsigned(row, first)?;
        let queued = row.get_ref(first + 5)? != ValueRef::Null;
        let Some(Bytes(owner)) = row.get::<_, Option<Bytes<16>>>(first + 1)? else {
            return Ok(Self { token, lease: None, queued });
        };
        let stored = match row.get_ref(first + 4)? {
            ValueRef::Null => None,
            ValueRef::Blob(bytes) => StoredHolder::decode(bytes),
            _ => return Err(errors::malformed(first + 4, "holder")),
        };
        let identity = stored.and_then(|stored| stored.holder.identity);
        let end = LeaseEnd { boot: unsigned(row, first + 2)?, wall: unsigned(row, first + 3)?, identity };
        let minimum = stored.and_then(|stored| stored.minimum);
        let minimum = minimum.map(|(boot, wall)| LeaseEnd { boot, wall, identity });
        let mark = stored.and_then(|stored| stored.holder.mark);
        let lease = Lease { owner: Owner::from_bytes(owner), end, minimum, mark };
        Ok(Self { token, lease: Some(lease), queued })
    }
}

/// The statement in this slot, prepared on first use.
fn prepared<'s, 'a>(
    slot: &'s mut Option<CachedStatement<'a>>,
    connection: &'a Connection,
    sql: &str,
) -> rusqlite::Result<&'s mut CachedStatement<'a>> {
    if slot.is_none() {
        *slot = Some(connection.prepare_cached(sql)?);
    }
    Ok(slot.as_mut().expect("it was prepared above"))
}

/// A BLOB of exactly this length.
struct Bytes<const N: usize>([u8; N]);

impl<const N: usize> FromSql for Bytes<N> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_blob()?.try_into().map(Self).map_err(|_| FromSqlError::InvalidType)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::backend::sqlite::fs::kind::Kind;
    use crate::backend::sqlite::holders::holder::Now;
    use crate::backend::sqlite::store::transaction::TxContext;
    use crate::runtime::clock::{BootIdentity, BootInstant};

    const OURS: BootIdentity = BootIdentity { boot: [7; 16], time_namespace: 3 };
    const OTHER_NAMESPACE: BootIdentity = BootIdentity { boot: [7; 16], time_namespace: 4 };
    const OTHER_BOOT: BootIdentity = BootIdentity { boot: [8; 16], time_namespace: 3 };
    const MARK: Mark = Mark { inode: 1, pid_namespace: 2, pid: 3, nonce: 4 };

    /// Whether `free_if_held` ends a lease with this end, at this moment.
    fn is_freed(connection: &Connection, end: LeaseEnd, now: Now) -> bool {
        let owner = Owner::random();
        let holder = |identity| Holder { identity, mark: Some(MARK) };
        let row = params![
            owner.as_bytes(),
            signed(end.boot),
            signed(end.wall),
            end.identity.map(|identity| holder(Some(identity)).encode()),
        ];
        connection
            .execute("INSERT OR REPLACE INTO leases VALUES ('r', 1, ?1, ?2, ?3, ?4, NULL)", row)
            .unwrap();
        let context = TxContext {
            path: Path::new("/nowhere"),
            kind: Kind::Local,
            process: 1,
            holder: Some(holder(now.identity)),
        };
        Tx::new(connection, context, now.boot, now).free_if_held("r", owner).unwrap()
    }

    #[test]
    fn sql_and_rust_agree_on_when_a_lease_has_ended() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("schema.sql")).unwrap();
        let identities = [None, Some(OURS), Some(OTHER_NAMESPACE), Some(OTHER_BOOT)];
        for ours in identities {
            for theirs in identities {
                for (boot, wall) in [(9, 9), (9, 10), (9, 11), (10, 9), (10, 11), (11, 9), (11, 10), (11, 11)]
                {
                    let now = Now { boot: BootInstant::from_micros(10), wall: 10, identity: ours };
                    let end = LeaseEnd { boot, wall, identity: theirs };
                    let is_active = !end.remaining(&now).is_zero();
                    assert_eq!(is_freed(&connection, end, now), is_active, "{end:?} at {now:?}");
                }
            }
        }
    }
}
