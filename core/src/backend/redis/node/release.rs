//! The end of a lease on one server: at once, in the background, and what is left of its minimum.

use super::{Node, inspect};
use crate::backend::redis::node::{NodeError, NodeResult};
use crate::backend::redis::pipeline::batch::{Late, LeaseOutcome};
use crate::backend::redis::protocol::lease_args::{LeaseArgs, Rest};
use crate::backend::redis::protocol::operation::Operation;
use crate::error::Result;
use crate::lease::{AckPolicy, Owner, Resources, Ttl};
use crate::runtime::clock::BootInstant;

impl Node {
    /// Compares and deletes, or leaves the rest of the minimum; returns the number of locks that were the
    /// owner's.
    pub async fn delete(
        &self,
        resources: &Resources,
        owner: Owner,
        stands_until: Option<BootInstant>,
    ) -> NodeResult<i64> {
        let (workers, lease) = match self.rest(stands_until) {
            None => (&self.release, LeaseArgs::release(resources, owner)),
            Some(rest) => (&self.leave_rest, LeaseArgs::leave_rest(resources, owner, rest)),
        };
        match workers.run(AckPolicy::default(), lease).await {
            LeaseOutcome::Written { reply, .. } | LeaseOutcome::Declined(reply) => Ok(reply),
            LeaseOutcome::Elsewhere(elsewhere) => Err(NodeError::Elsewhere(elsewhere)),
            LeaseOutcome::Refused(error) | LeaseOutcome::Undo(error, _) => Err(error.into()),
            LeaseOutcome::Unknown(why) => {
                let context = self.context.reply_context(Operation::Release);
                Err(context.unknown(resources.first(), &why).into())
            }
        }
    }

    /// Compares and deletes; in the background if that fails now.
    pub async fn release(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        stands_until: Option<BootInstant>,
    ) -> Result<bool> {
        let error = match self.delete(resources, owner, stands_until).await {
            Ok(deleted) => {
                self.was_released(resources, owner, ttl, stands_until);
                return Ok(usize::try_from(deleted) == Ok(resources.as_slice().len()));
            }
            Err(error) => error.into_error(),
        };
        self.release_later(resources, owner, ttl, stands_until);
        Err(error)
    }

    /// A lease was released: if another server takes over now, it is released there as well.
    pub fn was_released(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        stands_until: Option<BootInstant>,
    ) {
        self.deletions.released(resources, owner, ttl, stands_until);
    }

    /// Releases in the background a lease that was granted long ago, so that nothing of it can be executed
    /// later.
    pub fn release_later(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        stands_until: Option<BootInstant>,
    ) {
        self.rollbacks.add(resources, owner, ttl, stands_until, Late::Impossible);
    }

    /// What is left now of a minimum that ends then. Reads no clock where there is none.
    pub fn rest(&self, stands_until: Option<BootInstant>) -> Option<Rest> {
        stands_until.and_then(|_| Rest::until(stands_until, self.context.clock.boot()))
    }

    /// Undoes in the background what a quorum gave up, or released.
    pub fn undo_later(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        stands_until: Option<BootInstant>,
        late: Late,
    ) {
        self.rollbacks.add(resources, owner, ttl, stands_until, late);
    }

    /// Deletes one lock of this owner, or of any, while its slot is moving, or leaves the rest of its
    /// minimum; `asking`: to this node. Returns whether it was there.
    pub async fn delete_lock(
        &self,
        resource: &str,
        owner: Option<Owner>,
        stands_until: Option<BootInstant>,
        asking: bool,
    ) -> NodeResult<bool> {
        inspect::delete_lock(&self.context, resource, (owner, self.rest(stands_until)), asking).await
    }
}
