//! The seam between native threads and JavaScript's: one queue and one threadsafe function per environment,
//! one wake-up per batch.
//!
//! Promises live in JavaScript, each under a slot number. A native thread queues the completion of a slot,
//! and wakes the environment if no other thread has yet; JavaScript then drains the whole queue into an array
//! of doubles. So a call needs neither a threadsafe function nor a native deferred, and when an environment
//! ends, nothing is left to settle.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

use napi::bindgen_prelude::{Float64ArraySlice, Function, retain_current_module_for_unload_safety};
use napi::{Env, Result};
use napi_derive::napi;

use crate::convert::outcome::{Detail, Outcome};
use crate::wake_up::WakeUp;
use crate::wire::Completion;
use fencelock_core::manager::Heartbeat;
use fencelock_core::manager::Manager;
use fencelock_core::runtime::clock::{BootInstant, Clock};
use fencelock_core::runtime::executor::{Executor, Job};
use fencelock_core::runtime::sync::Mutex;

/// How long the end of the process may wait for the releases of what is still held.
const EXIT_PATIENCE: Duration = Duration::from_millis(100);

/// One environment's queue. Shared with every thread that completes calls for it.
#[derive(Default)]
pub(crate) struct CompletionQueue {
    wake_up: WakeUp,
    /// Not held during a wake-up, which JavaScript's thread would have to wait for. Taken after permission to
    /// call.
    queue: Mutex<Queue>,
    /// Calls whose promises are not settled: while there are any, the threadsafe function keeps the process
    /// alive. Changed on JavaScript's thread alone.
    pending: AtomicU32,
    /// The calls of this event-loop turn that go to a server. They are passed on together when the turn ends,
    /// so that they travel together.
    outgoing: Mutex<Vec<Job>>,
    managers: Mutex<Vec<Weak<Manager>>>,
    /// When JavaScript's thread was last here: microseconds on the boot clock.
    last_seen: AtomicU64,
}

#[derive(Default)]
struct Queue {
    /// Each with the slot of its call, or its lease.
    outcomes: Vec<(f64, Outcome)>,
    /// A wake-up is on its way.
    woken: bool,
    /// The environment ends: nothing is drained any more.
    closed: bool,
}

impl Queue {
    fn close(&mut self) {
        self.closed = true;
        self.outcomes = Vec::new();
    }
}

impl CompletionQueue {
    /// Completes the call in a slot. After the end of the environment its outcome is dropped.
    pub(crate) fn complete(&self, slot: u32, outcome: Outcome) {
        self.push(Some((f64::from(slot), outcome)));
    }

    /// Reports to JavaScript that a watched lease ends.
    pub(crate) fn report_end(&self, lease: u64, message: String) {
        self.push(Some((lease as f64, Outcome::LeaseEnds(message))));
    }

    /// Notes that JavaScript's thread is here, and so is not blocked.
    pub(crate) fn seen(&self, now: BootInstant) {
        self.last_seen.store(now.as_micros(), Ordering::Release);
    }

    /// Has JavaScript drain the queue. That alone keeps no process alive: the function is referenced for
    /// calls only.
    fn push(&self, outcome: Option<(f64, Outcome)>) {
        let Some(caller) = self.wake_up.caller() else { return };
        let is_first = {
            let mut queue = self.queue.lock();
            if queue.closed {
                return;
            }
            queue.outcomes.extend(outcome);
            !std::mem::replace(&mut queue.woken, true)
        };
        if is_first && !caller.call() {
            self.queue.lock().close();
        }
    }

    /// A call begins: its promise keeps the process alive. On JavaScript's thread.
    pub(crate) fn begin(&self, env: Env) {
        if self.pending.fetch_add(1, Ordering::Relaxed) == 0 {
            self.wake_up.reference(env);
        }
    }

    /// Calls are settled. On JavaScript's thread.
    fn settled(&self, env: Env, calls: u32) {
        if calls > 0 && self.pending.fetch_sub(calls, Ordering::Relaxed) == calls {
            self.wake_up.unreference(env);
        }
    }

    /// Runs a call on the I/O thread, when this event-loop turn ends.
    pub(crate) fn send(&self, call: Job) {
        self.outgoing.lock().push(call);
    }

    /// The turn ends.
    pub(crate) fn flush(&self) {
        self.seen(Clock::System.boot());
        let calls = std::mem::take(&mut *self.outgoing.lock());
        // The thread was started for the first of them, so this does not fail.
        if !calls.is_empty()
            && let Ok(io) = Executor::io()
        {
            io.run(calls);
        }
    }

