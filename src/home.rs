//! The threads that fencelock works on. Redis has one for all connections, each SQLite file has its own; nothing
//! of ours runs on libuv's pool, and JavaScript's thread only hands work over.

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;

use tokio::sync::mpsc;

use crate::error::{Error, Report, Result};

/// A task for the runtime's thread. Boxed where it is made, because futures are large and would be moved several times.
type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A thread with a single-threaded runtime. It ends when the last handle to it is dropped, after the tasks that
/// are ready have run once more.
#[derive(Debug, Clone)]
pub struct Home {
    // A queue of our own instead of `Handle::spawn`: the latter writes to the runtime's wake-up descriptor for
    // every call, this one only when the dispatcher sleeps. Five hundred calls of one turn are one wake-up.
    jobs: mpsc::UnboundedSender<Job>,
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
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    while let Some(job) = queue.recv().await {
                        tokio::spawn(job);
                    }
                });
            })
            .map_err(|error| {
                Error::BackendUnavailable(Report::caused("cannot start a thread; nothing was granted", error))
            })?;
        Ok(Self { jobs })
    }

    /// Runs a task on this thread. Never blocks.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // The receiver lives as long as the thread, and that as long as `self`.
        let _ = self.jobs.send(Box::pin(task));
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
