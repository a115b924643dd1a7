//! The seam between native threads and JavaScript's: one queue and one threadsafe function for each copy of
//! lib/, one wake-up per batch.
//!
//! Promises live in JavaScript, each under a slot number. A native thread queues the completion of a slot,
//! and wakes the environment if no other thread has yet; JavaScript then drains the whole queue into an array
//! of doubles. So a call needs neither a threadsafe function nor a native deferred, and when an environment
//! ends, nothing is left to settle.
//!
//! Nothing here keeps a copy of lib/ from being collected, except while one of its calls is awaited.

mod listener;
mod wake_up;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use napi::bindgen_prelude::{Function, Object};
use napi::{Env, Result};

use self::listener::Listener;
use self::wake_up::{Callbacks, WakeUp};
use crate::convert::outcome::Outcome;
#[cfg(unix)]
use crate::inline::InlineCalls;
use fencelock_core::backend::redis::Ask;
use fencelock_core::manager::{Event, Heartbeat, LeaseEnd, Manager, Observer, Topic};
use fencelock_core::runtime::clock::{BootInstant, Clock};
use fencelock_core::runtime::deadline_queue::{DeadlineQueue, Timed};
use fencelock_core::runtime::executor::{Executor, Job};
use fencelock_core::runtime::sync::Mutex;

/// How soon a wake-up that seems lost is repeated.
const REPEAT_AFTER: Duration = Duration::from_millis(20);

/// The queue of one copy of lib/. Shared with every thread that completes calls for it.
#[derive(Default)]
pub(crate) struct CompletionQueue {
    wake_up: WakeUp,
    /// Called after a wake-up.
    listener: Listener,
    /// Not held during a wake-up, which JavaScript's thread would have to wait for. Taken after permission to
    /// call.
    queue: Mutex<Queue>,
    /// Calls whose promises are not settled: while there are any, the threadsafe function keeps the process
    /// alive. Changed on JavaScript's thread alone.
    pending: AtomicU32,
    /// The calls of this event-loop turn that go to a server. They are passed on together when the turn ends,
    /// so that they travel together.
    outgoing: Mutex<Outgoing>,
    /// Where a call that is alone in its turn may run on JavaScript's thread.
    #[cfg(unix)]
    inline: OnceLock<InlineCalls>,
    managers: Mutex<Vec<Weak<Manager>>>,
    /// When JavaScript's thread was last here: microseconds on the boot clock.
    last_seen: AtomicU64,
    /// What JavaScript wants to hear of: bits of [`Topic`].
    topics: AtomicU32,
    /// Set on runtimes that may lose a wake-up.
    repeats: OnceLock<Repeat>,
}

#[derive(Default)]
struct Outgoing {
    calls: Vec<Job>,
    /// Whether the last of them may run on JavaScript's thread.
    may_be_inline: bool,
}

#[derive(Default)]
struct Queue {
    /// Each with the slot of its call, or its lease.
    outcomes: Vec<(f64, Outcome)>,
    /// A wake-up is on its way.
    woken: bool,
    /// It will be repeated if it has not arrived by then.
    repeating: bool,
    /// The environment ends, or the copy of lib/ was collected: nothing is drained any more.
    closed: bool,
}

impl Queue {
    fn close(&mut self) {
        self.closed = true;
        self.outcomes = Vec::new();
    }
}

/// The wake-ups that may have to be repeated, of the whole process.
static REPEATS: DeadlineQueue<Repeat> = DeadlineQueue::new();

#[derive(Clone)]
struct Repeat(Weak<CompletionQueue>);

impl Timed for Repeat {
    fn until(&self, at: BootInstant) -> Option<Duration> {
        (!self.is_gone()).then(|| Clock::System.boot().until(at))
    }

    fn fire(&self) -> Option<BootInstant> {
        let queue = self.0.upgrade()?;
        let caller = queue.wake_up.caller()?;
        {
            let mut queue = queue.queue.lock();
            queue.repeating = queue.woken && !queue.closed;
            queue.repeating.then_some(())?;
        }
        caller.call().then(|| Clock::System.boot() + REPEAT_AFTER)
    }

    fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl CompletionQueue {
    /// A queue whose wake-ups call `listener` on JavaScript's thread. `resource` stands for the threadsafe
    /// function in `async_hooks`.
    pub(crate) fn connect(
        self: &Arc<Self>,
        env: Env,
        listener: &Function<'_, bool, ()>,
        resource: &Object<'_>,
        may_lose_wake_ups: bool,
    ) -> Result<()> {
        self.seen(Clock::System.boot());
        if may_lose_wake_ups {
            let _ = self.repeats.set(Repeat(Arc::downgrade(self)));
        }
        let (waking, ending) = (Arc::downgrade(self), Arc::downgrade(self));
        let callbacks = Callbacks {
            on_wake: Box::new(move || {
                if let Some(queue) = waking.upgrade() {
                    queue.listener.call(false);
                }
            }),
            on_end: Box::new(move || {
                if let Some(queue) = ending.upgrade() {
                    queue.detach();
                }
            }),
        };
        self.wake_up.create(env, resource, callbacks)?;
        self.listener.set(env, listener)
    }

    /// Completes the call in a slot. After the end of the environment its outcome is dropped.
    pub(crate) fn complete(&self, slot: u32, outcome: Outcome) {
        self.push(Some((f64::from(slot), outcome)));
    }

    /// Reports to JavaScript that a watched lease ends.
    pub(crate) fn report_end(&self, lease: u64, end: LeaseEnd) {
        self.push(Some((lease as f64, Outcome::LeaseEnds(end))));
    }

    /// Reports that the call in this slot has begun to wait.
    pub(crate) fn report_wait(&self, slot: u32) {
        self.push(Some((f64::from(slot), Outcome::Waits)));
    }

    /// Sets what JavaScript wants to hear of.
    pub(crate) fn observe(&self, topics: u32) {
        let before = self.topics.swap(topics, Ordering::AcqRel);
        if topics & !before & Topic::Losses.bit() != 0 {
            let managers: Vec<_> = self.managers.lock().iter().filter_map(Weak::upgrade).collect();
            managers.iter().for_each(Manager::notice_expiries);
        }
    }

    /// Asks the application for credentials.
    pub(crate) fn ask_for_credentials(&self, function: u32, ask: Ask) {
        self.push(Some((f64::from(function), Outcome::Credentials(ask))));
    }

    /// Notes that JavaScript's thread is here, and so is not blocked.
    pub(crate) fn seen(&self, now: BootInstant) {
        self.last_seen.store(now.as_micros(), Ordering::Release);
    }

    /// Has JavaScript drain the queue. That alone keeps no process alive: the function is referenced for
    /// calls only.
    fn push(&self, outcome: Option<(f64, Outcome)>) {
        let Some(caller) = self.wake_up.caller() else { return };
        let (is_first, repeat) = {
            let mut queue = self.queue.lock();
            if queue.closed {
                return;
            }
            queue.outcomes.extend(outcome);
            let is_first = !std::mem::replace(&mut queue.woken, true);
            let repeat = self.repeats.get().filter(|_| !std::mem::replace(&mut queue.repeating, true));
            (is_first, repeat)
        };
        if is_first && !caller.call() {
            self.queue.lock().close();
        } else if let Some(repeat) = repeat {
            // If there is no thread for it, nothing was lost yet.
            let _ = REPEATS.add(Clock::System.boot() + REPEAT_AFTER, repeat.clone());
        }
    }

    /// Takes at most this many completions, each with the slot of its call, or its lease.
    pub(crate) fn take(&self, at_most: usize) -> Vec<(f64, Outcome)> {
        let mut queue = self.queue.lock();
        if queue.outcomes.len() <= at_most {
            queue.woken = false;
            return std::mem::take(&mut queue.outcomes);
        }
        queue.outcomes.drain(..at_most).collect()
    }

    /// A call begins: its promise keeps the process alive. On JavaScript's thread.
    pub(crate) fn begin(&self, env: Env) {
        if self.pending.fetch_add(1, Ordering::Relaxed) == 0 {
            self.wake_up.reference(env);
            self.listener.keep();
        }
    }

    /// Calls are settled. On JavaScript's thread.
    pub(crate) fn settled(&self, env: Env, calls: u32) {
        if calls > 0 && self.pending.fetch_sub(calls, Ordering::Relaxed) == calls {
            self.wake_up.unreference(env);
            self.listener.let_go();
        }
    }

    /// Whether a call keeps the process alive.
    pub(crate) fn is_awaited(&self) -> bool {
        self.pending.load(Ordering::Relaxed) > 0
    }

    /// Runs a call when this event-loop turn ends: on the I/O thread, or on JavaScript's if it may be and is
    /// alone in its turn.
    pub(crate) fn send(&self, call: Job, may_be_inline: bool) {
        let mut outgoing = self.outgoing.lock();
        outgoing.calls.push(call);
        outgoing.may_be_inline = may_be_inline;
    }

    /// The turn ends.
    pub(crate) fn flush(&self) {
        self.seen(Clock::System.boot());
        let Outgoing { calls, may_be_inline } = std::mem::take(&mut *self.outgoing.lock());
        #[cfg(unix)]
        let calls = if may_be_inline { self.run_inline(calls) } else { calls };
        #[cfg(not(unix))]
        let _ = may_be_inline;
        // The thread was started for the first of them, so this does not fail.
        if !calls.is_empty()
            && let Ok(io) = Executor::io()
        {
            io.run(calls);
        }
    }

    /// Its event loop reads sockets. On JavaScript's thread.
    #[cfg(unix)]
    pub(crate) fn allow_inline(&self) {
        let _ = self.inline.set(InlineCalls::default());
    }

    /// What runs on JavaScript's thread, if anything may.
    #[cfg(unix)]
    pub(crate) fn inline(&self) -> Option<&InlineCalls> {
        self.inline.get()
    }

    /// Runs a call on JavaScript's thread that is alone. Gives it back, or several, if they run elsewhere.
    #[cfg(unix)]
    fn run_inline(&self, mut calls: Vec<Job>) -> Vec<Job> {
        if let (1, Some(inline)) = (calls.len(), self.inline())
            && let Some(call) = calls.pop()
            && let Err(call) = inline.start(call)
        {
            calls.push(call);
        }
        calls
    }

    /// Has JavaScript read this socket.
    #[cfg(unix)]
    pub(crate) fn have_read(&self, number: u32, fd: i32) {
        self.push(Some((f64::from(number), Outcome::Socket(fd))));
    }

    /// Bytes came from a socket. What they complete is taken next, without a wake-up.
    #[cfg(unix)]
    pub(crate) fn read(&self, socket: u32, bytes: &[u8]) {
        self.queue.lock().woken = true;
        if let Some(inline) = self.inline() {
            inline.read(socket, bytes);
        }
    }

    /// Nothing runs on JavaScript's thread any more, because its event loop ends.
    pub(crate) fn end_inline(&self) {
        #[cfg(unix)]
        if let Some(inline) = self.inline() {
            inline.close();
        }
    }

    /// Has JavaScript send the calls that it gathered in this turn. On its thread.
    pub(crate) fn gather(&self) {
        self.listener.call(true);
    }

    /// Has the manager closed when the environment ends.
    pub(crate) fn adopt(&self, manager: &Arc<Manager>) {
        let mut managers = self.managers.lock();
        managers.retain(|manager| manager.strong_count() > 0);
        managers.push(Arc::downgrade(manager));
    }

    /// Takes a manager out, to close it. `false`: it was taken before.
    pub(crate) fn disown(&self, manager: &Arc<Manager>) -> bool {
        let mut managers = self.managers.lock();
        let place = managers.iter().position(|one| one.as_ptr() == Arc::as_ptr(manager));
        place.map(|place| managers.swap_remove(place)).is_some()
    }

    /// Takes the managers, to close them.
    pub(crate) fn take_managers(&self) -> Vec<Arc<Manager>> {
        std::mem::take(&mut *self.managers.lock()).iter().filter_map(Weak::upgrade).collect()
    }

    /// The environment is about to end. Node then ends the threadsafe function and runs its finalizer; Bun
    /// before 1.4 frees what the function points to and runs nothing, so that a later call would crash the
    /// process.
    pub(crate) fn detach(&self) {
        self.end_inline();
        self.wake_up.end();
        self.listener.end();
        self.queue.lock().close();
    }

    /// The copy of lib/ was collected, so nothing is called any more. On JavaScript's thread, while the
    /// environment lives.
    pub(crate) fn disconnect(&self) {
        self.end_inline();
        self.wake_up.release();
        self.listener.delete();
        self.queue.lock().close();
    }
}

/// Passes on what happens to the managers of a queue.
pub(crate) struct Events(pub(crate) Arc<CompletionQueue>);

impl Observer for Events {
    fn wants(&self, topic: Topic) -> bool {
        self.0.wants(topic)
    }

    fn notify(&self, event: Event) {
        self.0.push(Some((0.0, Outcome::Happened(Box::new(event)))));
    }
}

impl CompletionQueue {
    /// Whether JavaScript wants to hear of this.
    pub(crate) fn wants(&self, topic: Topic) -> bool {
        self.topics.load(Ordering::Relaxed) & topic.bit() != 0
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
