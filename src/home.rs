//! The threads that fencelock works on. Redis has one for all connections, each SQLite file has its own; nothing
//! of ours runs on libuv's pool, and JavaScript's thread only hands work over.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::error::{Error, Report, Result};

/// A task for a thread. Boxed where it is made, because futures are large and would be moved several times.
pub type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A thread with a single-threaded runtime. It ends when the last handle to it is dropped, after the tasks that
/// are ready have run once more.
#[derive(Debug, Clone)]
pub struct Home(Arc<Door>);

/// What all handles share: the last one to be dropped closes it.
#[derive(Debug)]
struct Door(Arc<Jobs>);

/// Tasks that the thread has not taken. A queue of our own instead of `Handle::spawn`, which writes to the runtime's
/// wake-up descriptor for every task; and instead of a channel, which wakes a receiver that keeps up for every task.
#[derive(Default)]
struct Jobs {
    // A std Mutex, because nothing awaits while it is held.
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    closed: bool,
}

impl Home {
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
                runtime.block_on(async move {
                    while let Some(taken) = jobs.take().await {
                        for job in taken {
                            tokio::spawn(job);
                        }
                        // However many come, those that are under way have their turn.
                        tokio::task::yield_now().await;
                    }
                });
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
        static IO: OnceLock<Home> = OnceLock::new();
        if let Some(home) = IO.get() {
            return Ok(home);
        }
        // Two threads that race here start two; the loser's ends at once.
        let home = Self::start("fencelock-io")?;
        Ok(IO.get_or_init(|| home))
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
        let was_empty = queue.jobs.is_empty();
        change(&mut queue);
        drop(queue);
        // Otherwise the thread was woken by whoever came first.
        if was_empty {
            self.changed.notify_one();
        }
    }

    /// What there is to do, once there is something; `None` when there will be nothing more.
    async fn take(&self) -> Option<Vec<Job>> {
        loop {
            {
                let mut queue = self.lock();
                if !queue.jobs.is_empty() {
                    return Some(std::mem::take(&mut queue.jobs));
                }
                if queue.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
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

    #[test]
    fn runs_tasks_on_its_own_thread_and_survives_a_panic() {
        let home = Home::start("fl-test").unwrap();
        let (done, wait) = std_mpsc::channel();
        home.spawn(async { panic!("a task that fails must not end the thread") });
        home.spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            done.send(std::thread::current().name().map(str::to_owned)).unwrap();
        });
        assert_eq!(wait.recv_timeout(Duration::from_secs(5)).unwrap().as_deref(), Some("fl-test"));
    }
}
