//! Releases in the background what could not be released in time.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;

use crate::backend::sqlite::commit::group_commit::GroupCommit;
use crate::backend::sqlite::commit::operations;
use crate::backend::sqlite::retry::RetryBudget;
use crate::backend::sqlite::store::access::Needs;
use crate::backend::sqlite::store::transaction::Tx;
use crate::lease::{Owner, Resources};
use crate::runtime::backoff::Backoff;
use crate::runtime::clock::BootInstant;
use crate::runtime::executor::Executor;
use crate::runtime::sync::Mutex;
use crate::runtime::undo::{IfMissing, Undo, UndoQueue, UndoResult, UndoStep};

/// The most releases in one transaction.
const MAX_BATCH: usize = 256;

/// A lease that must be released, or may have to be.
#[derive(Clone)]
pub struct LeaseToUndo {
    /// What it locks.
    pub resources: Resources,
    /// Whose it is.
    pub owner: Owner,
    /// Until when the rest of its minimum is to be left.
    pub stands_until: Option<BootInstant>,
}

impl LeaseToUndo {
    fn release(&self, tx: &mut Tx<'_>) -> rusqlite::Result<bool> {
        operations::release(tx, &self.resources, self.owner, self.stands_until)
    }
}

/// The leases of one lock file that are to be released.
pub struct BackgroundUndo {
    commits: Arc<GroupCommit>,
    state: Mutex<State>,
    added: Arc<Notify>,
}

struct State {
    queue: UndoQueue<LeaseToUndo>,
    /// Those of the attempt that is under way.
    attempted: Vec<LeaseToUndo>,
}

impl BackgroundUndo {
    /// Nothing is to be undone.
    pub fn new(commits: Arc<GroupCommit>) -> Self {
        let state = State { queue: UndoQueue::new(MAX_BATCH), attempted: Vec::new() };
        Self { commits, state: Mutex::new(state), added: Arc::default() }
    }

    /// Releases a lease on this thread, for at most this long.
    pub fn add(self: &Arc<Self>, executor: &Executor, target: LeaseToUndo, limit: Duration) {
        let now = self.commits.committer().environment().clock.boot();
        let mut backoff = Backoff::UNDO;
        let undo = Undo {
            target,
            // What was submitted before has run.
            if_missing: IfMissing::Done,
            until: now + limit,
            answered: false,
            // The first attempt has just failed.
            due: now + backoff.next_pause(),
            backoff,
        };
        if self.state.lock().queue.add(undo) {
            // Does not keep the file: it closes when its users leave.
            executor.spawn(work(Arc::downgrade(self)));
        } else {
            self.added.notify_one();
        }
    }

    /// How many leases are not released yet.
    pub fn pending(&self) -> usize {
        self.state.lock().queue.pending()
    }

    /// Releases everything in one transaction, at once. Blocks the thread for at most this long.
    pub fn finish(&self, limit: Duration) {
        let undos = {
            let mut state = self.state.lock();
            let mut undos = std::mem::take(&mut state.attempted);
            undos.extend(state.queue.take_all().into_iter().map(|undo| undo.target));
            undos
        };
        if undos.is_empty() {
            return;
        }
        let _ = self.commits.committer().transact(Needs::WRITE, &mut RetryBudget::new(limit), &mut |tx| {
            undos.iter().try_for_each(|undo| undo.release(tx).map(|_| ()))
        });
    }

    /// Attempts to undo these, and records the results.
    async fn attempt(&self, undos: Vec<Undo<LeaseToUndo>>) {
        let targets: Vec<_> = undos.iter().map(|undo| undo.target.clone()).collect();
        self.state.lock().attempted.clone_from(&targets);
        let releases = targets
            .into_iter()
            .map(|target| self.commits.submit(Needs::END, false, move |tx| target.release(tx)));
        let results = join_all(releases).await.into_iter().map(|released| match released {
            Ok(true) => UndoResult::Deleted,
            Ok(false) => UndoResult::Missing,
            Err(_) => UndoResult::Failed,
        });
        let now = self.commits.committer().environment().clock.boot();
        let mut state = self.state.lock();
        state.attempted.clear();
        state.queue.settle(undos, results, now);
    }
}

/// Undoes what is due, until nothing is left.
async fn work(undo: Weak<BackgroundUndo>) {
    let _abort = scopeguard::guard_on_unwind(Weak::clone(&undo), |undo| {
        if let Some(open) = undo.upgrade() {
            open.state.lock().queue.abort();
        }
    });
    loop {
        let Some(open) = undo.upgrade() else { return };
        let now = open.commits.committer().environment().clock.boot();
        let step = open.state.lock().queue.step(now);
        match step {
            UndoStep::Exit => return,
            UndoStep::Sleep(time) => {
                let added = Arc::clone(&open.added);
                drop(open);
                let _ = tokio::time::timeout(time, added.notified()).await;
            }
            UndoStep::Attempt(undos) => open.attempt(undos).await,
        }
    }
}
