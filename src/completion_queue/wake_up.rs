//! Wakes JavaScript's thread from any other: a threadsafe function, and the rules of its life.

use std::ffi::c_void;
use std::ptr;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicPtr, Ordering};

use napi::bindgen_prelude::Object;
use napi::{Env, JsValue, Result, check_status, sys};

use fencelock_core::runtime::sync::Mutex;

/// What a threadsafe function runs, on JavaScript's thread.
pub(crate) struct Callbacks {
    /// After a wake-up.
    pub(crate) on_wake: Box<dyn Fn()>,
    /// When the function ends. Bun before 1.4 does not run it when the environment ends.
    pub(crate) on_end: Box<dyn Fn()>,
}

/// A threadsafe function. It may be called until it is released, its environment ends or its finalizer runs,
/// whichever comes first.
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
    /// Creates the function. It does not keep the process alive, and refers to nothing of JavaScript but
    /// `resource`, which stands for it in `async_hooks`.
    pub(crate) fn create(&self, env: Env, resource: &Object<'_>, callbacks: Callbacks) -> Result<()> {
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
        let context = Box::into_raw(Box::new(callbacks)).cast::<c_void>();
        // SAFETY: `resource` is an object of this environment. The context is a box that the finalizer takes
        // back; if the call fails there is no finalizer, and it is taken back below.
        let created = check_status!(unsafe {
            sys::napi_create_threadsafe_function(
                env.raw(),
                ptr::null_mut(),
                resource.raw(),
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
            drop(unsafe { Box::from_raw(context.cast::<Callbacks>()) });
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

    /// The function ends with its environment: it is not called any more. On JavaScript's thread.
    pub(crate) fn end(&self) {
        self.set(ptr::null_mut());
    }

    /// Ends the function before its environment does. On JavaScript's thread.
    pub(crate) fn release(&self) {
        let function = self.set(ptr::null_mut());
        if !function.is_null() {
            // SAFETY: its environment has not ended, and no thread calls it any more. This was its only user.
            unsafe {
                sys::napi_release_threadsafe_function(function, sys::ThreadsafeFunctionReleaseMode::abort);
            }
        }
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

    /// Returns the function before.
    fn set(&self, function: sys::napi_threadsafe_function) -> sys::napi_threadsafe_function {
        let _calling = self.calling.lock();
        self.function.swap(function, Ordering::Relaxed)
    }
}

impl Caller<'_> {
    /// Has the function run soon. `false`: the environment is closing, and will not run it.
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

/// Runs on JavaScript's thread after a call. The environment is null while it is being torn down.
unsafe extern "C" fn call_wake(
    env: sys::napi_env,
    _function: sys::napi_value,
    context: *mut c_void,
    _data: *mut c_void,
) {
    if !env.is_null() {
        // SAFETY: the box that `create` gave away, and that the finalizer takes back after the last call.
        let callbacks = unsafe { &*context.cast::<Callbacks>() };
        (callbacks.on_wake)();
    }
}

/// Runs once, on JavaScript's thread, when the function ends.
unsafe extern "C" fn finalize(_env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // SAFETY: the box that `create` gave away, and this runs once.
    let callbacks = unsafe { Box::from_raw(data.cast::<Callbacks>()) };
    (callbacks.on_end)();
}
