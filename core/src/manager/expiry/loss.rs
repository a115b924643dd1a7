//! Leases that are ended on purpose, as a program's tests of its own handling want it: for their holder as if
//! they were lost or had expired, and then at their backend.

use std::sync::Arc;

use crate::backend::contract::LockBackend;
use crate::error::Result;
use crate::lease::Strategy;
use crate::manager::held_lease::{HeldLease, LeaseId};
use crate::manager::observer::LossCause;
use crate::manager::{Manager, PendingCall};

impl Manager {
    /// Ends a lease as if it was lost, for this reason. It no longer counts once this returns; the future
    /// ends it at the backend, so that others can get it. `false`: it had ended before.
    pub fn lose(
        self: &Arc<Self>,
        id: LeaseId,
        why: &str,
    ) -> impl Future<Output = Result<bool>> + Send + use<> {
        let pending = PendingCall::new(self);
        let lost = self.find(id).filter(|held| held.is_active());
        if let Some(held) = &lost {
            self.mark_lost(held, LossCause::Taken, why);
        }
        async move {
            let Some(held) = lost else { return Ok(false) };
            pending.0.end_stored(&held).await?;
            Ok(true)
        }
    }

    /// Ends the lease of a resource as if its time had passed, also that of another manager. A holder of this
    /// one learns of it before its backend ends it. `false`: the resource was free.
    pub async fn expire(self: &Arc<Self>, strategy: Strategy, resource: &str) -> Result<bool> {
        let backend = &self.accepting(strategy)?.backend;
        let Some(info) = backend.inspect(resource).await? else { return Ok(false) };
        let Some(held) = self.held_by(strategy, &info.owner) else {
            return backend.force_release(resource).await;
        };
        held.expire(self.clock.boot());
        self.mark_expired(&held);
        self.end_stored(&held).await?;
        Ok(true)
    }

    fn held_by(&self, strategy: Strategy, owner: &str) -> Option<Arc<HeldLease>> {
        let leases = self.leases.lock();
        let mut all = leases.held.values().filter(|held| held.strategy == strategy);
        all.find(|held| held.owner.to_string() == owner).cloned()
    }

    /// Leaves no minimum.
    async fn end_stored(&self, held: &HeldLease) -> Result<()> {
        let backend = &self.used_backend(held.strategy)?.backend;
        backend.release(&held.resources, held.owner, held.longest(), None).await.map(drop)
    }
}
