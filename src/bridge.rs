//! JavaScript's end of the completion queue.

use std::sync::Arc;

use napi::bindgen_prelude::{
    Float64ArraySlice, Function, JsObjectValue, Object, ObjectFinalize, Uint8ArraySlice,
    retain_current_module_for_unload_safety,
};
use napi::{Env, Error, Result, Status};
use napi_derive::napi;

use crate::completion_queue::CompletionQueue;
use crate::convert::outcome::Detail;
use crate::environment::Attached;
use crate::wire::Completion;
use fencelock_core::runtime::clock::Clock;

/// JavaScript's end of the queue. Each copy of lib/ has one.
#[napi(custom_finalize)]
pub struct Bridge {
    queue: Arc<CompletionQueue>,
    attached: Arc<Attached>,
    /// Of the last drain. Each is converted by itself: one that cannot be must not cost the others.
    details: Vec<Option<Detail>>,
}

impl ObjectFinalize for Bridge {
    /// The copy of lib/ was collected, or the environment ends.
    fn finalize(self, env: Env) -> Result<()> {
        self.attached.detach(env);
        Ok(())
    }
}

#[napi]
impl Bridge {
    /// `wake(false)` is called, on JavaScript's thread, whenever there is something to drain, and
    /// `wake(true)` before the environment ends, to send what was gathered. It is not kept from being
    /// collected while no call is in progress. In an `isMain` thread the end of the environment waits a
    /// moment for releases. With `mayLoseWakeUps`, wake-ups are repeated. With `readsSockets`, JavaScript's
    /// event loop reads those that it gets.
    #[napi(constructor, catch_unwind)]
    pub fn new(
        env: Env,
        #[napi(ts_arg_type = "(isEnding: boolean) => void")] wake: Function<'_, bool, ()>,
        is_main: bool,
        may_lose_wake_ups: bool,
        reads_sockets: bool,
    ) -> Result<Self> {
        // Our threads outlive environments, and so must the code they run.
        retain_current_module_for_unload_safety();
        let queue = Arc::<CompletionQueue>::default();
        queue.connect(env, &wake, &resource(env, &queue)?, may_lose_wake_ups)?;
        #[cfg(unix)]
        if reads_sockets {
            queue.allow_inline();
        }
        #[cfg(not(unix))]
        let _ = reads_sockets;
        let attached = Attached::new(env, Arc::clone(&queue), is_main)?;
        Ok(Self { queue, attached, details: Vec::new() })
    }

    /// An event-loop turn ends: the calls that were made in it are sent.
    #[napi(catch_unwind)]
    pub fn flush(&self) {
        self.queue.flush();
    }

    /// Moves completions into `records`, and returns how many. If it fills them, there may be more. Some
    /// refer by its index to a detail, see `detail`.
    #[napi(catch_unwind)]
    pub fn drain(&mut self, env: Env, records: Float64ArraySlice<'_>) -> u32 {
        self.take(env, records)
    }

    /// JavaScript reads this socket, and will close it.
    #[napi(catch_unwind)]
    pub fn begin_reading(&self, socket: u32) {
        #[cfg(unix)]
        if let Some(inline) = self.queue.inline() {
            inline.begins(socket);
        }
        #[cfg(not(unix))]
        let _ = socket;
    }

    /// So many bytes were read from a socket. Then as `drain`.
    #[napi(catch_unwind)]
    pub fn read(
        &mut self,
        env: Env,
        socket: u32,
        bytes: Uint8ArraySlice<'_>,
        count: u32,
        records: Float64ArraySlice<'_>,
    ) -> u32 {
        #[cfg(unix)]
        if let Some(bytes) = bytes.get(..count as usize) {
            self.queue.read(socket, bytes);
        }
        #[cfg(not(unix))]
        let _ = (socket, bytes, count);
        self.take(env, records)
    }

    /// Nothing more is read from a socket, for this reason: the server's, or with `isLocal` this runtime's.
    #[napi(catch_unwind)]
    pub fn end_reading(&self, socket: u32, why: String, is_local: bool) {
        #[cfg(unix)]
        if let Some(inline) = self.queue.inline() {
            inline.ended(socket, &why.into_boxed_str(), is_local);
        }
        #[cfg(not(unix))]
        let _ = (socket, why, is_local);
    }

    /// Sets what JavaScript wants to hear of, as bits of `Topics`. It hears of nothing before.
    #[napi(catch_unwind)]
    pub fn observe(&self, topics: u32) {
        self.queue.observe(topics);
    }

    /// Takes a detail of the last drain: what does not fit into doubles.
    #[napi(catch_unwind, ts_return_type = "string | Failure | Info | Guarantee | StillHeld | Page | Event")]
    pub fn detail(&mut self, index: u32) -> Result<Detail> {
        let detail = self.details.get_mut(index as usize).and_then(Option::take);
        detail.ok_or_else(|| Error::new(Status::InvalidArg, "there is no such detail"))
    }
}

impl Bridge {
    fn take(&mut self, env: Env, mut records: Float64ArraySlice<'_>) -> u32 {
        // SAFETY: an array of lib/native/completions.js, which no other code writes to during this call.
        let (records, _) = unsafe { records.as_mut() }.as_chunks_mut::<{ Completion::STRIDE }>();
        let now = Clock::System.boot();
        self.queue.seen(now);
        let batch = self.queue.take(records.len());
        let count = batch.len() as u32;
        let mut calls = 0;
        self.details.clear();
        for ((slot, outcome), record) in batch.into_iter().zip(records) {
            calls += u32::from(outcome.settles_a_call());
            outcome.write(slot, now, &mut self.details).write(record);
        }
        self.queue.settled(env, calls);
        count
    }

    pub(crate) fn queue(&self) -> &Arc<CompletionQueue> {
        &self.queue
    }
}

/// Tells tools that look for what keeps a process alive that nothing does but calls in progress. Native, so
/// that it does not keep a copy of lib/ from being collected.
fn resource(env: Env, queue: &Arc<CompletionQueue>) -> Result<Object<'static>> {
    let queue = Arc::downgrade(queue);
    let has_ref = env.create_function_from_closure::<(), bool, _>("hasRef", move |_| {
        Ok(queue.upgrade().is_some_and(|queue| queue.is_awaited()))
    })?;
    let mut resource = Object::new(&env)?;
    resource.set_named_property("hasRef", has_ref)?;
    Ok(resource)
}
