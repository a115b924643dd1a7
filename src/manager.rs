//! The manager as the facade calls it. Each call names the slot its promise waits in; the answer comes through the
//! settler.

use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use napi::Env;
use napi::bindgen_prelude::{Either, Float64ArraySlice};
use napi_derive::napi;

use crate::cancellations::Waits;
use crate::completion_queue::{Bridge, Settler};
use crate::config::{self, ManagerConfig, Terms};
use crate::outcome::{Failure, Outcome, Stats, grant, millis};
use fencelock_core::backend::contract::LockBackend;
use fencelock_core::error::{Error, Report, Result};
use fencelock_core::lease::{AckPolicy, Owner, Resources, Strategy};
use fencelock_core::manager::Pulse;
use fencelock_core::manager::{Acquired, Manager};
use fencelock_core::runtime::clock::Clock;
use fencelock_core::runtime::executor::{Executor, Job};

/// A manager of one environment.
#[napi]
pub struct NativeManager {
    pub(crate) manager: Arc<Manager>,
    pub(crate) settler: Arc<Settler>,
    pub(crate) waits: Waits,
}

/// Checks the configuration and makes a manager; no I/O.
#[napi(catch_unwind)]
pub fn open_manager(bridge: &Bridge, config: ManagerConfig) -> Either<NativeManager, Failure> {
    let settler = Arc::clone(bridge.settler());
    let backends = match config.backends() {
        Ok(backends) => backends,
        Err(error) => return Either::B(error.into()),
    };
    let observer = {
        let settler = Arc::clone(&settler);
        Box::new(move |lease, message| settler.tell(lease, message))
    };
    let manager = Manager::new(backends, Clock::System, observer, Arc::clone(&settler) as Arc<dyn Pulse>);
    settler.adopt(&manager);
    Either::A(NativeManager { manager, settler, waits: Waits::default() })
}

impl NativeManager {
    /// Runs a call on a backend's thread and settles its slot. `prepare` may fail: that settles the slot too.
    pub(crate) fn run<F>(
        &self,
        env: Env,
        slot: u32,
        strategy: u32,
        prepare: impl FnOnce(Arc<Manager>, Strategy) -> Result<F>,
    ) where
        F: Future<Output = Result<Outcome>> + Send + 'static,
    {
        match self.begin(env, slot, strategy, prepare) {
            None => {}
            Some(Begun { executor, job }) if executor.is_io() => self.settler.send(job),
            Some(Begun { executor, job }) => executor.run([job]),
        }
    }

    /// The part of [`Self::run`] that comes before the thread. `None`: the slot is settled already.
    pub(crate) fn begin<F>(
        &self,
        env: Env,
        slot: u32,
        strategy: u32,
        prepare: impl FnOnce(Arc<Manager>, Strategy) -> Result<F>,
    ) -> Option<Begun>
    where
        F: Future<Output = Result<Outcome>> + Send + 'static,
    {
        self.settler.begin(env);
        let mut promise = Promised { settler: Arc::clone(&self.settler), slot: Some(slot) };
        let prepared = config::strategy(strategy).and_then(|strategy| {
            let call = prepare(Arc::clone(&self.manager), strategy)?;
            // Not a thread is started for a closed manager.
            Ok((self.manager.open_backend(strategy)?.executor()?, call))
        });
        match prepared {
            Err(error) => {
                promise.settle(Outcome::Failed(error));
                None
            }
            Ok((executor, call)) => {
                let job = call.map(move |answer| promise.settle(answer.unwrap_or_else(Outcome::Failed)));
                Some(Begun { executor, job: Box::pin(job) })
            }
        }
    }
}

/// A call that is ready to run on its backend's thread.
pub(crate) struct Begun {
    pub(crate) executor: Executor,
    pub(crate) job: Job,
}

/// Settles a slot, also when the task that was to do so panicked: its promise would keep the process alive for ever.
struct Promised {
    settler: Arc<Settler>,
    slot: Option<u32>,
}

impl Promised {
    fn settle(&mut self, outcome: Outcome) {
        if let Some(slot) = self.slot.take() {
            self.settler.settle(slot, outcome);
        }
    }
}

