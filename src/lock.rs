//! What a lock handle asks of its manager. The handle itself is the facade's: it knows its lease by number.

use napi::Env;
use napi::bindgen_prelude::Either;
use napi_derive::napi;

use crate::manager::NativeManager;
use crate::outcome::{Failure, Outcome};
use fencelock_core::lease::Ttl;

#[napi]
impl NativeManager {
    /// Extends a lease; without a TTL, by the one it was granted with.
    #[napi(catch_unwind)]
    pub fn extend(&self, env: Env, slot: u32, strategy: u32, lease: f64, ttl_ms: Option<u32>) {
        self.run(env, slot, strategy, |manager, _| {
            let ttl = ttl_ms.map(Ttl::from_millis).transpose()?;
            Ok(async move { manager.extend(lease as u64, ttl).await.map(|()| Outcome::Done) })
        });
    }

    /// Ends a local lease on this thread.
    #[napi(catch_unwind)]
    pub fn release_sync(&self, lease: f64) -> Either<bool, Failure> {
        match self.manager.release_sync(lease as u64) {
            Ok(released) => Either::A(released),
            Err(error) => Either::B(error.into()),
        }
    }

    /// Has the facade told before a lease ends. `false`: it is too late for that.
    #[napi(catch_unwind)]
    pub fn watch(&self, lease: f64) -> Either<bool, Failure> {
        match self.manager.watch(lease as u64) {
            Ok(watching) => Either::A(watching),
            Err(error) => Either::B(error.into()),
        }
    }

    /// The handle is gone: its lease runs out. Answers the resource if the lease still stood.
    #[napi(catch_unwind)]
    pub fn forget(&self, lease: f64) -> Option<String> {
        self.manager.forget(lease as u64)
    }
}

/// How a file that cannot be loaded here is told its version by: the gate of `npm run gate` looks for this line.
const STAMP: &str = concat!("fencelock addon ", env!("CARGO_PKG_VERSION"), "\n");

/// The version this addon was built as, which the facade compares with its package.
#[napi(catch_unwind)]
pub fn version() -> String {
    // Opaque, so that the line as a whole stays in the file.
    let stamp = std::hint::black_box(STAMP);
    stamp.rsplit(' ').next().unwrap_or_default().trim_end().to_owned()
}
