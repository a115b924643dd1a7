//! The threads that fencelock works on. Redis has one for all connections, each SQLite file has its own; nothing
//! of ours runs on libuv's pool, and JavaScript's thread only hands work over.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::task::unconstrained;

use crate::error::{Error, Report, Result};

/// A task for a thread. Boxed where it is made, because futures are large and would be moved several times.
pub type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A thread with a single-threaded runtime. It ends when the last handle to it is dropped, after the tasks that
/// are ready have run once more.
#[derive(Debug, Clone)]
pub struct Executor(Arc<Door>);

/// What all handles share: the last one to be dropped closes it.
#[derive(Debug)]
struct Door(Arc<Jobs>);

/// Tasks that the thread has not taken. A queue of our own instead of `Handle::spawn`, which writes to the runtime's
/// wake-up descriptor for every task; and instead of a channel, which wakes a receiver that keeps up for every task.
#[derive(Default)]
struct Jobs {
    // A std Mutex, because nothing awaits while it is held.
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    closed: bool,
    /// The thread's, once it has found nothing.
    waker: Option<Waker>,
}

/// See [`Executor::io`].
static IO: OnceLock<Executor> = OnceLock::new();

impl Executor {
    /// Starts a thread of this name (15 characters at most, or Linux cuts it).
    pub fn start(name: &str) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
                Error::BackendUnavailable(Report::caused(
                    "cannot start an I/O runtime; nothing was granted",
                    error,
                ))
            })?;
        let jobs = Arc::<Jobs>::default();
        let door = Door(Arc::clone(&jobs));
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // One task for all jobs: one for each would cost an aligned allocation and the scheduler's books.
                let mut running = FuturesUnordered::new();
                let all = poll_fn(move |context| {
                    let is_over = loop {
                        match jobs.poll_take(context) {
                            Poll::Ready(Some(taken)) => running
                                .extend(taken.into_iter().map(|job| AssertUnwindSafe(job).catch_unwind())),
                            Poll::Ready(None) => break true,
                            Poll::Pending => break false,
                        }
                    };
                    // A task that panics must not end the thread: neither while it runs nor, here, when it is dropped.
                    let mut next = || catch_unwind(AssertUnwindSafe(|| running.poll_next_unpin(context)));
                    while let Ok(Poll::Ready(Some(_))) | Err(_) = next() {}
                    if !is_over {
                        return Poll::Pending;
                    }
                    // Others may be ready behind those that gave way.
                    (0..running.len()).for_each(|_| drop(running.poll_next_unpin(context)));
                    Poll::Ready(())
                });
                // A task of the runtime, because running its outermost future again takes a system call; without a budget,
                // for that is meant for one job, not for all.
                let _ = runtime.block_on(async { tokio::spawn(unconstrained(all)).await });
            })
            .map_err(|error| {
                Error::BackendUnavailable(Report::caused("cannot start a thread; nothing was granted", error))
            })?;
        Ok(Self(Arc::new(door)))
    }

    /// Runs a task on this thread. Never blocks.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.run(std::iter::once(Box::pin(task) as Job));
    }

    /// Runs tasks on this thread, which takes all of them at once. Never blocks.
    pub fn run(&self, jobs: impl IntoIterator<Item = Job>) {
        self.0.0.change(|queue| queue.jobs.extend(jobs));
    }

    /// The thread that all Redis connections and timers share. Started on first use; lives as long as the process.
    pub fn io() -> Result<&'static Self> {
        if let Some(executor) = IO.get() {
            return Ok(executor);
        }
        // Two threads that race here start two; the loser's ends at once.
        let executor = Self::start("fencelock-io")?;
        Ok(IO.get_or_init(|| executor))
    }

    /// Whether it is [`Self::io`]. What goes to a server is worth collecting for a moment, so that it travels together.
    pub fn is_io(&self) -> bool {
        IO.get().is_some_and(|io| Arc::ptr_eq(&io.0, &self.0))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.change(|queue| queue.closed = true);
    }
}

impl Jobs {
    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.lock();
        change(&mut queue);
        // Whoever came first woke the thread, and it has not looked since.
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What there is to do, once there is something; `None` when there will be nothing more.
    fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<Vec<Job>>> {
        let mut queue = self.lock();
        if !queue.jobs.is_empty() {
            return Poll::Ready(Some(std::mem::take(&mut queue.jobs)));
        }
        if queue.closed {
            return Poll::Ready(None);
        }
        queue.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Every change under the lock is complete in itself.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc as std_mpsc;
    use std::time::Duration;

    /// Tells when it is dropped, and panics then if it is to.
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
        let (tell, told) = std_mpsc::channel();
        let panics = Dropped(tell, true);
        executor.spawn(poll_fn(move |_| {
            let _ = &panics;
            Poll::Ready(())
        }));
        assert_eq!(told.recv_timeout(Duration::from_secs(5)).unwrap(), "dropped");
        executor.spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            done.send(std::thread::current().name().map(str::to_owned)).unwrap();
        });
        assert_eq!(wait.recv_timeout(Duration::from_secs(5)).unwrap().as_deref(), Some("fl-test"));
    }

    #[test]
    fn runs_more_tasks_side_by_side_than_a_budget_allows_and_drops_what_waits_at_its_end() {
        let executor = Executor::start("fl-test").unwrap();
        let (tell, told) = std_mpsc::channel();
        let dropped = Dropped(tell.clone(), false);
        executor.spawn(async move {
            std::future::pending::<()>().await;
            drop(dropped);
        });
        let mut going = Vec::new();
        executor.run((0..1000).map(|_| {
            let (go, gone) = tokio::sync::oneshot::channel::<()>();
            going.push(go);
            let tell = tell.clone();
            Box::pin(async move {
                gone.await.unwrap();
                tokio::task::yield_now().await;
                tell.send("done").unwrap();
            }) as Job
        }));
        for go in going {
            go.send(()).unwrap();
        }
        for _ in 0..1000 {
            assert_eq!(told.recv_timeout(Duration::from_secs(5)).unwrap(), "done");
        }
        // Whoever is ready runs once more, also behind those that give way.
        let gives_way = || async {
            let mut gave = false;
            poll_fn(|context| {
                context.waker().wake_by_ref();
                if std::mem::replace(&mut gave, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        };
        let last = tell.clone();
        executor.run([
            Box::pin(gives_way()) as Job,
            Box::pin(gives_way()),
            Box::pin(async move { last.send("last").unwrap() }),
        ]);
        drop(executor);
        assert_eq!(told.recv_timeout(Duration::from_secs(5)).unwrap(), "last");
        assert_eq!(told.recv_timeout(Duration::from_secs(5)).unwrap(), "dropped");
    }
}
