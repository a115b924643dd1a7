//! The threads that fencelock works on: one for all Redis connections and timers, one for each SQLite file.
//! Nothing runs on libuv's pool, and JavaScript's thread only hands work over.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use futures_util::future::CatchUnwind;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::task::unconstrained;

use super::sync::Mutex;
use crate::error::{Error, Report, Result};

/// A task for a thread. Boxed where it is made, because futures are large and would be moved several times.
pub type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A thread with a single-threaded runtime. It ends when the last handle to it is dropped, after the tasks
/// that are ready have run once more.
#[derive(Debug, Clone)]
pub struct Executor(Arc<Handle>);

/// What all handles share. Closes the inbox when the last of them is dropped.
#[derive(Debug)]
struct Handle {
    inbox: Arc<Inbox>,
    runtime: tokio::runtime::Handle,
}

/// Tasks that the thread has not taken. A queue of our own instead of `Handle::spawn`, which writes to the
/// runtime's wake-up descriptor for every task; and instead of a channel, which wakes a receiver that keeps
/// up for every task.
#[derive(Default)]
struct Inbox(Mutex<State>);

#[derive(Default)]
struct State {
    jobs: Vec<Job>,
    closed: bool,
    /// The thread's, while it waits for jobs.
    waker: Option<Waker>,
}

/// See [`Executor::io`].
static IO: OnceLock<Executor> = OnceLock::new();

impl Executor {
    /// Starts a thread of this name (15 characters at most, or Linux cuts it).
    pub fn start(name: &str) -> Result<Self> {
        let failed = |what: &str, error: std::io::Error| {
            Error::BackendUnavailable(Report::caused(
                format!("cannot start {what}; nothing was granted"),
                error,
            ))
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed("an I/O runtime", error))?;
        let inbox = Arc::<Inbox>::default();
        let handle = Handle { inbox: Arc::clone(&inbox), runtime: runtime.handle().clone() };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let jobs = unconstrained(JobSet { inbox, running: FuturesUnordered::new() });
                // A task of the runtime, because polling its outermost future again takes a system call;
                // without a budget, which is meant for one job, not for all.
                let _ = runtime.block_on(async { tokio::spawn(jobs).await });
            })
            .map_err(|error| failed("a thread", error))?;
        Ok(Self(Arc::new(handle)))
    }

    /// Runs a task on this thread. Never blocks.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.run(std::iter::once(Box::pin(task) as Job));
    }

    /// Runs tasks on this thread, which takes all of them at once. Never blocks.
    pub fn run(&self, jobs: impl IntoIterator<Item = Job>) {
        self.0.inbox.change(|state| state.jobs.extend(jobs));
    }

    /// Until the guard is dropped, tasks and timers that the calling thread starts are this thread's.
    pub(super) fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.0.runtime.enter()
    }

    /// The thread that all Redis connections and timers share. Started on first use; lives as long as the
    /// process.
    pub fn io() -> Result<&'static Self> {
        if let Some(executor) = IO.get() {
            return Ok(executor);
        }
        // Two threads that race here start two; the loser's ends at once.
        let executor = Self::start("fencelock-io")?;
        Ok(IO.get_or_init(|| executor))
    }

    /// Whether it is [`Self::io`]. Calls for a server are worth collecting for a moment, so that they travel
    /// together.
    pub fn is_io(&self) -> bool {
        IO.get() == Some(self)
    }
}

impl PartialEq for Executor {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Executor {}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inbox.change(|state| state.closed = true);
    }
}

