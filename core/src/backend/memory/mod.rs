//! Local locks in the memory of one manager, for tests: the contract of a lock file, without the file. Each
//! manager has a store of its own, which no other one sees and nothing outlives.
//!
//! ```text
//! mod       the contract, for async and for synchronous callers
//! store     leases, tokens and queues: one step at a time, without I/O
//! row       what the store keeps of a resource
//! describe  what such locks guarantee
//! ```

mod describe;
mod row;
mod store;
#[cfg(test)]
mod tests;

use self::store::Store;
use crate::backend::Waiter;
use crate::backend::contract::{Attempt, Grant, Info, LockBackend, Locks, Request, SyncBackend};
use crate::backend::guarantees::Guarantee;
use crate::error::Result;
use crate::lease::{AckPolicy, Owner, Resources, Ttl};
use crate::runtime::clock::{BootInstant, Clock};
use crate::runtime::executor::Executor;
use crate::runtime::sync::Mutex;

/// A listing, which has only one page.
#[derive(Debug)]
pub struct MemoryListing {
    prefix: String,
    is_done: bool,
}

/// The locks of one manager. Every call is done when it returns, so nothing has an unknown outcome.
#[derive(Debug)]
pub struct MemoryBackend {
    clock: Clock,
    store: Mutex<Store>,
}

impl MemoryBackend {
    /// A store in which nothing is held.
    pub fn new(clock: Clock) -> Self {
        Self { clock, store: Mutex::default() }
    }

    /// One step of the store, which no other one interrupts.
    fn step<T>(&self, step: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = self.store.lock();
        store.set_time(&self.clock);
        step(&mut store)
    }
}

impl LockBackend for MemoryBackend {
    type Listing = MemoryListing;

    /// That of all timers: the steps are too short to need a thread of their own.
    fn executor(&self) -> Result<Executor> {
        Executor::io().cloned()
    }

    async fn connect(&self) -> Result<()> {
        Ok(())
    }

    async fn acquire(&self, request: &Request) -> Result<Attempt> {
        self.acquire_sync(request)
    }

    async fn join_queue(&self, resources: &Resources, waiter: &Waiter) -> Result<()> {
        self.step(|store| store.join(resources, waiter));
        Ok(())
    }

    async fn leave_queue(&self, resources: &Resources, waiter: &Waiter) {
        self.step(|store| store.leave(resources, waiter));
    }

    /// There are no replicas, so the policy requires nothing.
    async fn extend(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        _acks: AckPolicy,
    ) -> Result<BootInstant> {
        self.step(|store| store.extend(resources, owner, ttl))
    }

    async fn release(
        &self,
        resources: &Resources,
        owner: Owner,
        _ttl: Ttl,
        stands_until: Option<BootInstant>,
    ) -> Result<bool> {
        self.release_sync(resources, owner, stands_until)
    }

    /// It does not matter which process holds a lease: there is only one.
    async fn hand_over(&self, resources: &Resources, owner: Owner) -> Result<()> {
        self.step(|store| store.check_held(resources, owner, "it ended before it was handed over"))
    }

    async fn adopt(&self, request: &Request, from: Owner) -> Result<Grant> {
        self.step(|store| store.adopt(request, from))
    }

    async fn inspect(&self, resource: &str) -> Result<Option<Info>> {
        Ok(self.step(|store| store.inspect(resource)))
    }

    fn list(&self, prefix: &str) -> MemoryListing {
        MemoryListing { prefix: prefix.to_owned(), is_done: false }
    }

    async fn next_page(&self, listing: &mut MemoryListing) -> Result<Option<Locks>> {
        if std::mem::replace(&mut listing.is_done, true) {
            return Ok(None);
        }
        Ok(Some(self.step(|store| store.list(&listing.prefix))))
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn force_release(&self, resource: &str) -> Result<bool> {
        Ok(self.step(|store| store.force_release(resource)))
    }

    async fn describe(&self, _acks: AckPolicy, _ttl: Ttl) -> Result<Guarantee> {
        Ok(describe::guarantee())
    }

    /// There is nothing to give up: the leases were released, and the store is dropped with its manager.
    async fn close(&self) {}
}

impl SyncBackend for MemoryBackend {
    fn reopen(&self) {}

    fn acquire_sync(&self, request: &Request) -> Result<Attempt> {
        self.step(|store| store.acquire(request))
    }

    fn release_sync(
        &self,
        resources: &Resources,
        owner: Owner,
        stands_until: Option<BootInstant>,
    ) -> Result<bool> {
        Ok(self.step(|store| store.release(resources, owner, stands_until)))
    }
}
