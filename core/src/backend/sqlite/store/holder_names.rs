//! Who holds leases, for people: the SQL of the table `holders`. Files of older versions do not have it until
//! something is written to it; what else they do with the file does not depend on it.

use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{ErrorCode, OptionalExtension, params};

use super::transaction::{Tx, signed, unsigned};
use crate::backend::sqlite::errors;
use crate::lease::{Holder, HolderId};

/// As in `schema.sql`.
const CREATE: &str = "CREATE TABLE IF NOT EXISTS holders (
  id       BLOB NOT NULL PRIMARY KEY,
  name     TEXT NOT NULL,
  host     TEXT NOT NULL,
  pid      INTEGER NOT NULL,
  since_ms INTEGER NOT NULL,
  until_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID";

/// How many rows are looked at for those that are over, with each that is written: from the first one, and
/// from the one that is written, whose place is random, as many again. There is no index of their ends.
const LOOKED_AT: u32 = 64;

impl Tx<'_> {
    /// Writes who a manager is, for so long, and removes some rows that are over. `false`: the table is not
    /// as this version knows it.
    pub fn write_holder(&mut self, id: HolderId, holder: &Holder, lasts: Duration) -> rusqlite::Result<bool> {
        let written = match self.upsert_holder(id, holder, lasts) {
            Err(error) if is_of_table(&error) => {
                self.connection.execute(CREATE, [])?;
                self.upsert_holder(id, holder, lasts)
            }
            written => written,
        };
        match written {
            Err(error) if is_of_table(&error) => Ok(false),
            written => written.map(|()| true),
        }
    }

    fn upsert_holder(&mut self, id: HolderId, holder: &Holder, lasts: Duration) -> rusqlite::Result<()> {
        let now_ms = self.now.wall / 1_000;
        let Holder { name, host, pid, since_ms } = holder;
        self.connection
            .prepare_cached(
                "INSERT INTO holders (id, name, host, pid, since_ms, until_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name, host = excluded.host,
                 pid = excluded.pid, since_ms = excluded.since_ms, until_ms = excluded.until_ms",
            )?
            .execute(params![
                id.as_bytes(),
                name,
                host,
                pid,
                signed(*since_ms),
                signed(now_ms.saturating_add(lasts.as_millis() as u64)),
            ])?;
        self.connection
            .prepare_cached(
                "DELETE FROM holders WHERE until_ms < ?1 AND id IN (
                   SELECT id FROM (SELECT id FROM holders ORDER BY id LIMIT ?2)
                   UNION ALL SELECT id FROM (SELECT id FROM holders WHERE id > ?3 ORDER BY id LIMIT ?2))",
            )?
            .execute(params![signed(now_ms), LOOKED_AT, id.as_bytes()])
            .map(|_| ())
    }

    /// Who the manager with this id is, if that is known.
    pub fn holder(&self, id: HolderId) -> rusqlite::Result<Option<Holder>> {
        let found = self
            .connection
            .prepare_cached("SELECT name, host, pid, since_ms FROM holders WHERE id = ?1 AND until_ms >= ?2");
        let found = found.and_then(|mut statement| {
            statement
                .query_row(params![id.as_bytes(), signed(self.now.wall / 1_000)], |row| {
                    let text = |column| match row.get_ref(column)? {
                        ValueRef::Text(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
                        _ => Err(errors::malformed(column, "name")),
                    };
                    Ok(Holder::checked(text(1)?, text(0)?, row.get(2)?, unsigned(row, 3)?))
                })
                .optional()
        });
        match found {
            Err(error) if is_of_table(&error) => Ok(None),
            found => found.map(Option::flatten),
        }
    }
}

/// Whether an error concerns this table only: there is none, or it is another's. Others concern the file.
fn is_of_table(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), None | Some(ErrorCode::Unknown | ErrorCode::ConstraintViolation))
}
