//! The calls that can be cancelled, by slot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fencelock_core::runtime::cancellation::Cancel;

/// Those of one manager.
#[derive(Default)]
pub(crate) struct Waits(Arc<Mutex<HashMap<u32, Arc<Cancel>>>>);

impl Waits {
    /// A call begins. One that does not wait cannot be cancelled, and costs nothing.
    pub(crate) fn begin(&self, slot: u32, waits: bool) -> Call {
        Call(waits.then(|| {
            let cancel = Arc::<Cancel>::default();
            lock(&self.0).insert(slot, Arc::clone(&cancel));
            Listed { calls: Arc::clone(&self.0), slot, cancel }
        }))
    }

    /// Cancels a call, if it is still under way.
    pub(crate) fn cancel(&self, slot: u32) {
        if let Some(cancel) = lock(&self.0).get(&slot) {
            cancel.cancel();
        }
    }
}

/// A call under way. To be dropped before its slot is settled, and so free for another.
pub(crate) struct Call(Option<Listed>);

struct Listed {
    calls: Arc<Mutex<HashMap<u32, Arc<Cancel>>>>,
    slot: u32,
    cancel: Arc<Cancel>,
}

impl Call {
    /// What cancels it, if anything does.
    pub(crate) fn cancel(&self) -> Option<Arc<Cancel>> {
        self.0.as_ref().map(|listed| Arc::clone(&listed.cancel))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.calls).remove(&self.slot);
    }
}

fn lock(calls: &Mutex<HashMap<u32, Arc<Cancel>>>) -> MutexGuard<'_, HashMap<u32, Arc<Cancel>>> {
    // Every change under the lock is a single step.
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}
