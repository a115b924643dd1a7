//! How to talk to a server.

use std::sync::Arc;
use std::time::Duration;

use super::credentials::CredentialSource;
use super::keys::Keys;
#[cfg(unix)]
use super::options::ReadingLoop;
use crate::backend::connections::Connections;
use crate::backend::pending_connects::PendingConnects;

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
    /// The open ones, to servers with leases.
    pub(crate) connections: Arc<Connections>,
    /// What waits for one.
    pub(crate) pending_connects: Arc<PendingConnects>,
    /// What can read the sockets of lone calls.
    #[cfg(unix)]
    pub(crate) event_loop: Option<ReadingLoop>,
}
