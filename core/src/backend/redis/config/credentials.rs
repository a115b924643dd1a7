//! The username and password for AUTH.

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
