//! Acquire and release through a manager, on its backend's own thread, where JavaScript sends all
//! asynchronous calls. A run stays there from its first operation to its last, because how often two threads
//! wait for each other is chance.

use std::future::Future;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use fencelock_core::backend::contract::LockBackend;
use fencelock_core::error::Result;
use fencelock_core::lease::Strategy;
use fencelock_core::manager::{Acquired, LeaseId, Manager};
use fencelock_core::runtime::executor::Executor;
use futures_util::FutureExt;
use tokio::sync::mpsc::unbounded_channel;

use crate::{TOGETHER, names, wanted};

/// One after another.
pub fn one_by_one(manager: &Arc<Manager>, strategy: Strategy, operations: u32) -> Duration {
    let manager = Arc::clone(manager);
    run_on(&executor(&manager, strategy), async move {
        let begin = Instant::now();
        for _ in 0..operations {
            let lease = acquire(&manager, strategy, "order:12345").await;
            assert!(release(&manager, lease).await);
        }
        begin.elapsed()
    })
}

/// A full batch, each request as a call of its own.
pub fn side_by_side(manager: &Arc<Manager>, strategy: Strategy, operations: u32) -> Duration {
    let executor = executor(manager, strategy);
    let (there, manager) = (executor.clone(), Arc::clone(manager));
    run_on(&executor, async move {
        let names = names();
        let begin = Instant::now();
        for _ in 0..operations {
            let (done, mut acquired) = unbounded_channel();
            for name in names.clone() {
                let done = done.clone();
                let acquire = manager.acquire(strategy, wanted(&name), None);
                there.spawn(acquire.map(move |acquired| {
                    let _ = done.send(granted(acquired));
                }));
            }
            let mut leases = Vec::with_capacity(TOGETHER);
            while leases.len() < TOGETHER {
                leases.extend(acquired.recv().await);
            }
            let (done, mut released) = unbounded_channel();
            for lease in leases {
                let (manager, done) = (Arc::clone(&manager), done.clone());
                there.spawn(async move {
                    let _ = done.send(release(&manager, lease).await);
                });
            }
            for _ in 0..TOGETHER {
                assert_eq!(released.recv().await, Some(true));
            }
        }
        begin.elapsed()
    })
}

async fn acquire(manager: &Arc<Manager>, strategy: Strategy, name: &str) -> LeaseId {
    granted(manager.acquire(strategy, wanted(name), None).await)
}

fn granted(acquired: Result<Acquired>) -> LeaseId {
    match acquired {
        Ok(Acquired::Granted { id, .. }) => id,
        other => panic!("not granted: {other:?}"),
    }
}

async fn release(manager: &Arc<Manager>, lease: LeaseId) -> bool {
    manager.release(lease).expect("it is held").await.expect("the backend answers")
}

fn executor(manager: &Manager, strategy: Strategy) -> Executor {
    manager.open_backend(strategy).expect("it is configured").executor().expect("its thread starts")
}

/// The result of a task that runs on this thread.
fn run_on<T: Send + 'static>(executor: &Executor, task: impl Future<Output = T> + Send + 'static) -> T {
    let (done, answer) = mpsc::channel();
    executor.spawn(async move {
        let _ = done.send(task.await);
    });
    answer.recv().expect("the task ends")
}
