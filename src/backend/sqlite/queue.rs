//! Group commit: what many tasks ask for at once is done in one transaction. A commit costs several times what one
//! operation in it does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::file::File;
use super::rows::Tx;
use super::store::Access;
use crate::error::{Error, Result};

/// Most operations of one transaction, so that other processes get their turn within about a millisecond or two.
const MOST_JOBS: usize = 256;

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Whether it writes.
    pub access: Access,
    /// Whether it makes the file if there is none.
    pub create: bool,
}

/// One operation of one task.
trait Job: Send {
    fn needs(&self) -> Needs;
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    fn finish(self: Box<Self>, outcome: Result<()>);
}

struct Call<T, F> {
    needs: Needs,
    work: F,
    /// What there is to say without a lock file, until the work has been done.
    answer: T,
    reply: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send> Job for Call<T, F> {
    fn needs(&self) -> Needs {
        self.needs
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        self.answer = (self.work)(tx)?;
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let Self { answer, reply, .. } = *self;
        // Whoever asked may have gone; what was done stands.
        let _ = reply.send(outcome.map(|()| answer));
    }
}

/// The operations that wait for the next transaction.
#[derive(Default)]
pub struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Box<dyn Job>>,
    /// Whether a task is about to take them.
    attended: bool,
}

impl Queue {
    // A std Mutex: nothing awaits while it is held.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn len(&self) -> usize {
        self.waiting().jobs.len()
    }
}

/// Does an operation in the file's next transaction. `absent` is the answer if there is no lock file and the operation
/// does not make one. To be awaited on the file's own thread.
pub async fn submit<T: Send + 'static>(
    file: &Arc<File>,
    needs: Needs,
    absent: T,
    work: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T> {
    let (reply, answer) = oneshot::channel();
    let attended = {
        let mut waiting = file.queue.waiting();
        waiting.jobs.push_back(Box::new(Call { needs, work, answer: absent, reply }));
        std::mem::replace(&mut waiting.attended, true)
    };
    if !attended {
        tokio::spawn(attend(Arc::clone(file)));
    }
    answer.await.unwrap_or_else(|_| {
        Err(Error::unavailable("an operation on the lock file failed inside fencelock; nothing was granted"))
    })
}

/// Does what waits, until nothing does.
async fn attend(file: Arc<File>) {
    let leave = Leave(&file.queue);
    loop {
        // Those who are ready add theirs first, as long as more come.
        let mut before = 0;
        loop {
            tokio::task::yield_now().await;
            let now = file.queue.len();
            if now == before || now >= MOST_JOBS {
                break;
            }
            before = now;
        }
        if !run_batch(&file) {
            break;
        }
    }
    // Not by unwinding: `run_batch` said so itself.
    std::mem::forget(leave);
}

/// Does everything that waits, without giving way to others.
pub fn run_all(file: &File) {
    while file.queue.len() > 0 {
        run_batch(file);
    }
}

/// If an operation panics, its neighbours learn of it, and the next operation finds the queue unattended.
struct Leave<'a>(&'a Queue);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        *self.0.waiting() = Waiting::default();
    }
}

/// `false`: nothing waited, and the queue is left unattended.
fn run_batch(file: &File) -> bool {
    let mut batch: Vec<Box<dyn Job>> = {
        let mut waiting = file.queue.waiting();
        let count = waiting.jobs.len().min(MOST_JOBS);
        waiting.attended = count > 0;
        waiting.jobs.drain(..count).collect()
    };
    if batch.is_empty() {
        return false;
    }
    let mut faulty = false;
    let outcome = run_together(file, &mut batch, &mut faulty);
    if faulty && batch.len() > 1 {
        // One of them met a row that cannot be read, perhaps. The transaction was rolled back, so the others are done
        // again, each by itself.
        for job in batch {
            let mut alone = [job];
            let outcome = run_together(file, &mut alone, &mut faulty);
            let [job] = alone;
            job.finish(outcome);
        }
    } else {
        for job in batch {
            job.finish(outcome.clone());
        }
    }
    true
}

/// One transaction. `faulty` tells whether an operation failed, rather than beginning or committing.
fn run_together(file: &File, jobs: &mut [Box<dyn Job>], faulty: &mut bool) -> Result<()> {
    let needs = Needs {
        access: if jobs.iter().any(|job| job.needs().access == Access::Write) {
            Access::Write
        } else {
            Access::Read
        },
        create: jobs.iter().any(|job| job.needs().create),
    };
    file.transact(needs, file.registry.patience.task, &mut |tx| {
        jobs.iter_mut().try_for_each(|job| job.run(tx)).inspect_err(|_| *faulty = true)
    })
    .map(|_| ())
}
