//! The calls that can be cancelled, by slot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fencelock_core::runtime::cancellation::Cancel;

type BySlot = Arc<Mutex<HashMap<u32, Arc<Cancel>>>>;

/// The cancellable calls of one manager.
#[derive(Default)]
pub(crate) struct Cancellations(BySlot);

impl Cancellations {
    /// Registers a call. A call that does not wait cannot be cancelled, and is not registered.
    pub(crate) fn register(&self, slot: u32, waits: bool) -> Cancellable {
        Cancellable(waits.then(|| {
            let cancel = Arc::<Cancel>::default();
            lock(&self.0).insert(slot, Arc::clone(&cancel));
            Registered { calls: Arc::clone(&self.0), slot, cancel }
        }))
    }

    /// Cancels a call, if it is still in progress.
    pub(crate) fn cancel(&self, slot: u32) {
        if let Some(cancel) = lock(&self.0).get(&slot) {
            cancel.cancel();
        }
    }
}

/// A call in progress. Must be dropped before its slot is settled, because another call may then get the
/// slot.
pub(crate) struct Cancellable(Option<Registered>);

struct Registered {
    calls: BySlot,
    slot: u32,
    cancel: Arc<Cancel>,
}

impl Cancellable {
    /// What cancels the call; `None` if it does not wait.
    pub(crate) fn cancel(&self) -> Option<Arc<Cancel>> {
        self.0.as_ref().map(|registered| Arc::clone(&registered.cancel))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.calls).remove(&self.slot);
    }
}

fn lock(calls: &Mutex<HashMap<u32, Arc<Cancel>>>) -> MutexGuard<'_, HashMap<u32, Arc<Cancel>>> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}
