//! The calls that are many, several in one step: acquires and releases as records of doubles. The counterpart is
//! lib/calls.js.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt;
use napi::Env;
use napi::bindgen_prelude::Float64ArraySlice;
use napi_derive::napi;

use crate::config::{self, Terms};
use crate::manager::{Begun, NativeManager};
use crate::outcome::Outcome;
use fencelock_core::lease::{AckPolicy, Owner, Resources};
use fencelock_core::manager::LeaseId;
use fencelock_core::runtime::executor::{Executor, Job};

/// Doubles in a record: slot, strategy, the lease to release or 0, and the terms of an acquire: how many names, `ttlMs`,
/// `minToken`, acks, `ackTimeoutMs`, `waitMs`, whether fair, `maxHoldMs`, `maxStallMs`. lib/calls.js has the same.
const STRIDE: usize = 12;

#[napi]
impl NativeManager {
    /// Begins so many calls. `names` are the resources of the acquires among them.
    #[napi(catch_unwind)]
    pub fn call(&self, env: Env, count: u32, records: Float64ArraySlice<'_>, names: Vec<String>) {
        let (records, _) = records.as_chunks::<STRIDE>();
        let records = &records[..count as usize];
        let mut owners = Owner::several(records.iter().filter(|[_, _, lease, ..]| *lease == 0.0).count());
        let mut names = names.into_iter();
        let mut local = Local::default();
        for &[slot, strategy, lease, ref terms @ ..] in records {
            let (slot, strategy) = (slot as u32, strategy as u32);
            // A call that panics in `begin` settles its own slot, and none takes another with it.
            let begun = catch_unwind(AssertUnwindSafe(|| {
                if lease > 0.0 {
                    self.release(env, slot, strategy, lease as u64)
                } else {
                    let owner = owners.next().expect("there is one for each acquire");
                    self.acquire(env, slot, strategy, owner, terms, &mut names)
                }
            }));
            match begun {
                Ok(Some(Begun { executor, job })) if executor.is_io() => self.settler.send(job),
                Ok(Some(Begun { executor, job })) => local.add(executor, job),
                Ok(None) | Err(_) => {}
            }
        }
        local.start();
    }
}

impl NativeManager {
    fn acquire(
        &self,
        env: Env,
        slot: u32,
        strategy: u32,
        owner: Owner,
        terms: &[f64; 9],
        names: &mut impl Iterator<Item = String>,
    ) -> Option<Begun> {
        let [count, ttl_ms, min_token, acks, timeout_ms, wait_ms, fair, max_hold_ms, max_stall_ms] = *terms;
        // Also for a call that fails, because the names of the next one follow.
        let resources = match count as usize {
            1 => Resources::one(names.next().unwrap_or_default()),
            count => Resources::many(names.take(count).collect()),
        };
        self.begin(env, slot, strategy, |manager, strategy| {
            let acks = AckPolicy { required: acks as u32, timeout_ms: timeout_ms as u32 };
            let terms = Terms { wait_ms, fair: fair > 0.0, renew: config::renew(max_hold_ms, max_stall_ms) };
            let wanted = config::wanted(resources?, owner, ttl_ms as u32, min_token, acks, terms)?;
            let call = self.waits.begin(slot, !wanted.wait.is_zero());
            let acquire = manager.acquire(strategy, wanted, call.cancel());
            Ok(acquire.map(move |acquired| {
                drop(call);
                acquired.map(Outcome::Acquired)
            }))
        })
    }

    fn release(&self, env: Env, slot: u32, strategy: u32, lease: LeaseId) -> Option<Begun> {
        let Some(released) = self.manager.release(lease) else {
            // As after closing the manager. There may be no thread left to do anything.
            self.settler.begin(env);
            self.settler.settle(slot, Outcome::Flag(false));
            return None;
        };
        self.begin(env, slot, strategy, |_, _| Ok(released.map(|released| released.map(Outcome::Flag))))
    }
}

/// What the lock file's thread, of which a manager has one, takes all at once.
#[derive(Default)]
struct Local(Option<(Executor, Vec<Job>)>);

impl Local {
    fn add(&mut self, executor: Executor, job: Job) {
        self.0.get_or_insert_with(|| (executor, Vec::new())).1.push(job);
    }

    fn start(self) {
        if let Some((executor, jobs)) = self.0 {
            executor.run(jobs);
        }
    }
}
