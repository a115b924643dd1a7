//! The backend contract on SQLite.

use super::config::Config;
use crate::backend::{AckPolicy, Attempt, Guarantee, Info, Request};
use crate::clock::{BootInstant, Clock};
use crate::error::Result;
use crate::home::Home;
use crate::lease::{Owner, Resources, Ttl};

/// One lock file.
#[derive(Debug)]
pub struct SqliteBackend {}

#[allow(unused_variables, reason = "skeleton")]
impl SqliteBackend {
    /// No I/O.
    pub fn new(config: Config, clock: Clock) -> Self {
        Self {}
    }
    /// See [`crate::backend::Backend::home`].
    pub fn home(&self) -> Result<&Home> {
        todo!()
    }
    /// See [`crate::backend::Backend::connect`].
    pub async fn connect(&self) -> Result<()> {
        todo!()
    }
    /// See [`crate::backend::Backend::acquire`].
    pub async fn acquire(&self, request: &Request) -> Result<Attempt> {
        todo!()
    }
    /// See [`crate::backend::Backend::extend`].
    pub async fn extend(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        acks: AckPolicy,
    ) -> Result<BootInstant> {
        todo!()
    }
    /// See [`crate::backend::Backend::release`].
    pub async fn release(&self, resources: &Resources, owner: Owner, ttl: Ttl) -> Result<bool> {
        todo!()
    }
    /// See [`crate::backend::Backend::inspect`].
    pub async fn inspect(&self, resource: &str) -> Result<Option<Info>> {
        todo!()
    }
    /// See [`crate::backend::Backend::force_release`].
    pub async fn force_release(&self, resource: &str) -> Result<bool> {
        todo!()
    }
    /// See [`crate::backend::Backend::describe`].
    pub async fn describe(&self) -> Result<Guarantee> {
        todo!()
    }
    /// See [`crate::backend::Backend::close`].
    pub async fn close(&self) {
        todo!()
    }
    /// The synchronous variant of [`Self::acquire`], on the caller's thread; waits for the file's write lock at most
    /// two seconds.
    pub fn acquire_sync(&self, request: &Request) -> Result<Attempt> {
        todo!()
    }
    /// The synchronous variant of [`Self::release`].
    pub fn release_sync(&self, resources: &Resources, owner: Owner) -> Result<bool> {
        todo!()
    }
}
