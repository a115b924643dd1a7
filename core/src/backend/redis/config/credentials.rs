//! The username and password for AUTH.

use std::fmt;

/// The arguments of AUTH.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub username: Option<String>,
    pub password: Secret,
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
