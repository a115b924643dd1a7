//! Has the backends tell who this manager is, so that others can see who holds its leases. Beside its calls:
//! no call waits for it, and nothing fails because of it.

pub(in crate::manager) mod announcement;

use std::sync::Arc;

use super::Manager;
use crate::backend::contract::LockBackend;
use crate::lease::{Holder, HolderId, Owner, Strategy};
use crate::runtime::clock::BootInstant;

impl Manager {
    /// New owners of this manager, for use at once.
    pub fn new_owners(&self, count: usize) -> impl Iterator<Item = Owner> + use<> {
        Owner::several(self.holder_id, count)
    }

    /// A new owner of this manager, for use at once.
    pub fn new_owner(&self) -> Owner {
        self.new_owners(1).next().expect("one was asked for")
    }

    /// A lease that was asked for at this moment lasts until `end`.
    pub(super) fn announce_for(self: &Arc<Self>, strategy: Strategy, sent: BootInstant, end: BootInstant) {
        if self.configured(strategy).is_ok_and(|configured| !configured.announcement.covers(sent, end)) {
            self.announce(strategy, end);
        }
    }

    #[cold]
    fn announce(self: &Arc<Self>, strategy: Strategy, end: BootInstant) {
        let Ok(configured) = self.configured(strategy) else { return };
        let Ok(executor) = configured.backend.executor() else { return };
        let Some(lasts) = configured.announcement.claim(self.clock.boot(), end) else { return };
        let manager = Arc::downgrade(self);
        executor.spawn(async move {
            let Some(manager) = manager.upgrade() else { return };
            let Ok(configured) = manager.configured(strategy) else { return };
            if configured.backend.announce(manager.holder_id, &manager.holder, lasts).await.is_err() {
                configured.announcement.failed(manager.clock.boot());
            }
        });
    }

    /// Who has this owner, as it is stored; `None` if that is unknown.
    pub(super) async fn holder_of(&self, strategy: Strategy, owner: &str) -> Option<Holder> {
        let id = Owner::from_hex(owner)?.holder();
        self.holder_with(strategy, id).await
    }

    pub(super) async fn holder_with(&self, strategy: Strategy, id: HolderId) -> Option<Holder> {
        if id == self.holder_id {
            return Some(self.holder.clone());
        }
        self.configured(strategy).ok()?.backend.look_up_holder(id).await
    }
}
