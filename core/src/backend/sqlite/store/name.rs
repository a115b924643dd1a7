//! The name of a resource as a row has it.

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};

/// The bytes of a name. Not a `str`: a damaged row, or one that another program wrote, may have a name that
/// is no UTF-8, and must not keep others from being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(Box<[u8]>);

impl Name {
    /// As text, if it is that.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether it begins with this.
    pub fn begins_with(&self, prefix: &str) -> bool {
        self.0.starts_with(prefix.as_bytes())
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self(name.as_bytes().into())
    }
}

impl FromSql for Name {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Text(bytes) => Ok(Self(bytes.into())),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

impl ToSql for Name {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}
