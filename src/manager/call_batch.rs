//! Acquires and releases, several in one step. lib/native/call-batch.js gathers them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use napi::Env;
use napi::bindgen_prelude::Float64ArraySlice;
use napi_derive::napi;

use crate::convert::outcome::Outcome;
use crate::convert::too_short;
use crate::convert::wanted::{resources, wanted};
use crate::manager::{NativeManager, PreparedCall};
use crate::wire::Call;
use fencelock_core::lease::{Owner, Strategy};
use fencelock_core::manager::{Manager, OnWait, Topic};
use fencelock_core::runtime::executor::{Executor, Job};

#[napi]
impl NativeManager {
    /// Starts the first `count` of these calls. `names` are the resources of the acquires among them.
    #[napi(catch_unwind)]
    pub fn call(
        &self,
        env: Env,
        count: u32,
        records: Float64ArraySlice<'_>,
        names: Vec<String>,
    ) -> napi::Result<()> {
        let (records, _) = records.as_chunks::<{ Call::STRIDE }>();
        let records = records.get(..count as usize).ok_or_else(|| too_short("records"))?;
        let calls = records.iter().map(Call::read);
        let mut owners = self.manager.new_owners(calls.clone().filter(Call::is_acquire).count());
        let mut names = names.into_iter();
        let mut by_thread = ByThread::default();
        for call in calls {
            // A call that panics while it is prepared settles its own slot; the others continue.
            let prepared = catch_unwind(AssertUnwindSafe(|| {
                if call.is_acquire() {
                    let owner = owners.next().expect("there is one for each acquire");
                    self.acquire(env, &call, owner, &mut names)
                } else {
                    self.release(env, &call)
                }
            }));
            match prepared {
                Ok(Some(PreparedCall { executor, job })) if executor.is_io() => {
                    self.queue.send(job, call.may_be_inline());
                }
                Ok(Some(PreparedCall { executor, job })) => by_thread.add(executor, job),
                Ok(None) | Err(_) => {}
            }
        }
        by_thread.start();
        Ok(())
    }
}

/// The event loop reads the grant of an inline call, so a renewed lease is lost if the loop is blocked
/// meanwhile for longer than its TTL. Those with a shorter one are left to the I/O thread.
const LONG_ENOUGH_MS: f64 = 10_000.0;

impl Call {
    /// Whether it may run on JavaScript's thread.
    fn may_be_inline(&self) -> bool {
        self.strategy as usize == Strategy::Strong.index()
            && (self.renewed == 0.0 || self.ttl_ms >= LONG_ENOUGH_MS)
    }

    fn is_acquire(&self) -> bool {
        self.lease == 0.0
    }
}

impl NativeManager {
    fn acquire(
        &self,
        env: Env,
        call: &Call,
        owner: Owner,
        names: &mut impl Iterator<Item = String>,
    ) -> Option<PreparedCall> {
        // Read even if the call fails, because the names of the next one follow.
        let resources = resources(call, names);
        let slot = call.slot as u32;
        self.prepare(env, slot, call.strategy as u32, Manager::open_executor, |manager, strategy| {
            let wanted = wanted(call, resources?, owner)?;
            let cancellable = self.cancellations.register(slot, !wanted.wait.is_zero());
            let observed = !wanted.wait.is_zero() && self.queue.wants(Topic::Waits);
            let on_wait = observed.then(|| {
                let queue = Arc::clone(&self.queue);
                Box::new(move || queue.report_wait(slot)) as OnWait
            });
            let acquire = manager.acquire_noticed(strategy, wanted, cancellable.cancel(), on_wait);
            Ok(acquire.map(move |acquired| {
                drop(cancellable);
                acquired.map(Outcome::Acquired)
            }))
        })
    }

    fn release(&self, env: Env, call: &Call) -> Option<PreparedCall> {
        let slot = call.slot as u32;
        let Some(released) = self.manager.release(call.lease as u64) else {
            // For example after the manager was closed. There may be no thread left to run anything.
            self.queue.begin(env);
            self.queue.complete(slot, Outcome::Flag(false));
            return None;
        };
        // The lease is taken out already, so it must be released, even if the manager was closed just now.
        self.prepare(env, slot, call.strategy as u32, Manager::used_executor, |_, _| {
            Ok(released.map(|released| released.map(Outcome::Flag)))
        })
    }
}

/// The calls for threads that take them as soon as they come, passed to each thread together.
#[derive(Default)]
struct ByThread(Vec<(Executor, Vec<Job>)>);

impl ByThread {
    fn add(&mut self, executor: Executor, job: Job) {
        // Nearly always one: the thread of the manager's lock file.
        match self.0.iter_mut().find(|(other, _)| *other == executor) {
            Some((_, jobs)) => jobs.push(job),
            None => self.0.push((executor, vec![job])),
        }
    }

    fn start(self) {
        for (executor, jobs) in self.0 {
            executor.run(jobs);
        }
    }
}
