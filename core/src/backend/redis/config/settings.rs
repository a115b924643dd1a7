//! How to talk to a server.

use std::time::Duration;

use super::credentials::CredentialSource;
use super::keys::Keys;

/// How to talk to a server.
#[derive(Debug)]
pub struct Settings {
    pub(crate) credentials: CredentialSource,
    pub(crate) db: u32,
    pub(crate) replicas: u32,
    /// Whether a reply means that a quorum has the write on disk.
    pub(crate) durable: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) keys: Keys,
}
