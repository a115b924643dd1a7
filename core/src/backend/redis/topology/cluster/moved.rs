//! Slots that another shard has now. Their leases have moved with them, if nothing was lost on the way, and
//! no replica of the new shard has acknowledged them yet.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::shard::Shard;
use crate::backend::contract::Outage;
use crate::backend::redis::config::slot::{SLOTS, slot_of};
use crate::error::Result;
use crate::lease::Resources;

/// A set of slots.
pub(super) struct MovedSlots(Box<[bool]>);

impl MovedSlots {
    /// The slots that another shard had before; `None` if there are none.
    pub fn between<'a>(
        before: impl Fn(u16) -> Option<&'a Arc<Shard>>,
        now: impl Fn(u16) -> Option<&'a Arc<Shard>>,
    ) -> Option<Self> {
        let moved = |slot| match (before(slot), now(slot)) {
            (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
            _ => false,
        };
        let slots: Box<[bool]> = (0..SLOTS).map(moved).collect();
        slots.contains(&true).then_some(Self(slots))
    }
}

impl Outage for MovedSlots {
    fn concerns(&self, resources: &Resources) -> bool {
        self.0[usize::from(slot_of(resources.first()))]
    }

    /// The new owner is known: whether it answers is found out by the requests for these leases.
    fn is_failover(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(std::future::ready(Ok(true)))
    }
}