impl Inbox {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock();
        change(&mut state);
        // Taken by the first of several changes: the thread is awake until it polls again.
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The jobs that came in; `None` when it is closed.
    fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<Vec<Job>>> {
        let mut state = self.0.lock();
        if !state.jobs.is_empty() {
            return Poll::Ready(Some(std::mem::take(&mut state.jobs)));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

/// All jobs of a thread, as one task: a task for each would cost an aligned allocation and the scheduler's
/// bookkeeping.
struct JobSet {
    inbox: Arc<Inbox>,
    running: FuturesUnordered<CatchUnwind<AssertUnwindSafe<Job>>>,
}

impl JobSet {
    /// Starts what came in; `true` when nothing more will.
    fn take_in(&mut self, context: &mut Context<'_>) -> bool {
        loop {
            match self.inbox.poll_take(context) {
                Poll::Ready(Some(jobs)) => {
                    self.running.extend(jobs.into_iter().map(|job| AssertUnwindSafe(job).catch_unwind()));
                }
                Poll::Ready(None) => return true,
                Poll::Pending => return false,
            }
        }
    }

    /// Polls the next job that is ready; `false` when none is. A job that panics must not end the thread:
    /// neither while it runs nor, which `catch_unwind` around its future does not cover, while it is dropped.
    fn poll_next(&mut self, context: &mut Context<'_>) -> bool {
        let polled = catch_unwind(AssertUnwindSafe(|| self.running.poll_next_unpin(context)));
        matches!(polled, Ok(Poll::Ready(Some(_))) | Err(_))
    }
}

impl Future for JobSet {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let is_over = self.take_in(context);
        while self.poll_next(context) {}
        if !is_over {
            return Poll::Pending;
        }
        // Others may be ready behind those that yielded.
        for _ in 0..self.running.len() {
            self.poll_next(context);
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::mpsc as std_mpsc;
    use std::time::Duration;

    /// Reports when it is dropped, and panics then if the flag is set.
    struct Dropped(std_mpsc::Sender<&'static str>, bool);

    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send("dropped");
            assert!(!self.1, "on purpose");
        }
    }

    #[test]
    fn runs_tasks_on_its_own_thread_and_survives_a_panic() {
        let executor = Executor::start("fl-test").unwrap();
        let (done, wait) = std_mpsc::channel();
        executor.spawn(async { panic!("a task that fails must not end the thread") });
        let (report, reported) = std_mpsc::channel();
        let panics = Dropped(report, true);
        executor.spawn(poll_fn(move |_| {
            let _ = &panics;
            Poll::Ready(())
        }));
        assert_eq!(reported.recv_timeout(Duration::from_secs(5)).unwrap(), "dropped");
        executor.spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            done.send(std::thread::current().name().map(str::to_owned)).unwrap();
        });
        assert_eq!(wait.recv_timeout(Duration::from_secs(5)).unwrap().as_deref(), Some("fl-test"));
    }

    #[test]
    fn runs_more_tasks_at_once_than_a_budget_allows_and_drops_those_that_wait_at_its_end() {
        let executor = Executor::start("fl-test").unwrap();
        let (report, reported) = std_mpsc::channel();
        let dropped = Dropped(report.clone(), false);
        executor.spawn(async move {
            std::future::pending::<()>().await;
            drop(dropped);
        });
        let mut going = Vec::new();
        executor.run((0..1000).map(|_| {
            let (go, gone) = tokio::sync::oneshot::channel::<()>();
            going.push(go);
            let report = report.clone();
            Box::pin(async move {
                gone.await.unwrap();
                tokio::task::yield_now().await;
                report.send("done").unwrap();
            }) as Job
        }));
        for go in going {
            go.send(()).unwrap();
        }
        for _ in 0..1000 {
            assert_eq!(reported.recv_timeout(Duration::from_secs(5)).unwrap(), "done");
        }
        // A task that is ready runs once more, even behind those that yield.
        let yields = || async {
            let mut yielded = false;
            poll_fn(|context| {
                context.waker().wake_by_ref();
                if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        };
        let last = report.clone();
        executor.run([
            Box::pin(yields()) as Job,
            Box::pin(yields()),
            Box::pin(async move { last.send("last").unwrap() }),
        ]);
        drop(executor);
        assert_eq!(reported.recv_timeout(Duration::from_secs(5)).unwrap(), "last");
        assert_eq!(reported.recv_timeout(Duration::from_secs(5)).unwrap(), "dropped");
    }
}
