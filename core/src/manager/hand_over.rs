//! Leases that change hands: one holder gives its lease away, and another one, perhaps in another process,
//! adopts it.

use std::sync::Arc;

use super::acquire::wanted::Wanted;
use super::acquire::{self, Settled};
use super::held_lease::LeaseId;
use super::observer::LossCause;
use super::{Acquired, Manager, PendingCall, TAKEN};
use crate::backend::contract::{Attempt, LockBackend};
use crate::error::{Error, Result};
use crate::lease::{Owner, Strategy, Ttl};

impl Manager {
    /// Gives a lease away: from then on it is not held here, and lives by its TTL until another owner adopts
    /// it. Returns the TTL it was granted with. After an error other than [`Error::LockLost`] it is held as
    /// before.
    pub async fn hand_over(self: &Arc<Self>, id: LeaseId) -> Result<Ttl> {
        let pending = PendingCall::new(self);
        let manager = &pending.0;
        let held = manager.find(id).ok_or_else(ended)?;
        // After the extension that is in flight, which could undo this; and none begins meanwhile.
        let _turn = held.extending().lock().await;
        if held.remaining(manager.clock.boot()).is_zero() {
            manager.mark_expired(&held);
            return Err(ended());
        }
        let backend = manager.open_backend(held.strategy)?;
        if let Err(error) = backend.hand_over(&held.resources, held.owner).await {
            if matches!(error, Error::LockLost(_)) {
                manager.mark_lost(&held, LossCause::Taken, TAKEN);
            }
            return Err(error);
        }
        // Its holder may have released it meanwhile, or it was found lost.
        match manager.take_out(id) {
            Some((held, _)) if held.is_released() => Ok(held.ttl),
            _ => Err(ended()),
        }
    }

    /// Takes a lease over from this owner, with one attempt. The call is pending from now on, however late
    /// the future is polled.
    pub fn adopt(
        self: &Arc<Self>,
        strategy: Strategy,
        wanted: &Wanted,
        from: Owner,
    ) -> impl Future<Output = Result<Acquired>> + Send + use<> {
        let pending = PendingCall::new(self);
        let (request, renew) = (wanted.first(), wanted.renew);
        Box::pin(async move {
            let manager = &pending.0;
            let backend = &manager.accepting(strategy)?.backend;
            let mut outcome = backend.adopt(&request, from).await.map(Attempt::Granted);
            let refusal =
                outcome.as_ref().ok().map(|attempt| acquire::check(attempt, &manager.clock, &request));
            if let Some(Err(error)) = refusal {
                acquire::release_unused(backend, request.clone()).await;
                outcome = Err(error);
            }
            let outcome = outcome.map(|attempt| Settled::new(request, attempt));
            manager.settle(strategy, renew, outcome).await
        })
    }
}

fn ended() -> Error {
    Error::lost("the lease has ended, so it cannot be handed over")
}
