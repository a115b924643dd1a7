//! Group commit: operations that are submitted at the same time share one transaction, because a commit costs
//! several times as much as one operation in it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scopeguard::ScopeGuard;
use tokio::sync::oneshot;

use super::committer::{AfterFailure, Committer};
use crate::backend::sqlite::retry::RetryBudget;
use crate::backend::sqlite::store::access::{Access, Needs, Priority};
use crate::backend::sqlite::store::transaction::Tx;
use crate::error::{Error, Result};
use crate::runtime::sync::Mutex;

/// The most operations in one transaction, so that other processes get the lock within about a millisecond or
/// two.
const MAX_BATCH: usize = 256;
/// How long the thread itself waits for other processes, in short pauses. A longer wait happens in a task, so
/// that more operations can be submitted meanwhile, each with its own timeout.
const BLOCKING_LIMIT: Duration = Duration::from_millis(2);
/// The pause between the attempts of that task.
const PAUSE: Duration = Duration::from_millis(1);

/// One submitted operation.
trait PendingOperation: Send {
    fn needs(&self) -> Needs;
    fn submitted(&self) -> Instant;
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    /// What it has done does not count, because there is no lock file.
    fn discard(&mut self);
    fn finish(self: Box<Self>, outcome: Result<()>);
}

type OperationBatch = Vec<Box<dyn PendingOperation>>;

struct Submission<T, F> {
    needs: Needs,
    submitted: Instant,
    work: F,
    result: Option<T>,
    /// The result if there is no lock file.
    absent: T,
    reply: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send> PendingOperation for Submission<T, F> {
    fn needs(&self) -> Needs {
        self.needs
    }

    fn submitted(&self) -> Instant {
        self.submitted
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        self.result = Some((self.work)(tx)?);
        Ok(())
    }

    fn discard(&mut self) {
        self.result = None;
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let Self { result, absent, reply, .. } = *self;
        // The caller may have stopped waiting; what was committed stays.
        let _ = reply.send(outcome.map(|()| result.unwrap_or(absent)));
    }
}

/// The operations that wait for the next transaction of a committer.
pub struct GroupCommit {
    committer: Arc<Committer>,
    pending: Mutex<PendingOperations>,
}

#[derive(Default)]
struct PendingOperations {
    /// By [`Priority`]: a renewal must not wait for a burst of acquires, nor for one of releases.
    queues: [VecDeque<Box<dyn PendingOperation>>; 3],
    /// Whether a task is about to take them.
    is_running: bool,
}

impl PendingOperations {
    fn queue_for(&mut self, operation: &dyn PendingOperation) -> &mut VecDeque<Box<dyn PendingOperation>> {
        &mut self.queues[operation.needs().priority as usize]
    }

    fn add(&mut self, operation: Box<dyn PendingOperation>) {
        self.queue_for(&*operation).push_back(operation);
    }

    /// Takes the next transaction's operations: at most [`MAX_BATCH`].
    fn take_batch(&mut self) -> OperationBatch {
        let mut batch = OperationBatch::new();
        for queue in &mut self.queues {
            let count = queue.len().min(MAX_BATCH - batch.len());
            batch.extend(queue.drain(..count));
        }
        batch
    }

    /// Puts operations of a batch back in their places.
    fn put_back(&mut self, batch: OperationBatch) {
        batch.into_iter().rev().for_each(|operation| self.queue_for(&*operation).push_front(operation));
    }
}

/// The result of [`GroupCommit::run_batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BatchResult {
    /// The batch is finished, successfully or not.
    Finished,
    /// Another process is in the way; some of the batch waits again.
    Blocked,
    /// Nothing was pending, and `is_running` was reset.
    Idle,
}

/// The result of one transaction for a batch.
enum BatchTransaction {
    /// It was committed, or its commit failed.
    Ended(Result<()>),
    /// An operation failed, as opposed to the begin or the commit.
    OperationFailed(Error),
    /// Nothing was done, because another process was in the way.
    Blocked(Error),
    /// No operation has run, because the file cannot be opened or created.
    NotOpened(Error),
}

