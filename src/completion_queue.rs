//! The seam between our threads and JavaScript's: one threadsafe function per environment, one wake-up per batch.
//!
//! Promises live in the facade, each under a slot number. A native thread queues what became of a slot and wakes the
//! environment if nobody has yet; the facade then drains the whole queue into an array of doubles. So a call costs
//! neither a threadsafe function nor a native deferred, and an environment that ends has nothing left to be settled.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::Duration;

use napi::bindgen_prelude::{Float64ArraySlice, Function, JsValue, retain_current_module_for_unload_safety};
use napi::{Env, Result, check_status, sys};
use napi_derive::napi;

use crate::outcome::{Detail, Outcome, STRIDE};
use fencelock_core::manager::Manager;
use fencelock_core::manager::Pulse;
use fencelock_core::runtime::clock::{BootInstant, Clock};
use fencelock_core::runtime::executor::{Executor, Job};

/// How long the end of the process may wait for the releases of what is still held.
const EXIT_PATIENCE: Duration = Duration::from_millis(100);

/// What became of the call in a slot, or of a watched lease.
struct Settlement {
    slot: f64,
    outcome: Outcome,
}

/// One environment's queue. Shared with every thread that settles something for it.
#[derive(Default)]
pub(crate) struct Settler {
    /// The way to wake JavaScript's thread; `None` before the environment is attached and once it ends. HeldLease by senders
    /// during a wake-up, and by the environment's end.
    wake: Mutex<Option<Wake>>,
    /// The same function or null, for JavaScript's thread alone, which would otherwise wait for whoever is waking it.
    own: AtomicPtr<sys::napi_threadsafe_function__>,
    /// Not held during a wake-up: JavaScript's thread would run into it. Always taken after `wake`.
    queue: Mutex<Queue>,
    /// Calls whose promises are not settled: while there are any, the threadsafe function keeps the process alive.
    /// Changed on JavaScript's thread alone.
    pending: AtomicU32,
    /// Calls of this turn of the event loop, which go to a server: handed over together when the turn ends, they travel
    /// together.
    outgoing: Mutex<Vec<Job>>,
    managers: Mutex<Vec<Weak<Manager>>>,
    /// When JavaScript's thread was last here: microseconds on the boot clock.
    beat: AtomicU64,
}

#[derive(Default)]
struct Queue {
    settlements: Vec<Settlement>,
    /// A wake-up is on its way.
    woken: bool,
}

/// A threadsafe function. It may be called until its environment ends, or its finalizer runs, whichever comes first.
#[derive(Clone, Copy)]
struct Wake(sys::napi_threadsafe_function);

// SAFETY: threadsafe functions are made to be called from any thread. The pointer is used only under the mutex that
// the end of the environment takes to remove it (reference counting: on JavaScript's thread alone, where it ends).
unsafe impl Send for Wake {}

impl Settler {
    /// Settles a slot. What comes after the end of the environment is dropped.
    pub(crate) fn settle(&self, slot: u32, outcome: Outcome) {
        self.push(Settlement { slot: f64::from(slot), outcome });
    }

    /// Tells the facade that a watched lease ends.
    pub(crate) fn tell(&self, lease: u64, message: String) {
        self.push(Settlement { slot: lease as f64, outcome: Outcome::Ends(message) });
    }

    fn push(&self, settlement: Settlement) {
        self.wake_up(Some(settlement));
    }

    /// JavaScript's thread is here.
    pub(crate) fn beat(&self, now: BootInstant) {
        self.beat.store(now.as_micros(), Ordering::Release);
    }

    /// Has JavaScript drain the queue. Keeps no process alive: the function is referenced for calls alone.
    fn wake_up(&self, settlement: Option<Settlement>) {
        let mut wake = self.wake();
        let Some(function) = *wake else { return };
        let first = {
            let mut queue = self.queue();
            queue.settlements.extend(settlement);
            !std::mem::replace(&mut queue.woken, true)
        };
        if first {
            // SAFETY: the environment has not ended, for that takes this mutex to clear `wake`.
            let status = unsafe {
                sys::napi_call_threadsafe_function(
                    function.0,
                    ptr::null_mut(),
                    sys::ThreadsafeFunctionCallMode::nonblocking,
                )
            };
            if status != sys::Status::napi_ok {
                // Closing: the finalizer comes next, and nobody will drain the queue.
                *wake = None;
                self.queue().settlements = Vec::new();
            }
        }
    }

