//! How leases are kept alive: what the wheel does when the time of one has come.

pub(crate) mod policy;

use std::sync::Arc;

use self::policy::Turn;
use super::Manager;
use super::held_lease::HeldLease;
use crate::backend::contract::LockBackend;
use crate::runtime::clock::BootInstant;

impl Manager {
    /// Renews a new lease from now on, if its holder asked for it.
    pub(super) fn keep_alive(self: &Arc<Self>, held: &Arc<HeldLease>) {
        self.look_again(held, held.due());
    }

    /// The wheel's turn: renews a lease that is due, or answers when to look again.
    pub(crate) fn renew_if_due(self: &Arc<Self>, held: &Arc<HeldLease>) -> Option<BootInstant> {
        let renewal = held.renewal()?;
        match renewal.turn(held, self.clock.boot(), &*self.pulse) {
            Turn::Over => None,
            Turn::Later(at) => Some(policy::tick(at, held.ttl)),
            Turn::Renew => match self.open_backend(held.strategy).and_then(|backend| backend.executor()) {
                Ok(executor) => {
                    executor.spawn(Arc::clone(self).renew(Arc::clone(held)));
                    None
                }
                Err(error) => renewal.renewed(held, Err(error), self.clock.boot()),
            },
        }
    }

    /// One renewal. It never revives a lease, as no extension does.
    pub(super) async fn renew(self: Arc<Self>, held: Arc<HeldLease>) {
        let result = self.prolong(&held, held.ttl).await;
        let Some(renewal) = held.renewal() else { return };
        if let Some(at) = renewal.renewed(&held, result, self.clock.boot()) {
            self.look_again(&held, at);
        }
    }

    fn look_again(self: &Arc<Self>, held: &Arc<HeldLease>, at: BootInstant) {
        let Some(renewal) = held.renewal() else { return };
        if let Err(error) = policy::add(at, self, held) {
            renewal.failed(error);
        }
    }
}
