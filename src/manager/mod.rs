//! The manager as lib/ calls it. Each call names the slot in which its promise waits; the outcome comes
//! through the completion queue.

mod call_batch;
mod cancellations;
mod credentials;
mod listing;
mod observing;
mod testing;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use napi::Env;
use napi::bindgen_prelude::{Either, Float64ArraySlice, ObjectFinalize};
use napi_derive::napi;

use self::cancellations::Cancellations;
use crate::bridge::Bridge;
use crate::completion_queue::{CompletionQueue, Events};
use crate::config::{CredentialsByFunction, ManagerConfig};
use crate::convert::failure::Failure;
use crate::convert::outcome::{Outcome, grant};
use crate::convert::wanted::{limit, resources, strategy, wanted};
use crate::convert::{millis, too_short};
#[cfg(unix)]
use crate::inline::event_loop::ReadByQueue;
use crate::wire::{Call, Grant};
use fencelock_core::backend::redis::{self, AskedCredentials};
use fencelock_core::error::{Error, Report, Result};
use fencelock_core::lease::{AckPolicy, Holder, Owner, Strategy, Ttl};
use fencelock_core::manager::Heartbeat;
use fencelock_core::manager::{Acquired, Manager};
use fencelock_core::runtime::clock::Clock;
use fencelock_core::runtime::executor::{Executor, Job};

/// A manager of one environment.
#[napi(custom_finalize)]
pub struct NativeManager {
    pub(crate) manager: Arc<Manager>,
    pub(crate) queue: Arc<CompletionQueue>,
    pub(crate) cancellations: Cancellations,
    /// Where the answers of the functions for credentials go.
    pub(crate) credentials: CredentialsByFunction,
}

impl ObjectFinalize for NativeManager {
    /// It was collected, and its locks with it; or the environment ends.
    fn finalize(self, _env: Env) -> napi::Result<()> {
        self.credentials.values().for_each(|credentials| credentials.close());
        if self.queue.disown(&self.manager) {
            self.manager.close(Duration::ZERO, |_| {});
        }
        Ok(())
    }
}

/// Checks the configuration and creates a manager; no I/O.
#[napi(catch_unwind)]
pub fn open_manager(bridge: &Bridge, config: ManagerConfig) -> Either<NativeManager, Failure> {
    let queue = Arc::clone(bridge.queue());
    let credentials = ask_functions(&config, &queue);
    let holder = Holder::from(&config.holder);
    #[cfg(unix)]
    let event_loop =
        queue.inline().map(|_| redis::ReadingLoop(Arc::new(ReadByQueue(Arc::downgrade(&queue)))));
    #[cfg(unix)]
    let backends = config.backends(&credentials, event_loop.as_ref());
    #[cfg(not(unix))]
    let backends = config.backends(&credentials);
    let backends = match backends {
        Ok(backends) => backends,
        Err(error) => return Either::B(error.into()),
    };
    let listener = {
        let queue = Arc::clone(&queue);
        Box::new(move |lease, end| queue.report_end(lease, end))
    };
    let heartbeat = Arc::clone(&queue) as Arc<dyn Heartbeat>;
    let manager = Manager::new(backends, holder, Clock::System, listener, heartbeat);
    manager.set_observer(Box::new(Events(Arc::clone(&queue))));
    queue.adopt(&manager);
    Either::A(NativeManager { manager, queue, cancellations: Cancellations::default(), credentials })
}

/// What the functions of this configuration return.
fn ask_functions(config: &ManagerConfig, queue: &Arc<CompletionQueue>) -> CredentialsByFunction {
    let nodes = config.quorum.iter().flat_map(|quorum| &quorum.nodes);
    let functions = config.redis.iter().chain(nodes).filter_map(|servers| servers.credentials);
    let mut all = CredentialsByFunction::new();
    for function in functions {
        all.entry(function).or_insert_with(|| {
            // The queue lives as long as its environment, and may hold a manager that holds this.
            let queue = Arc::downgrade(queue);
            AskedCredentials::new(move |ask| {
                if let Some(queue) = queue.upgrade() {
                    queue.ask_for_credentials(function, ask);
                }
            })
        });
    }
    all
}

