//! What logs in to a server: the username and password for AUTH, and the database.

use std::fmt;

use crate::error::{Error, Result};

/// The arguments of AUTH.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub username: Option<String>,
    pub password: Secret,
}

impl Credentials {
    /// An empty name or password is none.
    pub fn new(username: Option<String>, password: Option<String>) -> Result<Option<Self>> {
        let username = username.filter(|name| !name.is_empty());
        match (username, password.filter(|password| !password.is_empty())) {
            (username, Some(password)) => Ok(Some(Self { username, password: Secret::new(password) })),
            (None, None) => Ok(None),
            (Some(_), None) => Err(Error::invalid(
                "a Redis username needs a password; pass `password`, or omit the username",
            )),
        }
    }
}

/// How to log in to a server, as far as one source says. No `Debug`: it holds a password.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub username: Option<String>,
    pub password: Option<String>,
    pub db: Option<u32>,
}

impl Login {
    /// What is missing is taken from another source.
    pub fn or(self, other: Self) -> Self {
        Self {
            username: self.username.or(other.username),
            password: self.password.or(other.password),
            db: self.db.or(other.db),
        }
    }
}

/// A string that `Debug` does not show.
pub(crate) struct Secret(String);

impl Secret {
    pub const fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself, for the wire.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
