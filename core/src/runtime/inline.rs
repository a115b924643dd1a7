//! Jobs that run on the thread of an event loop, next to the application, for as long as nothing but that
//! thread wakes them.
//!
//! A job that another thread wakes moves to the I/O thread, and stays there: it may have to wait for
//! anything, and an event loop that is blocked must not hold it up.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::executor::{Executor, Job};
use super::sync::Mutex;

/// A job that keeps waking itself waits for something else: it moves to the I/O thread after so many polls.
const MAX_POLLS: u32 = 16;

thread_local! {
    /// The one whose job this thread polls, or reads for, as an address; null at other times.
    static CURRENT: Cell<*const InlineExecutor> = const { Cell::new(ptr::null()) };
}

/// Whether the calling code is polled on the thread of an event loop, and so may do I/O that it reads.
pub fn is_inline() -> bool {
    !CURRENT.get().is_null()
}

/// Runs one job at a time on the thread that calls it.
#[derive(Default)]
pub struct InlineExecutor(Mutex<Place>);

/// Where the job is.
#[derive(Default)]
enum Place {
    /// There is none.
    #[default]
    Nowhere,
    /// It is polled, and may have been woken meanwhile.
    Polled { is_woken: bool },
    /// It waits; it may have been woken by what was read.
    Waiting { job: Job, is_woken: bool },
    /// No more jobs are taken.
    Closed,
}

impl InlineExecutor {
    /// Polls this job on the calling thread, until it waits or has ended. Gives it back if there is another,
    /// or no more jobs are taken.
    pub fn start(self: &Arc<Self>, job: Job) -> Result<(), Job> {
        let Ok(io) = Executor::io() else { return Err(job) };
        {
            let mut place = self.0.lock();
            if !matches!(*place, Place::Nowhere) {
                return Err(job);
            }
            *place = Place::Polled { is_woken: false };
        }
        let _scope = Scope::enter(self, io);
        self.poll(io, job);
        Ok(())
    }

    /// Runs `read`, which may wake the job, and then polls it if that is so. `false`: `read` panicked.
    pub fn read(self: &Arc<Self>, read: impl FnOnce()) -> bool {
        // It was started for the job, or for the connection that is read.
        let Ok(io) = Executor::io() else { return true };
        let _scope = Scope::enter(self, io);
        let is_well = catch_unwind(AssertUnwindSafe(read)).is_ok();
        self.poll_woken(io);
        is_well
    }

    fn poll_woken(self: &Arc<Self>, io: &Executor) {
        let job = {
            let mut place = self.0.lock();
            match std::mem::take(&mut *place) {
                Place::Waiting { job, is_woken: true } => {
                    *place = Place::Polled { is_woken: false };
                    job
                }
                other => {
                    *place = other;
                    return;
                }
            }
        };
        self.poll(io, job);
    }

    /// Takes no more jobs. The one that waits goes on on the I/O thread.
    pub fn close(&self) {
        let place = std::mem::replace(&mut *self.0.lock(), Place::Closed);
        if let (Place::Waiting { job, .. }, Ok(io)) = (place, Executor::io()) {
            io.run([job]);
        }
    }

    fn poll(self: &Arc<Self>, io: &Executor, mut job: Job) {
        let waker = Waker::from(Arc::clone(self));
        let mut context = Context::from_waker(&waker);
        for _ in 0..MAX_POLLS {
            // A panic must not reach the event loop: neither of its future nor while that is dropped.
            let polled = catch_unwind(AssertUnwindSafe(|| job.as_mut().poll(&mut context)));
            if !matches!(polled, Ok(Poll::Pending)) {
                let _ = catch_unwind(AssertUnwindSafe(|| drop(job)));
                let mut place = self.0.lock();
                if !matches!(*place, Place::Closed) {
                    *place = Place::Nowhere;
                }
                return;
            }
            let mut place = self.0.lock();
            match &mut *place {
                Place::Polled { is_woken: is_woken @ true } => *is_woken = false,
                Place::Polled { .. } => {
                    *place = Place::Waiting { job, is_woken: false };
                    return;
                }
                // Closed meanwhile.
                _ => break,
            }
        }
        {
            let mut place = self.0.lock();
            if !matches!(*place, Place::Closed) {
                *place = Place::Nowhere;
            }
        }
        io.run([job]);
    }
}

impl Wake for InlineExecutor {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut place = self.0.lock();
        match &mut *place {
            Place::Polled { is_woken } => *is_woken = true,
            // It is polled when what is read has been delivered.
            Place::Waiting { is_woken, .. } if ptr::eq(CURRENT.get(), Arc::as_ptr(self)) => *is_woken = true,
            Place::Waiting { .. } => {
                let Place::Waiting { job, .. } = std::mem::take(&mut *place) else { return };
                drop(place);
                if let Ok(io) = Executor::io() {
                    io.run([job]);
                }
            }
            Place::Nowhere | Place::Closed => {}
        }
    }
}

