//! The calls that can be cancelled, by slot.

use std::collections::HashMap;
use std::sync::Arc;

use fencelock_core::runtime::sync::Mutex;
use tokio_util::sync::CancellationToken;

type BySlot = Arc<Mutex<HashMap<u32, CancellationToken>>>;

/// The cancellable calls of one manager.
#[derive(Default)]
pub(crate) struct Cancellations(BySlot);

impl Cancellations {
    /// Registers a call. A call that does not wait cannot be cancelled, and is not registered.
    pub(crate) fn register(&self, slot: u32, waits: bool) -> Cancellable {
        Cancellable(waits.then(|| {
            let cancel = CancellationToken::new();
            self.0.lock().insert(slot, cancel.clone());
            Registered { calls: Arc::clone(&self.0), slot, cancel }
        }))
    }

    /// Cancels a call, if it is still in progress.
    pub(crate) fn cancel(&self, slot: u32) {
        if let Some(cancel) = self.0.lock().get(&slot) {
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
    cancel: CancellationToken,
}

impl Cancellable {
    /// What cancels the call; `None` if it does not wait.
    pub(crate) fn cancel(&self) -> Option<CancellationToken> {
        self.0.as_ref().map(|registered| registered.cancel.clone())
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.slot);
    }
}
