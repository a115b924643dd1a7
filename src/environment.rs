//! The end of JavaScript's environments: a process, a worker. What their managers hold is released then.
//!
//! An environment that ends by itself runs its clean-up hooks. Neither runtime notifies an addon of
//! `process.exit()`; that emits an event on the environment's own `process`, which test runners hide from
//! the code they load.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

use napi::bindgen_prelude::{FnArgs, Function, JsObjectValue, Object};
use napi::{Env, Result, check_status, sys};

use crate::completion_queue::CompletionQueue;

/// How long the end of the process may wait for the releases of what is still held.
const EXIT_PATIENCE: Duration = Duration::from_millis(100);

/// What the queue of a copy of lib/ needs until its environment ends.
pub(crate) struct Attached {
    queue: Arc<CompletionQueue>,
    is_main: bool,
}

thread_local! {
    /// The copies of lib/ of this thread, which has one environment at a time. Weak: nothing of a copy is
    /// left once it was collected.
    static ATTACHED: RefCell<Vec<Weak<Attached>>> = const { RefCell::new(Vec::new()) };
    static LISTENS: Cell<bool> = const { Cell::new(false) };
}

impl Attached {
    /// Has the managers of this queue closed when the environment ends. If `is_main`, the process ends with
    /// it, and then waits a moment for that.
    pub(crate) fn new(env: Env, queue: Arc<CompletionQueue>, is_main: bool) -> Result<Arc<Self>> {
        let attached = Arc::new(Self { queue, is_main });
        let hook = Arc::into_raw(Arc::clone(&attached));
        // SAFETY: on JavaScript's thread with its environment. The hook takes back the reference that it is
        // given, unless `detach` does.
        check_status!(unsafe {
            sys::napi_add_env_cleanup_hook(env.raw(), Some(end), hook.cast_mut().cast())
        })?;
        ATTACHED.with_borrow_mut(|all| {
            all.retain(|one| one.strong_count() > 0);
            all.push(Arc::downgrade(&attached));
        });
        if !LISTENS.replace(true) {
            // Without it the hooks remain.
            let _ = listen(env);
        }
        Ok(attached)
    }

    /// The copy of lib/ was collected: closes its managers. On JavaScript's thread, before or while the
    /// environment ends.
    pub(crate) fn detach(self: &Arc<Self>, env: Env) {
        let hook = Arc::as_ptr(self);
        // The one that removes it from the list takes back the hook's reference.
        let is_attached = ATTACHED.with_borrow_mut(|all| {
            let before = all.len();
            all.retain(|one| one.as_ptr() != hook);
            all.len() < before
        });
        if is_attached {
            // SAFETY: the hook and its argument from `new`; the reference was not taken back yet.
            unsafe {
                sys::napi_remove_env_cleanup_hook(env.raw(), Some(end), hook.cast_mut().cast());
                drop(Arc::from_raw(hook));
            }
            self.queue.disconnect();
        }
        close(std::slice::from_ref(self), Duration::ZERO);
    }

    fn patience(&self) -> Duration {
        if self.is_main { EXIT_PATIENCE } else { Duration::ZERO }
    }
}

/// The clean-up hook: the environment ends.
unsafe extern "C" fn end(attached: *mut c_void) {
    // SAFETY: the reference that `new` gave away, and this runs once.
    let attached = unsafe { Arc::from_raw(attached.cast::<Attached>().cast_const()) };
    // The list may be gone already.
    let _ = ATTACHED.try_with(|all| {
        all.borrow_mut().retain(|one| one.as_ptr() != Arc::as_ptr(&attached));
    });
    attached.queue.detach();
    close(&[Arc::clone(&attached)], attached.patience());
}

type OnceArgs<'a> = FnArgs<(&'a str, Function<'a, (), ()>)>;

/// Listens to the event that precedes every orderly end, on the environment's own `process`.
fn listen(env: Env) -> Result<()> {
    let listener = env.create_function_from_closure::<(), (), _>("fencelock", |_| {
        let attached: Vec<_> = ATTACHED.with_borrow(|all| all.iter().filter_map(Weak::upgrade).collect());
        for one in &attached {
            one.queue.gather();
        }
        let patience = attached.iter().map(|one| one.patience()).max().unwrap_or_default();
        close(&attached, patience);
        Ok(())
    })?;
    let process: Object<'_> = env.get_global()?.get_named_property("process")?;
    let once: Function<'_, OnceArgs<'_>, Object<'_>> = process.get_named_property("once")?;
    once.apply(process, ("exit", listener).into())?;
    Ok(())
}

/// Closes the managers of these copies. All at the same time: one whose server hangs must not cost the others
/// their time.
fn close(attached: &[Arc<Attached>], patience: Duration) {
    let (finished, all) = mpsc::channel::<()>();
    for one in attached {
        one.queue.end_inline();
        // Releases among them, which nothing else would do.
        one.queue.flush();
        for manager in one.queue.take_managers() {
            let finished = finished.clone();
            let done = move || drop(finished);
            if patience.is_zero() {
                manager.close(Duration::ZERO, |_| done());
            } else {
                manager.close_at_exit(done);
            }
        }
    }
    drop(finished);
    if !patience.is_zero() {
        // Nothing is ever sent: it ends when every manager has dropped its sender, or in time.
        let _ = all.recv_timeout(patience);
    }
}
