//! How the deadline of a lease moves: only by what the backend proved, and never back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::held_lease::{HeldLease, LeaseId};
use super::observer::LossCause;
use super::stats::count;
use super::{Manager, TAKEN};
use crate::backend::contract::LockBackend;
use crate::error::{Error, Result};
use crate::lease::{AckPolicy, Ttl};

impl Manager {
    /// Extends a lease, by the TTL it was granted with unless another is given. The deadline moves only when
    /// the backend proved the extension as it proved the grant.
    pub async fn extend(self: &Arc<Self>, id: LeaseId, ttl: Option<Ttl>) -> Result<()> {
        let held = self.find(id).ok_or_else(ended)?;
        self.extend_held(&held, ttl.unwrap_or(held.ttl)).await
    }

    /// Extends a lease by this TTL, after the extension that is in flight.
    pub(super) async fn extend_held(self: &Arc<Self>, held: &HeldLease, ttl: Ttl) -> Result<()> {
        let turn = held.extending().lock().await;
        if held.remaining(self.clock.boot()).is_zero() {
            self.mark_expired(held);
            return Err(ended());
        }
        let backend = self.open_backend(held.strategy)?;
        // A lease that was granted with a longer TTL may have an acknowledgement time beyond half of a
        // shorter one.
        let acks = AckPolicy { timeout_ms: held.acks.timeout_ms.min(ttl.as_millis() / 2), ..held.acks };
        held.longest.fetch_max(ttl.as_millis(), Ordering::AcqRel);
        let extended = backend.extend(&held.resources, held.owner, ttl, acks).await;
        let result = match extended {
            // Released meanwhile, which compares owners; or its handle was dropped, and then it expires.
            Ok(_) if held.is_released() => Err(ended()),
            // The reply came too late: the holder was notified that the lease is lost, so it stays lost.
            Ok(_) if held.remaining(self.clock.boot()).is_zero() => {
                let HeldLease { resources, owner, .. } = held;
                let _ = backend.release(resources, *owner, held.longest(), held.stands_until()).await;
                self.mark_expired(held);
                Err(ended())
            }
            Ok(sent) => {
                held.extend_deadline(sent, ttl);
                self.announce_for(held.strategy, sent, sent + ttl.as_duration());
                count(&self.counters.extended);
                Ok(())
            }
            Err(error) => {
                if matches!(error, Error::LockLost(_)) {
                    self.mark_lost(held, LossCause::Taken, TAKEN);
                }
                Err(error)
            }
        };
        drop(turn);
        result
    }
}

fn ended() -> Error {
    Error::lost(
        "the lease has ended, so it cannot be extended. Acquire it again, and let the token fence off earlier writes",
    )
}