impl NativeManager {
    /// Runs a call on its backend's thread and completes its slot. `start` may fail: that completes the slot,
    /// too.
    pub(crate) fn run<F>(
        &self,
        env: Env,
        slot: u32,
        strategy: u32,
        start: impl FnOnce(Arc<Manager>, Strategy) -> Result<F>,
    ) where
        F: Future<Output = Result<Outcome>> + Send + 'static,
    {
        match self.prepare(env, slot, strategy, Manager::open_executor, start) {
            None => {}
            Some(PreparedCall { executor, job }) if executor.is_io() => self.queue.send(job, false),
            Some(PreparedCall { executor, job }) => executor.run([job]),
        }
    }

    /// The part of [`Self::run`] on this thread. `None`: the slot is completed already.
    pub(crate) fn prepare<F>(
        &self,
        env: Env,
        slot: u32,
        number: u32,
        executor: impl FnOnce(&Manager, Strategy) -> Result<Executor>,
        start: impl FnOnce(Arc<Manager>, Strategy) -> Result<F>,
    ) -> Option<PreparedCall>
    where
        F: Future<Output = Result<Outcome>> + Send + 'static,
    {
        self.queue.begin(env);
        let mut completion = PendingCompletion { queue: Arc::clone(&self.queue), slot: Some(slot) };
        let prepared = strategy(number).and_then(|strategy| {
            let call = start(Arc::clone(&self.manager), strategy)?;
            Ok((executor(&self.manager, strategy)?, call))
        });
        match prepared {
            Err(error) => {
                completion.complete(Outcome::Failed(error));
                None
            }
            Ok((executor, call)) => {
                let job = call.map(move |result| completion.complete(result.unwrap_or_else(Outcome::Failed)));
                Some(PreparedCall { executor, job: Box::pin(job) })
            }
        }
    }
}

/// A call that is ready to run on its backend's thread.
pub(crate) struct PreparedCall {
    pub(crate) executor: Executor,
    pub(crate) job: Job,
}

/// Completes a slot even if the task that should do so panics: its promise would keep the process alive
/// forever.
struct PendingCompletion {
    queue: Arc<CompletionQueue>,
    slot: Option<u32>,
}

impl PendingCompletion {
    fn complete(&mut self, outcome: Outcome) {
        if let Some(slot) = self.slot.take() {
            self.queue.complete(slot, outcome);
        }
    }
}

impl Drop for PendingCompletion {
    fn drop(&mut self) {
        if self.slot.is_some() {
            self.complete(Outcome::Failed(Error::OutcomeUnknown(Report::new(
                "internal error: the outcome of this call is unknown; a lease may exist until its TTL \
                 expires. Please report this",
            ))));
        }
    }
}

#[napi]
impl NativeManager {
    /// Cancels the wait of the call in this slot.
    #[napi(catch_unwind)]
    pub fn cancel(&self, slot: u32) {
        self.cancellations.cancel(slot);
    }