    /// A call begins: its promise keeps the process alive. On JavaScript's thread.
    pub(crate) fn begin(&self, env: Env) {
        let own = self.own.load(Ordering::Relaxed);
        if self.pending.fetch_add(1, Ordering::Relaxed) == 0 && !own.is_null() {
            // SAFETY: on the thread that made the function, where its environment ends too, and has not.
            unsafe { sys::napi_ref_threadsafe_function(env.raw(), own) };
        }
    }

    /// Runs a call on the I/O thread, when this turn of the event loop ends.
    pub(crate) fn send(&self, call: Job) {
        self.outgoing().push(call);
    }

    /// The turn ends.
    pub(crate) fn flush(&self) {
        self.beat(Clock::System.boot());
        let calls = std::mem::take(&mut *self.outgoing());
        // The thread was started for the first of them, so this does not fail.
        if !calls.is_empty()
            && let Ok(io) = Executor::io()
        {
            io.run(calls);
        }
    }

    fn ended(&self, env: Env, calls: u32) {
        let own = self.own.load(Ordering::Relaxed);
        if calls > 0 && self.pending.fetch_sub(calls, Ordering::Relaxed) == calls && !own.is_null() {
            // SAFETY: on the thread that made the function, where its environment ends too, and has not.
            unsafe { sys::napi_unref_threadsafe_function(env.raw(), own) };
        }
    }

    /// This manager ends with the environment.
    pub(crate) fn adopt(&self, manager: &Arc<Manager>) {
        let mut managers = self.managers.lock().unwrap_or_else(PoisonError::into_inner);
        managers.retain(|manager| manager.strong_count() > 0);
        managers.push(Arc::downgrade(manager));
    }

    /// The environment is gone in a moment. Node ends the threadsafe function with it and says so by the finalizer; Bun
    /// before 1.4 frees what the function points to and says nothing: whoever calls it later ends the process.
    fn detach(&self) {
        self.own.store(ptr::null_mut(), Ordering::Relaxed);
        *self.wake() = None;
        self.queue().settlements = Vec::new();
    }

    fn abandon_all(&self, patience: Duration) {
        // Releases among them, which nothing else would do.
        self.flush();
        let managers = std::mem::take(&mut *self.managers.lock().unwrap_or_else(PoisonError::into_inner));
        let (finished, all) = mpsc::channel::<()>();
        // All of them begin before any is waited for: one whose server hangs must not cost the others their time.
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

    // Every change under these locks is complete in itself.

    fn wake(&self) -> MutexGuard<'_, Option<Wake>> {
        self.wake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outgoing(&self) -> MutexGuard<'_, Vec<Job>> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pulse for Settler {
    fn beat(&self) -> BootInstant {
        BootInstant::from_micros(self.beat.load(Ordering::Acquire))
    }

    /// JavaScript drains whatever there is, mostly nothing, and has been here then.
    fn ask(&self) {
        self.wake_up(None);
    }
}

/// What the facade holds of this environment's queue: one for each copy of the facade.
#[napi]
pub struct Bridge {
    settler: Arc<Settler>,
}

#[napi]
impl Bridge {
    /// `wake` is called, on JavaScript's thread, whenever there is something to drain.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, wake: Function<'_, (), ()>) -> Result<Self> {
        // Our threads outlive environments, and so must the code they run.
        retain_current_module_for_unload_safety();
        let settler = Arc::new(Settler::default());
        settler.beat(Clock::System.boot());
        let mut name = ptr::null_mut();
        let text = c"fencelock";
        // SAFETY: on JavaScript's thread with its environment; the text has the length given.
        check_status!(unsafe {
            sys::napi_create_string_utf8(
                env.raw(),
                text.as_ptr(),
                text.count_bytes().cast_signed(),
                &raw mut name,
            )
        })?;
        let mut function = ptr::null_mut();
        let context = Arc::into_raw(Arc::clone(&settler)).cast_mut().cast::<c_void>();
        // SAFETY: `wake` is a function of this environment. The context is one strong count, which the finalizer takes
        // back; if the call fails there is no finalizer and the count is taken back here.
        let created = check_status!(unsafe {
            sys::napi_create_threadsafe_function(
                env.raw(),
                wake.raw(),
                ptr::null_mut(),
                name,
                0,
                1,
                context,
                Some(finalize),
                context,
                Some(call_wake),
                &raw mut function,
            )
        });
        if let Err(error) = created {
            // SAFETY: see above.
            drop(unsafe { Arc::from_raw(context.cast::<Settler>()) });
            return Err(error);
        }
        // SAFETY: just made, on this thread.
        check_status!(unsafe { sys::napi_unref_threadsafe_function(env.raw(), function) })?;
        settler.own.store(function, Ordering::Relaxed);
        *settler.wake() = Some(Wake(function));
        env.add_env_cleanup_hook(Arc::clone(&settler), |settler| {
            settler.detach();
            settler.abandon_all(Duration::ZERO);
        })?;
        Ok(Self { settler })
    }

