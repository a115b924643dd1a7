//! The end of a manager: what it holds is released, what is under way is waited for, its backends are given up.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Manager;
use super::held_lease::{HeldLease, RELEASED};
use crate::backend::Backend;
use crate::backend::contract::LockBackend;
use crate::lease::Strategy;

/// How long a closing manager waits for attempts that are still under way. The backends bound each of them.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

impl Manager {
    /// Takes no further attempt, and hands out what is held: the caller releases it.
    fn shut(&self) -> Vec<Arc<HeldLease>> {
        let mut leases = self.lock();
        leases.closed = true;
        let held: Vec<_> = leases.held.drain().map(|(_, held)| held).collect();
        drop(leases);
        self.closing.cancel();
        // Lost ones as well: nobody knows what an unacknowledged extension made of them, and releasing compares owners.
        for lease in &held {
            if lease.end(RELEASED) && lease.watched.load(Ordering::SeqCst) {
                (self.observer)(lease.id, "the lease ends because its manager was closed".to_owned());
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

    /// Releases everything and gives up the backends, as far as their time limits allow. Calls `done` when that is
    /// over, from a thread of ours or at once.
    pub fn close(self: &Arc<Self>, done: impl FnOnce() + Send + 'static) {
        let held = self.shut();
        // Whoever finishes last, or fails to start, drops the last of these.
        let last = Arc::new(Last(Mutex::new(Some(Box::new(done)))));
        for (strategy, backend) in self.used() {
            let Ok(executor) = backend.executor() else { continue };
            let leases: Vec<_> = held.iter().filter(|lease| lease.strategy == strategy).cloned().collect();
            let (manager, backend, last) = (Arc::clone(self), Arc::clone(backend), Arc::clone(&last));
            executor.spawn(async move {
                manager.release_all(&backend, leases).await;
                let _ = tokio::time::timeout(CLOSE_PATIENCE, manager.quiet()).await;
                backend.close().await;
                drop(last);
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
                let _ = self.booked(released);
            }
        }
    }

    /// Until no attempt is pending.
    async fn quiet(&self) {
        loop {
            let idle = self.idle.notified();
            if self.counters.pending.load(Ordering::Relaxed) == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// Calls its function when it is dropped.
struct Last(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(done) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            done();
        }
    }
}