    /// One attempt on this thread. `true`: granted, and written to `granted`; `false`: another owner holds
    /// the lock.
    #[napi(catch_unwind)]
    pub fn acquire_sync(
        &self,
        call: Float64ArraySlice<'_>,
        first: String,
        others: Option<Vec<String>>,
        mut granted: Float64ArraySlice<'_>,
    ) -> napi::Result<Either<bool, Failure>> {
        // Before anything is granted.
        if granted.len() != Grant::STRIDE {
            return Err(too_short("granted"));
        }
        self.queue.seen(Clock::System.boot());
        // Nearly always one name, and an array of one would cost several steps into the runtime.
        let mut names = std::iter::once(first).chain(others.into_iter().flatten());
        let acquired =
            call.first_chunk().map(Call::read).ok_or_else(|| Error::invalid("a call is missing")).and_then(
                |call| {
                    let owner = self.manager.new_owner();
                    let wanted = wanted(&call, resources(&call, &mut names)?, owner)?;
                    self.manager.acquire_sync(strategy(call.strategy as u32)?, &wanted)
                },
            );
        Ok(match acquired {
            Err(error) => Either::B(error.into()),
            Ok(Acquired::Busy(_)) => Either::A(false),
            Ok(Acquired::Granted { id, owner, token, held, .. }) => {
                held.deliver(Clock::System.boot());
                // SAFETY: an array of lib/lock-manager.js, which no other code writes to during this call.
                unsafe { granted.as_mut() }.copy_from_slice(&grant(id, token, None, owner).write());
                Either::A(true)
            }
        })
    }

    /// Extends a lease; without a TTL, by the one it was granted with.
    #[napi(catch_unwind)]
    pub fn extend(&self, env: Env, slot: u32, strategy: u32, lease: f64, ttl_ms: Option<u32>) {
        self.run(env, slot, strategy, |manager, _| {
            let ttl = ttl_ms.map(Ttl::from_millis).transpose()?;
            Ok(async move { manager.extend(lease as u64, ttl).await.map(|()| Outcome::Done) })
        });
    }

    /// Gives a lease away. Returns the TTL that it was granted with.
    #[napi(catch_unwind)]
    pub fn hand_over(&self, env: Env, slot: u32, strategy: u32, lease: f64) {
        self.run(env, slot, strategy, |manager, _| {
            Ok(async move { manager.hand_over(lease as u64).await.map(Outcome::HandedOver) })
        });
    }

    /// Takes a lease over from the owner `from`, with one attempt. The call is as for an acquire.
    #[napi(catch_unwind)]
    pub fn adopt(
        &self,
        env: Env,
        slot: u32,
        call: Float64ArraySlice<'_>,
        names: Vec<String>,
        from: String,
    ) -> napi::Result<()> {
        let call = Call::read(call.first_chunk().ok_or_else(|| too_short("call"))?);
        self.run(env, slot, call.strategy as u32, move |manager, strategy| {
            let owner = manager.new_owner();
            let wanted = wanted(&call, resources(&call, &mut names.into_iter())?, owner)?;
            let from = Owner::from_hex(&from).ok_or_else(|| Error::invalid("this is no owner"))?;
            let adopted = manager.adopt(strategy, &wanted, from);
            Ok(adopted.map(|adopted| adopted.map(Outcome::Acquired)))
        });
        Ok(())
    }

    /// Ends a lease on this thread.
    #[napi(catch_unwind)]
    pub fn release_sync(&self, lease: f64) -> Either<bool, Failure> {
        either(self.manager.release_sync(lease as u64))
    }

    /// Has the end of a lease reported in time. `false`: it is too late for that.
    #[napi(catch_unwind)]
    pub fn watch(&self, lease: f64) -> Either<bool, Failure> {
        either(self.manager.watch(lease as u64))
    }

    /// A handle has taken this lease. Until then it is not renewed, and its minimum does not count.
    #[napi(catch_unwind)]
    pub fn hold(&self, lease: f64) {
        self.manager.hold(lease as u64);
    }

    /// A routine runs under this lease: until it ends, or `leave` is called, the process is kept alive. Its
    /// end is reported, too. `false`: it is too late for that.
    #[napi(catch_unwind)]
    pub fn attend(&self, env: Env, lease: f64) -> Either<bool, Failure> {
        let watching = self.manager.watch(lease as u64);
        if matches!(watching, Ok(true)) {
            self.queue.begin(env);
        }
        either(watching)
    }

