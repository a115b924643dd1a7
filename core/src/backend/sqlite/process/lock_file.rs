//! One lock file of this process: its thread, its waiters, its users, and what they share.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::background_undo::{BackgroundUndo, LeaseToUndo};
use super::file_watch::FileWatch;
use crate::backend::contract::LossListener;
use crate::backend::sqlite::commit::committer::{CommitListener, Committer};
use crate::backend::sqlite::commit::group_commit::GroupCommit;
use crate::backend::sqlite::environment::Environment;
use crate::backend::sqlite::open::stores::Stores;
use crate::backend::sqlite::process::reaper;
use crate::backend::sqlite::store::{Store, release_idle_snapshots};
use crate::backend::sqlite::waiters::local_waiters::LocalWaiters;
use crate::backend::sqlite::waiters::poller::Poller;
use crate::error::{Error, Result};
use crate::runtime::clock::BootInstant;
use crate::runtime::executor::Executor;
use crate::runtime::sync::Mutex;

/// The listeners of a file's users.
type Listeners = Arc<Mutex<Vec<LossListener>>>;

/// A lock file, open or not.
pub struct LockFile {
    executor: Executor,
    commits: Arc<GroupCommit>,
    poller: Arc<Poller>,
    listeners: Listeners,
    undo: Arc<BackgroundUndo>,
    watch: Arc<FileWatch>,
}

impl LockFile {
    /// For the file at this absolute path. Starts its thread, opens nothing.
    pub fn new(
        environment: &'static Environment,
        stores: &'static Stores,
        path: PathBuf,
        allow_network: bool,
    ) -> Result<Self> {
        let executor = Executor::start("fencelock-sql")?;
        let (waiters, listeners) = (Arc::<LocalWaiters>::default(), Listeners::default());
        let events = FileEvents {
            executor: executor.clone(),
            waiters: Arc::clone(&waiters),
            listeners: Arc::clone(&listeners),
        };
        let committer = Committer::new(environment, stores, path, allow_network, Box::new(events));
        let commits = Arc::new(GroupCommit::new(Arc::new(committer)));
        let poller = Arc::new(Poller::new(waiters, Arc::clone(&commits), executor.clone()));
        let undo = Arc::new(BackgroundUndo::new(Arc::clone(&commits)));
        let watch = Arc::new(FileWatch::new(commits.committer()));
        Ok(Self { executor, commits, poller, listeners, undo, watch })
    }

    /// Its thread.
    pub const fn executor(&self) -> &Executor {
        &self.executor
    }

    /// Its transactions of one caller.
    pub fn committer(&self) -> &Arc<Committer> {
        self.commits.committer()
    }

    /// Its transactions that several tasks share.
    pub const fn commits(&self) -> &Arc<GroupCommit> {
        &self.commits
    }

    /// What wakes its waiters.
    pub const fn poller(&self) -> &Arc<Poller> {
        &self.poller
    }

    /// Has the file checked while this process has leases in it: this one ends at this moment.
    pub fn hold_until(&self, end: BootInstant) {
        self.watch.hold_until(end, &self.executor);
    }

    /// Whether the file is being checked.
    #[cfg(test)]
    pub(crate) fn is_watched(&self) -> bool {
        self.watch.is_running()
    }

    /// Releases a lease in the background, for at most this long, if this error means that it may still be
    /// there.
    pub fn undo_after(&self, error: &Error, lease: impl FnOnce() -> LeaseToUndo, limit: Duration) {
        if matches!(error, Error::BackendUnavailable(_) | Error::OutcomeUnknown(_)) {
            self.undo.add(&self.executor, lease(), limit);
        }
    }

    /// How many leases are being released in the background.
    pub fn pending_undos(&self) -> usize {
        self.undo.pending()
    }

    /// The last user has left in good order: finishes what is pending and closes the file. Leases that are
    /// left then expire: they were not released, so their owners may still rely on them.
    fn close(&self) {
        let timeout = self.committer().environment().timeouts.close;
        self.commits.drain(timeout);
        self.undo.finish(timeout);
        // Another user may have joined meanwhile.
        self.committer().close(|| self.listeners.lock().is_empty());
    }
}

/// The parts of a lock file that its committer notifies. Keeps neither the committer nor the file.
struct FileEvents {
    executor: Executor,
    waiters: Arc<LocalWaiters>,
    listeners: Listeners,
}

impl CommitListener for FileEvents {
    fn on_opened(&self, store: &Arc<Store>) {
        self.executor.spawn(reaper::reap(Arc::downgrade(store)));
        self.executor.spawn(release_idle_snapshots(Arc::downgrade(store)));
    }

    fn on_ended(&self) {
        self.waiters.notify_ended();
    }

    fn on_replaced(&self, since: BootInstant) {
        self.waiters.wake_all();
        let listeners = self.listeners.lock().clone();
        for listener in listeners {
            listener(since);
        }
    }
}

impl fmt::Debug for LockFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockFile").field("path", &self.committer().path()).finish_non_exhaustive()
    }
}

/// One user of a lock file. Dropped without [`FileUser::leave`], it leaves its leases to expire.
pub struct FileUser {
    file: Arc<LockFile>,
    listener: LossListener,
}

impl FileUser {
    pub(crate) fn new(file: Arc<LockFile>, listener: LossListener) -> Self {
        file.listeners.lock().push(Arc::clone(&listener));
        Self { file, listener }
    }

    /// The file it uses.
    pub const fn file(&self) -> &Arc<LockFile> {
        &self.file
    }

    /// Stops using the file. The last user closes it; that blocks, so it is called on the file's thread.
    pub fn leave(self) {
        let file = Arc::clone(&self.file);
        drop(self);
        let is_last = file.listeners.lock().is_empty();
        if is_last {
            file.close();
        }
    }
}

impl Drop for FileUser {
    fn drop(&mut self) {
        self.file.listeners.lock().retain(|listener| !Arc::ptr_eq(listener, &self.listener));
    }
}

impl fmt::Debug for FileUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}
