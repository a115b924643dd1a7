//! A username and password, and how little of it is shown.

use std::fmt;

use crate::error::{Error, Result};

/// The arguments of AUTH.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub username: Option<String>,
    pub password: Secret,
    /// Differs from that of the ones before.
    pub version: u64,
}

impl Credentials {
    /// An empty name or password is none.
    pub fn new(username: Option<String>, password: Option<String>) -> Result<Option<Self>> {
        let username = username.filter(|name| !name.is_empty());
        match (username, password.filter(|password| !password.is_empty())) {
            (username, Some(password)) => {
                Ok(Some(Self { username, password: Secret::new(password), version: 0 }))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err(Error::invalid(
                "a Redis username needs a password; pass `password`, or omit the username",
            )),
        }
    }

    /// The command that logs in with them.
    pub fn auth(&self) -> redis::Cmd {
        let mut auth = redis::cmd("AUTH");
        auth.arg(self.username.as_deref()).arg(self.password.reveal());
        auth
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
