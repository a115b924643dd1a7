//! The end of a manager: its leases are released, pending calls are awaited, its backends are closed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Manager;
use super::held_lease::{HeldLease, RELEASED};
use crate::backend::Backend;
use crate::backend::contract::LockBackend;
use crate::lease::Strategy;

/// How long a closing manager waits for attempts that are still in flight. The backends bound each of them.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

impl Manager {
    /// Accepts no further attempt, and hands over what is held: the caller releases it.
    fn stop_accepting(&self) -> Vec<Arc<HeldLease>> {
        let mut leases = self.leases.lock();
        leases.closed = true;
        let held: Vec<_> = leases.held.drain().map(|(_, held)| held).collect();
        drop(leases);
        self.closing.cancel();
        // Lost ones as well: an extension without acknowledgement may have revived them, and releasing
        // compares owners.
        for lease in &held {
            if lease.end(RELEASED) && lease.watched.load(Ordering::SeqCst) {
                (self.listener)(lease.id, "the lease ends because its manager was closed".to_owned());
            }
        }
        held
    }

    /// The backends that were used, each with its strategy.
    fn used(&self) -> impl Iterator<Item = (Strategy, &Arc<Backend>)> {
        self.backends.iter().filter_map(|(strategy, configured)| {
            let configured = configured.as_ref().filter(|it| it.used.load(Ordering::Relaxed))?;
            Some((strategy, &configured.backend))
        })
    }

    /// Releases everything and closes the backends, as far as their time limits allow. Calls `done` at the
    /// end, from a thread of ours or before this returns.
    pub fn close(self: &Arc<Self>, done: impl FnOnce() + Send + 'static) {
        let held = self.stop_accepting();
        // Each task has a clone. The last one to be dropped calls `done`, also when a task panics or cannot
        // start.
        let done = Arc::new(scopeguard::guard((), move |()| done()));
        for (strategy, backend) in self.used() {
            let Ok(executor) = backend.executor() else { continue };
            let leases: Vec<_> = held.iter().filter(|lease| lease.strategy == strategy).cloned().collect();
            let (manager, backend, done) = (Arc::clone(self), Arc::clone(backend), Arc::clone(&done));
            executor.spawn(async move {
                manager.release_all(&backend, leases).await;
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, manager.drained()).await;
                backend.close().await;
                drop(done);
            });
        }
    }

    async fn release_all(&self, backend: &Arc<Backend>, leases: Vec<Arc<HeldLease>>) {
        let mut releases = tokio::task::JoinSet::new();
        for lease in leases {
            let backend = Arc::clone(backend);
            releases
                .spawn(async move { backend.release(&lease.resources, lease.owner, lease.longest()).await });
        }
        while let Some(released) = releases.join_next().await {
            if let Ok(released) = released {
                let _ = self.record_release(released);
            }
        }
    }

    /// Returns when no call is pending.
    async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            if self.counters.pending.load(Ordering::Relaxed) == 0 {
                return;
            }
            idle.await;
        }
    }
}
