//! Wakes JavaScript's thread from any other: a threadsafe function, and the rules of its life.

use std::ffi::c_void;
use std::ptr;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicPtr, Ordering};

use napi::bindgen_prelude::{Function, JsValue};
use napi::{Env, Result, check_status, sys};

use fencelock_core::runtime::sync::Mutex;

/// What the finalizer runs.
type OnEnd = Box<dyn FnOnce()>;

/// A threadsafe function. It may be called until its environment ends or its finalizer runs, whichever comes
/// first.
#[derive(Default)]
pub(crate) struct WakeUp {
    /// Null before it is created and after its end. Changed on JavaScript's thread alone, and only while
    /// `calling` is held; so JavaScript's thread may read it without the mutex, and other threads while they
    /// hold it.
    function: AtomicPtr<sys::napi_threadsafe_function__>,
    /// Held by a thread during a call, so that the function does not end meanwhile. JavaScript's thread takes
    /// it to change `function` and to call, but not to count references: those are frequent, and would wait
    /// for whichever thread is waking it.
    calling: Mutex<()>,
}

/// Permission to call, which keeps the function from ending.
pub(crate) struct Caller<'a> {
    function: sys::napi_threadsafe_function,
    _calling: MutexGuard<'a, ()>,
}

impl WakeUp {
    /// Creates the function, which calls `wake` on JavaScript's thread. It does not keep the process alive.
    /// `on_end` runs on that thread when the function ends with its environment.
    pub(crate) fn create(&self, env: Env, wake: &Function<'_, (), ()>, on_end: OnEnd) -> Result<()> {
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
        let context = Box::into_raw(Box::new(on_end)).cast::<c_void>();
        // SAFETY: `wake` is a function of this environment. The context is a box that the finalizer takes
        // back; if the call fails there is no finalizer, and it is taken back below.
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
            // SAFETY: the box from above, which nothing else has taken.
            drop(unsafe { Box::from_raw(context.cast::<OnEnd>()) });
            return Err(error);
        }
        // SAFETY: just created, on this thread.
        check_status!(unsafe { sys::napi_unref_threadsafe_function(env.raw(), function) })?;
        self.set(function);
        Ok(())
    }

    /// Keeps the function from ending, to call it; `None` before it is created and after its end. On any
    /// thread.
    pub(crate) fn caller(&self) -> Option<Caller<'_>> {
        let calling = self.calling.lock();
        let function = self.function.load(Ordering::Relaxed);
        (!function.is_null()).then_some(Caller { function, _calling: calling })
    }

    /// Ends the function: it is not called any more. On JavaScript's thread.
    pub(crate) fn end(&self) {
        self.set(ptr::null_mut());
    }

    /// Makes the function keep the process alive. On JavaScript's thread.
    pub(crate) fn reference(&self, env: Env) {
        let function = self.function.load(Ordering::Relaxed);
        if !function.is_null() {
            // SAFETY: on the thread that created the function, where its environment ends too, and has not.
            unsafe { sys::napi_ref_threadsafe_function(env.raw(), function) };
        }
    }

    /// The reverse of [`Self::reference`]. On JavaScript's thread.
    pub(crate) fn unreference(&self, env: Env) {
        let function = self.function.load(Ordering::Relaxed);
        if !function.is_null() {
            // SAFETY: as in `reference`.
            unsafe { sys::napi_unref_threadsafe_function(env.raw(), function) };
        }
    }

    fn set(&self, function: sys::napi_threadsafe_function) {
        let _calling = self.calling.lock();
        self.function.store(function, Ordering::Relaxed);
    }
}

impl Caller<'_> {
    /// Has `wake` called soon. `false`: the environment is closing, and will not call it.
    pub(crate) fn call(&self) -> bool {
        // SAFETY: the function has not ended, because that takes the mutex that this holds.
        let status = unsafe {
            sys::napi_call_threadsafe_function(
                self.function,
                ptr::null_mut(),
                sys::ThreadsafeFunctionCallMode::nonblocking,
            )
        };
        status == sys::Status::napi_ok
    }
}

/// Runs on JavaScript's thread after a call. Both pointers are null while the environment is being torn down.
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
    // SAFETY: Node-API calls this on JavaScript's thread with a live environment, inside a handle scope.
    unsafe {
        sys::napi_get_undefined(env, &raw mut this);
        let status = sys::napi_call_function(env, this, wake, 0, ptr::null(), ptr::null_mut());
        if status == sys::Status::napi_pending_exception {
            // `wake` only resolves promises, so it does not throw. If it does (a stack overflow, a
            // terminating worker), the exception has no caller, and must not end the process.
            let mut exception = ptr::null_mut();
            sys::napi_get_and_clear_last_exception(env, &raw mut exception);
        }
    }
}

/// Runs once, on JavaScript's thread, when the function ends with its environment.
unsafe extern "C" fn finalize(_env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // SAFETY: the box that `create` gave away, and this runs once.
    let on_end = unsafe { Box::from_raw(data.cast::<OnEnd>()) };
    on_end();
}