    /// The environment ends: its managers release what they hold. With the process itself ending there is no later, so
    /// that is waited for, a little.
    #[napi(catch_unwind)]
    pub fn end(&self, with_process: bool) {
        self.settler.abandon_all(if with_process { EXIT_PATIENCE } else { Duration::ZERO });
    }

    /// A turn of the event loop ends: what was called in it is sent.
    #[napi(catch_unwind)]
    pub fn flush(&self) {
        self.settler.flush();
    }

    /// Moves settlements into `records`, [`STRIDE`] doubles each, and answers their details. An empty answer: there
    /// was nothing left.
    #[napi(catch_unwind)]
    pub fn drain(&self, env: Env, mut records: Float64ArraySlice<'_>) -> Drained {
        // SAFETY: the facade's own array, which no other code writes to during this call.
        let records = unsafe { records.as_mut() };
        let now = Clock::System.boot();
        self.settler.beat(now);
        let batch = {
            let mut queue = self.settler.queue();
            let count = queue.settlements.len().min(records.len() / STRIDE);
            if count == queue.settlements.len() {
                queue.woken = false;
                std::mem::take(&mut queue.settlements)
            } else {
                queue.settlements.drain(..count).collect()
            }
        };
        let mut details = Vec::new();
        let count = batch.len() as u32;
        let mut calls = 0;
        for (settlement, record) in batch.into_iter().zip(records.chunks_exact_mut(STRIDE)) {
            calls += u32::from(settlement.outcome.settles_a_call());
            record[0] = settlement.slot;
            settlement.outcome.write(now, &mut record[1..], &mut details);
        }
        self.settler.ended(env, calls);
        Drained { count, details }
    }
}

impl Bridge {
    pub(crate) fn settler(&self) -> &Arc<Settler> {
        &self.settler
    }
}

/// What a drain moved.
#[napi(object, object_from_js = false)]
pub struct Drained {
    /// How many records were written.
    pub count: u32,
    /// What does not fit into doubles; records name their detail by index.
    pub details: Vec<Detail>,
}

/// Runs on JavaScript's thread after a wake-up. Both pointers are null when the environment is being torn down.
unsafe extern "C" fn call_wake(
    env: sys::napi_env,
    wake: sys::napi_value,
    _context: *mut c_void,
    _data: *mut c_void,
) {
    if env.is_null() || wake.is_null() {
        return;
    }
    let mut this = ptr::null_mut();
    // SAFETY: N-API calls this on JavaScript's thread with a live environment, inside a handle scope.
    unsafe {
        sys::napi_get_undefined(env, &raw mut this);
        let status = sys::napi_call_function(env, this, wake, 0, ptr::null(), ptr::null_mut());
        if status == sys::Status::napi_pending_exception {
            // The facade's drain only resolves promises, so it does not throw; if it does (a stack overflow, a
            // terminating worker), the exception has no caller to go to, and must not end the process.
            let mut exception = ptr::null_mut();
            sys::napi_get_and_clear_last_exception(env, &raw mut exception);
        }
    }
}

/// Runs once, when the threadsafe function ends with its environment.
unsafe extern "C" fn finalize(_env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // SAFETY: the one strong count that `Bridge::new` gave away, and this runs once.
    let settler = unsafe { Arc::from_raw(data.cast::<Settler>()) };
    settler.detach();
}