impl GroupCommit {
    /// With nothing pending.
    pub fn new(committer: Arc<Committer>) -> Self {
        Self { committer, pending: Mutex::default() }
    }

    /// The committer of the transactions.
    pub const fn committer(&self) -> &Arc<Committer> {
        &self.committer
    }

    /// Runs an operation in the file's next transaction. `absent` is the result if there is no lock file and
    /// the operation does not create one. To be awaited on the file's own thread.
    pub async fn submit<T: Send + 'static>(
        self: &Arc<Self>,
        needs: Needs,
        absent: T,
        work: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, result) = oneshot::channel();
        let is_running = {
            let mut pending = self.pending.lock();
            let submitted = Instant::now();
            pending.add(Box::new(Submission { needs, submitted, work, result: None, absent, reply }));
            std::mem::replace(&mut pending.is_running, true)
        };
        if !is_running {
            tokio::spawn(Arc::clone(self).run());
        }
        result.await.unwrap_or_else(|_| {
            Err(Error::unavailable(
                "an operation on the lock file failed because of an internal error of fencelock; nothing was \
                 granted. Please report this",
            ))
        })
    }

    /// Runs what is pending, until nothing is.
    async fn run(self: Arc<Self>) {
        // If an operation panics, the others of its batch get an error, and the next submission starts a new
        // task.
        let reset = scopeguard::guard((), |()| *self.pending.lock() = PendingOperations::default());
        loop {
            // Tasks that are ready submit their operations first.
            tokio::task::yield_now().await;
            match self.run_batch(self.committer.environment().timeouts.task) {
                BatchResult::Finished => {}
                BatchResult::Blocked => tokio::time::sleep(PAUSE).await,
                BatchResult::Idle => break,
            }
        }
        ScopeGuard::into_inner(reset);
    }

    /// Runs everything that is pending on this thread, without yielding. What takes longer than this in all
    /// fails.
    pub fn drain(&self, limit: Duration) {
        let end = Instant::now() + limit;
        loop {
            let timeout = self.committer.environment().timeouts.task;
            let timeout = if Instant::now() < end { timeout } else { Duration::ZERO };
            match self.run_batch(timeout) {
                BatchResult::Finished => {}
                BatchResult::Blocked => std::thread::sleep(PAUSE),
                BatchResult::Idle => return,
            }
        }
    }

    /// One transaction for the operations that go first, and for those that have waited longest. Those that
    /// have waited longer than `timeout` fail.
    fn run_batch(&self, timeout: Duration) -> BatchResult {
        let mut batch: OperationBatch = {
            let mut pending = self.pending.lock();
            let batch = pending.take_batch();
            pending.is_running = !batch.is_empty();
            batch
        };
        if batch.is_empty() {
            return BatchResult::Idle;
        }
        match self.transact(&mut batch, AfterFailure::Reopen) {
            // Perhaps one of them met a row that cannot be read. The transaction was rolled back.
            BatchTransaction::OperationFailed(_) if batch.len() > 1 => self.run_one_by_one(batch, timeout),
            transaction => self.conclude(batch, transaction, timeout),
        }
    }

    /// Settles a batch after a transaction that did not fail because of one of its operations.
    fn conclude(
        &self,
        batch: OperationBatch,
        transaction: BatchTransaction,
        timeout: Duration,
    ) -> BatchResult {
        match transaction {
            BatchTransaction::Blocked(error) => {
                // Readers need not wait for the write lock.
                let (writers, readers) = split(batch, |needs| needs.access == Access::Write);
                self.run_unaffected(readers, writers, BatchTransaction::Blocked(error), timeout)
            }
            BatchTransaction::NotOpened(error) => {
                // Operations that do not create the file must not fail because it cannot be created.
                let (creating, others) = split(batch, |needs| needs.create);
                self.run_unaffected(others, creating, BatchTransaction::NotOpened(error), timeout)
            }
            ended => self.settle(batch, ended, timeout),
        }
    }

    /// Repeats each operation in a transaction of its own. If a page is damaged, many of them may fail: the
    /// file is opened anew once for all of them, and once more for those that come later.
    fn run_one_by_one(&self, batch: OperationBatch, timeout: Duration) -> BatchResult {
        let _retired = scopeguard::guard((), |()| self.committer.retire_broken());
        let mut operations = batch.into_iter();
        while let Some(operation) = operations.next() {
            let mut single = vec![operation];
            let transaction = self.transact(&mut single, AfterFailure::Keep);
            if matches!(transaction, BatchTransaction::Blocked(_) | BatchTransaction::NotOpened(_)) {
                // The others would meet the same; those that wait again do so together, in their order.
                single.extend(operations);
                return self.conclude(single, transaction, timeout);
            }
            self.settle(single, transaction, timeout);
        }
        BatchResult::Finished
    }

    /// Repeats the operations that a failed begin does not affect, and settles the others. If all are
    /// affected, or none, nothing is repeated.
    fn run_unaffected(
        &self,
        mut unaffected: OperationBatch,
        affected: OperationBatch,
        failed: BatchTransaction,
        timeout: Duration,
    ) -> BatchResult {
        if affected.is_empty() {
            return self.settle(unaffected, failed, timeout);
        }
        if !unaffected.is_empty() {
            let transaction = self.transact(&mut unaffected, AfterFailure::Reopen);
            self.settle(unaffected, transaction, timeout);
        }
        self.settle(affected, failed, timeout)
    }

    /// Reports the result of a transaction to its operations, or has them wait again.
    fn settle(&self, batch: OperationBatch, transaction: BatchTransaction, timeout: Duration) -> BatchResult {
        let outcome = match transaction {
            BatchTransaction::Ended(outcome) => outcome,
            BatchTransaction::OperationFailed(error) | BatchTransaction::NotOpened(error) => Err(error),
            BatchTransaction::Blocked(error) => {
                let (late, rest): (OperationBatch, OperationBatch) =
                    batch.into_iter().partition(|operation| operation.submitted().elapsed() >= timeout);
                let is_blocked = !rest.is_empty();
                self.pending.lock().put_back(rest);
                finish(late, &Err(error));
                return if is_blocked { BatchResult::Blocked } else { BatchResult::Finished };
            }
        };
        finish(batch, &outcome);
        BatchResult::Finished
    }

    /// Runs a batch, which is not empty, in one transaction.
    fn transact(
        &self,
        batch: &mut [Box<dyn PendingOperation>],
        after_failure: AfterFailure,
    ) -> BatchTransaction {
        let needs = Needs {
            access: if batch.iter().any(|operation| operation.needs().access == Access::Write) {
                Access::Write
            } else {
                Access::Read
            },
            create: batch.iter().any(|operation| operation.needs().create),
            priority: Priority::Rest,
        };
        let oldest = batch.iter().map(|operation| operation.submitted()).min().unwrap_or_else(Instant::now);
        let mut budget = RetryBudget::resumed(oldest, BLOCKING_LIMIT);
        let (mut has_begun, mut has_failed) = (false, false);
        let outcome = self.committer.transact_with(needs, &mut budget, after_failure, &mut |tx| {
            has_begun = true;
            batch.iter_mut().try_for_each(|operation| operation.run(tx)).inspect_err(|_| has_failed = true)
        });
        match outcome {
            Err(error) if has_failed => BatchTransaction::OperationFailed(error),
            // At the begin or, with a rollback journal, at the commit: then it was rolled back.
            Err(error) if budget.is_exhausted() => BatchTransaction::Blocked(error),
            Err(error) if !has_begun => BatchTransaction::NotOpened(error),
            Ok(false) => {
                for operation in batch {
                    operation.discard();
                }
                BatchTransaction::Ended(Ok(()))
            }
            outcome => BatchTransaction::Ended(outcome.map(|_| ())),
        }
    }
}

/// The operations with such needs, and the others.
fn split(batch: OperationBatch, has: impl Fn(Needs) -> bool) -> (OperationBatch, OperationBatch) {
    batch.into_iter().partition(|operation| has(operation.needs()))
}

fn finish(batch: OperationBatch, outcome: &Result<()>) {
    for operation in batch {
        operation.finish(outcome.clone());
    }
}