/// Within it, code runs as on the I/O thread: it may start tasks and timers there.
struct Scope<'a> {
    _runtime: tokio::runtime::EnterGuard<'a>,
}

impl<'a> Scope<'a> {
    fn enter(executor: &InlineExecutor, io: &'a Executor) -> Self {
        CURRENT.set(executor);
        Self { _runtime: io.enter() }
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        CURRENT.set(ptr::null());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread::{self, ThreadId};
    use std::time::Duration;

    use tokio::sync::oneshot;

    const SECONDS: Duration = Duration::from_secs(5);

    /// A job that waits for something, and then reports its thread.
    fn waits_for(gate: oneshot::Receiver<()>) -> (Job, mpsc::Receiver<ThreadId>) {
        let (report, reported) = mpsc::channel();
        let job = async move {
            let _ = gate.await;
            report.send(thread::current().id()).unwrap();
        };
        (Box::pin(job), reported)
    }

    #[test]
    fn a_job_that_is_woken_by_what_is_read_stays_on_its_thread() {
        let inline = Arc::<InlineExecutor>::default();
        let (open, gate) = oneshot::channel();
        let (job, reported) = waits_for(gate);
        assert!(inline.start(job).is_ok());
        assert!(!is_inline());
        let is_well = inline.read(|| {
            assert!(is_inline());
            open.send(()).unwrap();
            assert!(reported.try_recv().is_err(), "not while something is read");
        });
        assert!(is_well);
        assert!(!inline.read(|| panic!("on purpose")) && !is_inline());
        assert_eq!(reported.try_recv(), Ok(thread::current().id()));
        assert!(inline.start(Box::pin(async {})).is_ok(), "there is room for the next one");
    }

    #[test]
    fn a_job_that_another_thread_wakes_or_this_one_outside_moves_to_the_io_thread() {
        for on_another_thread in [true, false] {
            let inline = Arc::<InlineExecutor>::default();
            let (open, gate) = oneshot::channel();
            let (job, reported) = waits_for(gate);
            assert!(inline.start(job).is_ok());
            if on_another_thread {
                thread::spawn(|| open.send(()).unwrap()).join().unwrap();
            } else {
                open.send(()).unwrap();
            }
            let ran = reported.recv_timeout(SECONDS).unwrap();
            assert_ne!(ran, thread::current().id());
            assert!(inline.start(Box::pin(async {})).is_ok(), "there is room for the next one");
        }
    }

    #[test]
    fn a_job_that_is_woken_while_another_executor_reads_is_not_left_behind() {
        let [inline, other] = [(); 2].map(|()| Arc::<InlineExecutor>::default());
        let (open, gate) = oneshot::channel();
        let (job, reported) = waits_for(gate);
        assert!(inline.start(job).is_ok());
        assert!(other.read(|| open.send(()).unwrap()));
        assert_ne!(reported.recv_timeout(SECONDS).unwrap(), thread::current().id());
    }

    #[test]
    fn there_is_one_at_a_time_and_none_once_it_is_closed() {
        let inline = Arc::<InlineExecutor>::default();
        let (open, gate) = oneshot::channel();
        let (job, reported) = waits_for(gate);
        assert!(inline.start(job).is_ok());
        assert!(inline.start(Box::pin(async {})).is_err());
        inline.close();
        assert!(inline.start(Box::pin(async {})).is_err());
        open.send(()).unwrap();
        assert_ne!(reported.recv_timeout(SECONDS).unwrap(), thread::current().id());
        assert!(inline.start(Box::pin(async {})).is_err());
    }

    #[test]
    fn a_panic_ends_a_job_only_and_one_that_keeps_yielding_moves_away() {
        struct Panics;
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("on purpose");
            }
        }
        let inline = Arc::<InlineExecutor>::default();
        assert!(inline.start(Box::pin(async { panic!("on purpose") })).is_ok());
        let panics = Panics;
        let job = std::future::poll_fn(move |_| {
            let _ = &panics;
            Poll::Ready(())
        });
        assert!(inline.start(Box::pin(job)).is_ok());
        let (report, reported) = mpsc::channel();
        let yields = async move {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            report.send(thread::current().id()).unwrap();
        };
        assert!(inline.start(Box::pin(yields)).is_ok());
        assert_ne!(reported.recv_timeout(SECONDS).unwrap(), thread::current().id());
    }

    #[test]
    fn timers_and_tasks_run_on_the_io_thread() {
        let inline = Arc::<InlineExecutor>::default();
        let (report, reported) = mpsc::channel();
        let job = async move {
            let task = tokio::spawn(async { thread::current().id() });
            tokio::time::sleep(Duration::from_millis(5)).await;
            report.send((task.await.unwrap(), thread::current().id())).unwrap();
        };
        assert!(inline.start(Box::pin(job)).is_ok());
        let (task, woken) = reported.recv_timeout(SECONDS).unwrap();
        assert_eq!(task, woken);
        assert_ne!(task, thread::current().id());
    }
}
