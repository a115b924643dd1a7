//! Group commit: what many tasks ask for at once is done in one transaction. A commit costs several times what one
//! operation in it does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::backend::sqlite::process::lock_file::File;
use crate::backend::sqlite::retry::Wait;
use crate::backend::sqlite::store::Access;
use crate::backend::sqlite::store::rows::Tx;
use crate::error::{Error, Result};

/// Most operations of one transaction, so that other processes get their turn within about a millisecond or two.
const MOST_JOBS: usize = 256;

/// How long the thread itself waits for others, in short pauses. What takes longer is waited for as a task, so that
/// meanwhile more operations can come, each with a patience of its own.
const BLOCKING: Duration = Duration::from_millis(2);
/// The pause between such tries.
const PAUSE: Duration = Duration::from_millis(1);

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Whether it writes.
    pub access: Access,
    /// Whether it makes the file if there is none.
    pub create: bool,
}

/// Looks at a file that may be there.
pub const LOOK: Needs = Needs { access: Access::Read, create: false };
/// Changes a file that may be there.
pub const CHANGE: Needs = Needs { access: Access::Write, create: false };
/// Changes a file that is made if need be.
pub const MAKE: Needs = Needs { access: Access::Write, create: true };

/// One operation of one task.
trait Job: Send {
    fn needs(&self) -> Needs;
    fn asked(&self) -> Instant;
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    fn finish(self: Box<Self>, outcome: Result<()>);
}

struct Call<T, F> {
    needs: Needs,
    asked: Instant,
    work: F,
    /// What there is to say without a lock file, until the work has been done.
    answer: T,
    reply: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send> Job for Call<T, F> {
    fn needs(&self) -> Needs {
        self.needs
    }

    fn asked(&self) -> Instant {
        self.asked
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
        waiting.jobs.push_back(Box::new(Call { needs, asked: Instant::now(), work, answer: absent, reply }));
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
        // Those who are ready add theirs first.
        tokio::task::yield_now().await;
        match run_batch(&file, file.registry.patience.task) {
            Progress::Done => {}
            Progress::Kept => tokio::time::sleep(PAUSE).await,
            Progress::Idle => break,
        }
    }
    // Not by unwinding: `run_batch` said so itself.
    std::mem::forget(leave);
}

/// Does everything that waits, without giving way to others; what takes longer than this in all fails.
pub fn run_all(file: &File, patience: Duration) {
    let end = Instant::now() + patience;
    loop {
        let more = if Instant::now() < end { file.registry.patience.task } else { Duration::ZERO };
        match run_batch(file, more) {
            Progress::Done => {}
            Progress::Kept => std::thread::sleep(PAUSE),
            Progress::Idle => return,
        }
    }
}

/// If an operation panics, its neighbours learn of it, and the next operation finds the queue unattended.
struct Leave<'a>(&'a Queue);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        *self.0.waiting() = Waiting::default();
    }
}

/// What came of a try to do what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// It was done, or failed.
    Done,
    /// Somebody else is in the way; it waits on.
    Kept,
    /// Nothing waited, and the queue is left unattended.
    Idle,
}

/// One transaction for the operations that have waited longest; fails those that have waited longer than `patience`.
fn run_batch(file: &File, patience: Duration) -> Progress {
    let mut batch: Vec<Box<dyn Job>> = {
        let mut waiting = file.queue.waiting();
        let count = waiting.jobs.len().min(MOST_JOBS);
        waiting.attended = count > 0;
        waiting.jobs.drain(..count).collect()
    };
    if batch.is_empty() {
        return Progress::Idle;
    }
    match run_together(file, &mut batch) {
        // One of them met a row that cannot be read, perhaps. The transaction was rolled back, so the others are done
        // again, each by itself.
        Ran::Faulty(_) if batch.len() > 1 => {
            let mut jobs = batch.into_iter();
            while let Some(job) = jobs.next() {
                let mut alone = vec![job];
                match run_together(file, &mut alone) {
                    // The rest would only meet the same; they wait on together, in their order.
                    Ran::Kept(error) => {
                        alone.extend(jobs);
                        return settle(file, alone, Ran::Kept(error), patience);
                    }
                    ran => settle(file, alone, ran, patience),
                };
            }
            Progress::Done
        }
        // Whoever only looks need not wait for the write lock, and who makes no file need not fail because none can be.
        ran @ (Ran::Kept(_) | Ran::NotBegun(_)) => {
            let kept = matches!(ran, Ran::Kept(_));
            let is_concerned = |job: &dyn Job| {
                let needs = job.needs();
                if kept { needs.access == Access::Write } else { needs.create }
            };
            let (concerned, mut others): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|job| is_concerned(&**job));
            if concerned.is_empty() {
                return settle(file, others, ran, patience);
            }
            let of_others = run_together(file, &mut others);
            settle(file, others, of_others, patience);
            settle(file, concerned, ran, patience)
        }
        ran => settle(file, batch, ran, patience),
    }
}

fn settle(file: &File, jobs: Vec<Box<dyn Job>>, ran: Ran, patience: Duration) -> Progress {
    let outcome = match ran {
        Ran::Outcome(outcome) => outcome,
        Ran::Faulty(error) | Ran::NotBegun(error) => Err(error),
        Ran::Kept(error) => {
            let (late, rest): (Vec<_>, Vec<_>) =
                jobs.into_iter().partition(|job| job.asked().elapsed() >= patience);
            let kept = !rest.is_empty();
            let mut waiting = file.queue.waiting();
            rest.into_iter().rev().for_each(|job| waiting.jobs.push_front(job));
            drop(waiting);
            finish(late, &Err(error));
            return if kept { Progress::Kept } else { Progress::Done };
        }
    };
    finish(jobs, &outcome);
    Progress::Done
}

fn finish(jobs: Vec<Box<dyn Job>>, outcome: &Result<()>) {
    for job in jobs {
        job.finish(outcome.clone());
    }
}

/// What became of a transaction.
enum Ran {
    /// It was committed, or could not be.
    Outcome(Result<()>),
    /// An operation failed, rather than beginning or committing.
    Faulty(Error),
    /// No operation was begun, because others were in the way.
    Kept(Error),
    /// None was begun, because the file cannot be opened or made.
    NotBegun(Error),
}

fn run_together(file: &File, jobs: &mut [Box<dyn Job>]) -> Ran {
    let needs = Needs {
        access: if jobs.iter().any(|job| job.needs().access == Access::Write) {
            Access::Write
        } else {
            Access::Read
        },
        create: jobs.iter().any(|job| job.needs().create),
    };
    if jobs.is_empty() {
        return Ran::Outcome(Ok(()));
    }
    // The first has waited longest.
    let mut wait = Wait::resumed(jobs[0].asked(), BLOCKING);
    let (mut begun, mut faulty) = (false, false);
    let outcome = file.transact(needs, &mut wait, &mut |tx| {
        begun = true;
        jobs.iter_mut().try_for_each(|job| job.run(tx)).inspect_err(|_| faulty = true)
    });
    match outcome {
        Err(error) if faulty => Ran::Faulty(error),
        Err(error) if !begun && wait.is_over() => Ran::Kept(error),
        Err(error) if !begun => Ran::NotBegun(error),
        outcome => Ran::Outcome(outcome.map(|_| ())),
    }
}