    /// The reverse of `attend`. Not called by the report of the end.
    #[napi(catch_unwind)]
    pub fn leave(&self, env: Env) {
        self.queue.settled(env, 1);
    }

    /// Why a lease ends or has ended; nothing while it is valid, and after its release.
    #[napi(catch_unwind)]
    pub fn lease_end(&self, lease: f64) -> Option<String> {
        self.manager.lease_end(lease as u64).map(|end| end.message(Clock::System.boot()))
    }

    /// Lets a lease expire whose handle was dropped. Returns its resource if the lease was still active.
    #[napi(catch_unwind)]
    pub fn forget(&self, lease: f64) -> Option<String> {
        self.manager.forget(lease as u64)
    }

    /// Keeps a renewed lease whose handle was dropped. Returns its resource, and reports the end of the lease
    /// later; nothing if it is not renewed, or about to end.
    #[napi(catch_unwind)]
    pub fn keep_dropped(&self, lease: f64) -> Option<String> {
        self.manager.keep_dropped(lease as u64)
    }

    /// For how many milliseconds a lease is still valid, rounded up; 0 if it is not.
    #[napi(catch_unwind)]
    pub fn remaining_ms(&self, lease: f64) -> f64 {
        // A caller that checks its lock is not blocked, even within a long event-loop turn.
        self.queue.seen(Clock::System.boot());
        millis(self.manager.remaining(lease as u64))
    }

    /// Looks up the holder of a resource.
    #[napi(catch_unwind)]
    pub fn inspect(&self, env: Env, slot: u32, strategy: u32, resource: String) {
        self.run(env, slot, strategy, |manager, strategy| {
            Ok(async move { manager.inspect(strategy, &resource).await.map(Outcome::Found) })
        });
    }

    /// Ends the current lease of a resource, no matter who holds it.
    #[napi(catch_unwind)]
    pub fn force_release(&self, env: Env, slot: u32, strategy: u32, resource: String) {
        self.run(env, slot, strategy, |manager, strategy| {
            Ok(async move { manager.force_release(strategy, &resource).await.map(Outcome::Flag) })
        });
    }

    /// Reports what a strategy guarantees here to locks with these acknowledgements and this TTL.
    #[napi(catch_unwind)]
    pub fn describe(&self, env: Env, slot: u32, strategy: u32, acks: u32, fsync: bool, ttl_ms: u32) {
        self.run(env, slot, strategy, |manager, strategy| {
            let acks = AckPolicy { required: acks, fsync, ..AckPolicy::default() };
            let ttl = Ttl::from_millis(ttl_ms)?;
            Ok(async move { manager.describe(strategy, acks, ttl).await.map(Box::new).map(Outcome::Guarantee) })
        });
    }

    /// Connects a strategy's backend.
    #[napi(catch_unwind)]
    pub fn connect(&self, env: Env, slot: u32, strategy: u32) {
        self.run(env, slot, strategy, |manager, strategy| {
            Ok(async move { manager.connect(strategy).await.map(|()| Outcome::Done) })
        });
    }

    /// Accepts no acquire any more. Releases all locks and gives up the backends when the locks were
    /// released, or `drain_ms` milliseconds have passed.
    #[napi(catch_unwind)]
    pub fn close(&self, env: Env, slot: u32, drain_ms: f64) {
        self.queue.begin(env);
        self.queue.flush();
        let queue = Arc::clone(&self.queue);
        self.manager.close(limit(drain_ms), move |held| queue.complete(slot, Outcome::Closed(held.clone())));
    }

    /// Shortens the time that `close` waits for locks.
    #[napi(catch_unwind)]
    pub fn shorten_drain(&self, drain_ms: f64) {
        self.queue.flush();
        self.manager.close(limit(drain_ms), |_| {});
    }
}

fn either(result: Result<bool>) -> Either<bool, Failure> {
    match result {
        Ok(value) => Either::A(value),
        Err(error) => Either::B(error.into()),
    }
}