impl Drop for Promised {
    fn drop(&mut self) {
        if self.slot.is_some() {
            self.settle(Outcome::Failed(Error::OutcomeUnknown(Report::new(
                "fencelock failed inside, so nobody knows what became of it; a lease may stand until its TTL. \
                 Please report it",
            ))));
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "one flat call is what makes a synchronous acquire cheap")]
#[napi]
impl NativeManager {
    /// The call in this slot need not be waited for any more.
    #[napi(catch_unwind)]
    pub fn cancel(&self, slot: u32) {
        self.waits.cancel(slot);
    }

    /// One attempt for a local lock, on this thread. `true`: granted, and lease, token and owner written; `false`: busy.
    #[napi(catch_unwind)]
    pub fn acquire_sync(
        &self,
        mut numbers: Float64ArraySlice<'_>,
        first: String,
        others: Option<Vec<String>>,
        ttl_ms: u32,
        min_token: f64,
        max_hold_ms: f64,
        max_stall_ms: f64,
    ) -> Either<bool, Failure> {
        self.settler.beat(Clock::System.boot());
        let terms = Terms { renew: config::renew(max_hold_ms, max_stall_ms), ..Terms::default() };
        let resources = match others {
            None => Resources::one(first),
            Some(others) => Resources::many(std::iter::once(first).chain(others).collect()),
        };
        let acquired = resources
            .and_then(|resources| {
                config::wanted(resources, Owner::random(), ttl_ms, min_token, AckPolicy::default(), terms)
            })
            .and_then(|wanted| self.manager.acquire_sync(Strategy::Local, &wanted));
        match acquired {
            Err(error) => Either::B(error.into()),
            Ok(Acquired::Busy(_)) => Either::A(false),
            Ok(Acquired::Granted { id, owner, token, .. }) => {
                // SAFETY: the facade's own array, which no other code writes to during this call.
                unsafe { numbers.as_mut() }.copy_from_slice(&grant(id, token, None, owner));
                Either::A(true)
            }
        }
    }

    /// Who holds a resource.
    #[napi(catch_unwind)]
    pub fn inspect(&self, env: Env, slot: u32, strategy: u32, resource: String) {
        self.run(env, slot, strategy, |manager, strategy| {
            Ok(async move { manager.inspect(strategy, &resource).await.map(Outcome::Info) })
        });
    }

    /// Ends whatever lease a resource has.
    #[napi(catch_unwind)]
    pub fn force_release(&self, env: Env, slot: u32, strategy: u32, resource: String) {
        self.run(env, slot, strategy, |manager, strategy| {
            Ok(async move { manager.force_release(strategy, &resource).await.map(Outcome::Flag) })
        });
    }

    /// What a strategy guarantees here to locks that ask for so many acknowledgements.
    #[napi(catch_unwind)]
    pub fn describe(&self, env: Env, slot: u32, strategy: u32, acks: u32) {
        self.run(env, slot, strategy, |manager, strategy| {
            Ok(async move { manager.describe(strategy, acks).await.map(Box::new).map(Outcome::Guarantee) })
        });
    }

    /// Connects a strategy's backend.
    #[napi(catch_unwind)]
    pub fn connect(&self, env: Env, slot: u32, strategy: u32) {
        self.run(env, slot, strategy, |manager, strategy| {
            Ok(async move { manager.connect(strategy).await.map(|()| Outcome::Done) })
        });
    }

    /// Counters so far.
    #[napi(catch_unwind)]
    pub fn stats(&self) -> Stats {
        self.manager.stats().into()
    }

    /// Releases everything and gives up the backends.
    #[napi(catch_unwind)]
    pub fn close(&self, env: Env, slot: u32) {
        self.settler.begin(env);
        self.settler.flush();
        let settler = Arc::clone(&self.settler);
        self.manager.close(move || settler.settle(slot, Outcome::Done));
    }

    /// For how many milliseconds more a lease counts, rounded up; 0 when it does not.
    #[napi(catch_unwind)]
    pub fn remaining_ms(&self, lease: f64) -> f64 {
        // Who looks at the lock is alive, also within a long turn of the event loop.
        self.settler.beat(Clock::System.boot());
        millis(self.manager.remaining(lease as u64))
    }
}
