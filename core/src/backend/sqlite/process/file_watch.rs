//! Notices that the lock file was deleted or replaced while its leases are held and nothing uses it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::backend::sqlite::commit::committer::Committer;
use crate::runtime::clock::BootInstant;
use crate::runtime::executor::Executor;

/// How late a loss may be noticed. A check costs three calls of `stat`.
const INTERVAL: Duration = Duration::from_secs(1);

/// Checks one lock file while this process has leases in it, and only then. Keeps neither the file nor its
/// thread.
#[derive(Debug)]
pub struct FileWatch {
    committer: Weak<Committer>,
    /// When the last of the leases ends, in µs on the boot clock.
    until: AtomicU64,
    is_running: AtomicBool,
}

impl FileWatch {
    /// For the file of this committer. Nothing is held yet.
    pub fn new(committer: &Arc<Committer>) -> Self {
        let (until, is_running) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { committer: Arc::downgrade(committer), until, is_running }
    }

    /// A lease is held, until this moment at most.
    pub fn hold_until(self: &Arc<Self>, end: BootInstant, executor: &Executor) {
        self.until.fetch_max(end.as_micros(), Ordering::SeqCst);
        if !self.is_running.load(Ordering::SeqCst) && !self.is_running.swap(true, Ordering::SeqCst) {
            executor.spawn(watch(Arc::downgrade(self)));
        }
    }

    #[cfg(test)]
    pub(crate) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::SeqCst)
    }

    /// Whether leases may be held. Some that were granted may have expired without being released.
    fn is_needed(&self, committer: &Committer) -> bool {
        let now = committer.environment().clock.boot().as_micros();
        now < self.until.load(Ordering::SeqCst) && committer.may_hold_leases()
    }
}

/// Checks the file until nothing is held.
async fn watch(watch: Weak<FileWatch>) {
    // If a check panics, the next lease starts the task again.
    let _stopped = scopeguard::guard(Weak::clone(&watch), |watch| {
        if let Some(watch) = watch.upgrade() {
            watch.is_running.store(false, Ordering::SeqCst);
        }
    });
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(open) = watch.upgrade() else { return };
        let Some(committer) = open.committer.upgrade() else { return };
        if !open.is_needed(&committer) {
            open.is_running.store(false, Ordering::SeqCst);
            // A lease that was granted meanwhile saw the task running.
            if !open.is_needed(&committer) || open.is_running.swap(true, Ordering::SeqCst) {
                return;
            }
        }
        committer.check_files();
    }
}
