//! What only fencelock/testing calls: leases that end before their time.

use futures_util::TryFutureExt;
use napi::Env;
use napi_derive::napi;

use crate::convert::outcome::Outcome;
use crate::manager::NativeManager;

#[napi]
impl NativeManager {
    /// Ends a lease as if it was lost, for this reason: for its holder, and then for others.
    #[napi(catch_unwind)]
    pub fn lose(&self, env: Env, slot: u32, strategy: u32, lease: f64, why: String) {
        self.run(env, slot, strategy, move |manager, _| {
            Ok(manager.lose(lease as u64, &why).map_ok(Outcome::Flag))
        });
    }

    /// Ends the current lease of a resource as if its time had passed: for its holder, and then for others.
    #[napi(catch_unwind)]
    pub fn expire(&self, env: Env, slot: u32, strategy: u32, resource: String) {
        self.run(env, slot, strategy, |manager, strategy| {
            Ok(async move { manager.expire(strategy, &resource).await.map(Outcome::Flag) })
        });
    }
}
