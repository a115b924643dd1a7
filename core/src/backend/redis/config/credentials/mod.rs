//! What logs in to a server, and where it comes from: the options, or a function of the application.

mod asked;
#[cfg(test)]
mod tests;
mod values;

use std::sync::Arc;

pub use self::asked::{Ask, AskedCredentials};
pub(crate) use self::values::{Credentials, Login, Secret};
use crate::error::Result;

/// Where the credentials for a server come from.
#[derive(Debug)]
pub(crate) enum CredentialSource {
    /// They never change.
    Fixed(Option<Arc<Credentials>>),
    /// The application is asked for them.
    Asked(Arc<AskedCredentials>),
}

impl CredentialSource {
    /// Those that the next connection uses.
    pub fn current(&self) -> Option<Arc<Credentials>> {
        match self {
            Self::Fixed(credentials) => credentials.clone(),
            Self::Asked(asked) => asked.current(),
        }
    }

    /// Whether connections log in.
    pub const fn are_used(&self) -> bool {
        !matches!(self, Self::Fixed(None))
    }

    pub const fn asked(&self) -> Option<&Arc<AskedCredentials>> {
        match self {
            Self::Fixed(_) => None,
            Self::Asked(asked) => Some(asked),
        }
    }

    /// Those that a server may have been sent, the newest first.
    pub fn sent(&self) -> Vec<Arc<Credentials>> {
        match self {
            Self::Fixed(credentials) => credentials.iter().cloned().collect(),
            Self::Asked(asked) => asked.sent(),
        }
    }

    /// Waits until there are some, if any are needed.
    pub async fn ready(&self, due: tokio::time::Instant) -> Result<()> {
        match self {
            Self::Fixed(_) => Ok(()),
            Self::Asked(asked) => asked.ready(due).await,
        }
    }
}