    /// Has the manager closed when the environment ends.
    pub(crate) fn adopt(&self, manager: &Arc<Manager>) {
        let mut managers = self.managers.lock();
        managers.retain(|manager| manager.strong_count() > 0);
        managers.push(Arc::downgrade(manager));
    }

    /// The environment is about to end. Node then ends the threadsafe function and runs its finalizer; Bun
    /// before 1.4 frees what the function points to and runs nothing, so that a later call would crash the
    /// process.
    fn detach(&self) {
        self.wake_up.end();
        self.queue.lock().close();
    }

    fn abandon_all(&self, patience: Duration) {
        // Releases among them, which nothing else would do.
        self.flush();
        let managers = std::mem::take(&mut *self.managers.lock());
        let (finished, all) = mpsc::channel::<()>();
        // All are closed at the same time: one whose server hangs must not cost the others their time.
        for manager in managers.iter().filter_map(Weak::upgrade) {
            let finished = finished.clone();
            manager.close(move || drop(finished));
        }
        drop(finished);
        if !patience.is_zero() {
            // Nothing is ever sent: it ends when every manager has dropped its sender, or in time.
            let _ = all.recv_timeout(patience);
        }
    }
}

impl Heartbeat for CompletionQueue {
    fn last(&self) -> BootInstant {
        BootInstant::from_micros(self.last_seen.load(Ordering::Acquire))
    }

    /// JavaScript drains the queue, which is usually empty, and thereby shows that it is not blocked.
    fn request(&self) {
        self.push(None);
    }
}

/// JavaScript's end of the queue. Each copy of lib/ has one.
#[napi]
pub struct Bridge {
    queue: Arc<CompletionQueue>,
}

#[napi]
impl Bridge {
    /// `wake` is called, on JavaScript's thread, whenever there is something to drain.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, wake: Function<'_, (), ()>) -> Result<Self> {
        // Our threads outlive environments, and so must the code they run.
        retain_current_module_for_unload_safety();
        let queue = Arc::<CompletionQueue>::default();
        queue.seen(Clock::System.boot());
        let ending = Arc::clone(&queue);
        queue.wake_up.create(env, &wake, Box::new(move || ending.detach()))?;
        env.add_env_cleanup_hook(Arc::clone(&queue), |queue| {
            queue.detach();
            queue.abandon_all(Duration::ZERO);
        })?;
        Ok(Self { queue })
    }

    /// The environment ends: its managers release what they hold. If the process itself ends, it waits a
    /// moment for that.
    #[napi(catch_unwind)]
    pub fn end(&self, with_process: bool) {
        self.queue.abandon_all(if with_process { EXIT_PATIENCE } else { Duration::ZERO });
    }

    /// An event-loop turn ends: the calls that were made in it are sent.
    #[napi(catch_unwind)]
    pub fn flush(&self) {
        self.queue.flush();
    }

    /// Moves completions into `records`, and returns their details. If it fills them, there may be more.
    #[napi(catch_unwind)]
    pub fn drain(&self, env: Env, mut records: Float64ArraySlice<'_>) -> Drained {
        // SAFETY: an array of lib/native/completions.js, which no other code writes to during this call.
        let (records, _) = unsafe { records.as_mut() }.as_chunks_mut::<{ Completion::STRIDE }>();
        let now = Clock::System.boot();
        self.queue.seen(now);
        let batch = {
            let mut queue = self.queue.queue.lock();
            let count = queue.outcomes.len().min(records.len());
            if count == queue.outcomes.len() {
                queue.woken = false;
                std::mem::take(&mut queue.outcomes)
            } else {
                queue.outcomes.drain(..count).collect()
            }
        };
        let mut details = Vec::new();
        let count = batch.len() as u32;
        let mut calls = 0;
        for ((slot, outcome), record) in batch.into_iter().zip(records) {
            calls += u32::from(outcome.settles_a_call());
            outcome.write(slot, now, &mut details).write(record);
        }
        self.queue.settled(env, calls);
        Drained { count, details }
    }
}

impl Bridge {
    pub(crate) fn queue(&self) -> &Arc<CompletionQueue> {
        &self.queue
    }
}

/// What a drain moved.
#[napi(object, object_from_js = false)]
pub struct Drained {
    /// How many records were written.
    pub count: u32,
    /// What does not fit into doubles; records refer to a detail by its index.
    #[napi(ts_type = "Array<string | Failure | Info | Guarantee>")]
    pub details: Vec<Detail>,
}
