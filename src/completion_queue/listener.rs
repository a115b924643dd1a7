//! A function of JavaScript that native code calls, and does not keep from being collected.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use napi::bindgen_prelude::Function;
use napi::{Env, JsValue, Result, check_status, sys};

/// The listener of a copy of lib/. All of this happens on JavaScript's thread.
///
/// A strong reference would keep the whole copy from being collected for as long as the environment lives, so
/// there is one only while a call is awaited.
#[derive(Default)]
pub(crate) struct Listener {
    env: AtomicPtr<sys::napi_env__>,
    /// Null before it is set and after it was deleted.
    reference: AtomicPtr<sys::napi_ref__>,
}

impl Listener {
    /// Sets the function, once.
    pub(crate) fn set(&self, env: Env, function: &Function<'_, bool, ()>) -> Result<()> {
        let mut reference = ptr::null_mut();
        // SAFETY: on JavaScript's thread with its environment, which the function is of.
        check_status!(unsafe {
            sys::napi_create_reference(env.raw(), function.raw(), 0, &raw mut reference)
        })?;
        self.env.store(env.raw(), Ordering::Relaxed);
        self.reference.store(reference, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps the function from being collected.
    pub(crate) fn keep(&self) {
        if let Some((env, reference)) = self.get() {
            // SAFETY: the environment and its reference are alive, see `get`.
            unsafe { sys::napi_reference_ref(env, reference, ptr::null_mut()) };
        }
    }

    /// The reverse of [`Self::keep`].
    pub(crate) fn let_go(&self) {
        if let Some((env, reference)) = self.get() {
            // SAFETY: as in `keep`.
            unsafe { sys::napi_reference_unref(env, reference, ptr::null_mut()) };
        }
    }

    /// The environment ends, and the reference with it.
    pub(crate) fn end(&self) {
        self.reference.store(ptr::null_mut(), Ordering::Relaxed);
    }

    /// Deletes the reference before its environment ends.
    pub(crate) fn delete(&self) {
        if let Some((env, reference)) = self.get() {
            self.end();
            // SAFETY: as in `keep`; and it is not used any more.
            unsafe { sys::napi_delete_reference(env, reference) };
        }
    }

    /// Calls the function, unless it was collected.
    pub(crate) fn call(&self, argument: bool) {
        let Some((env, reference)) = self.get() else { return };
        let (mut scope, mut function) = (ptr::null_mut(), ptr::null_mut());
        let (mut this, mut value) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: on JavaScript's thread, the environment and its reference are alive, see `get`. All values
        // are used within the scope.
        unsafe {
            if sys::napi_open_handle_scope(env, &raw mut scope) != sys::Status::napi_ok {
                return;
            }
            sys::napi_get_reference_value(env, reference, &raw mut function);
            if !function.is_null() {
                sys::napi_get_undefined(env, &raw mut this);
                sys::napi_get_boolean(env, argument, &raw mut value);
                let status =
                    sys::napi_call_function(env, this, function, 1, &raw const value, ptr::null_mut());
                if status == sys::Status::napi_pending_exception {
                    // It only resolves promises, so it does not throw. If it does (a stack overflow, a
                    // terminating worker), the exception has no caller, and must not end the process.
                    let mut exception = ptr::null_mut();
                    sys::napi_get_and_clear_last_exception(env, &raw mut exception);
                }
            }
            sys::napi_close_handle_scope(env, scope);
        }
    }

    /// The environment and the reference, which are alive until [`Self::end`] or [`Self::delete`].
    fn get(&self) -> Option<(sys::napi_env, sys::napi_ref)> {
        let reference = self.reference.load(Ordering::Relaxed);
        (!reference.is_null()).then(|| (self.env.load(Ordering::Relaxed), reference))
    }
}
