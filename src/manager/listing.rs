//! Listings: all locks of a strategy, a page at a time.

use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::Either;
use napi_derive::napi;

use crate::convert::failure::Failure;
use crate::convert::outcome::Outcome;
use crate::convert::wanted::strategy;
use crate::manager::NativeManager;
use fencelock_core::manager::Listing;

/// A listing that is under way. Holds nothing open, so it may be dropped at any time.
#[napi]
pub struct NativeListing(Arc<Listing>);

#[napi]
impl NativeListing {
    /// Drops what it remembers, which may be much until it is collected.
    #[napi(catch_unwind)]
    pub fn end(&self) {
        self.0.end();
    }
}

#[napi]
impl NativeManager {
    /// Begins to list the resources that are held and begin with this. No I/O.
    #[napi(catch_unwind)]
    pub fn list(&self, number: u32, prefix: String) -> Either<NativeListing, Failure> {
        let manager = &self.manager;
        match strategy(number).and_then(move |strategy| manager.list(strategy, &prefix)) {
            Ok(listing) => Either::A(NativeListing(Arc::new(listing))),
            Err(error) => Either::B(error.into()),
        }
    }

    /// The next locks of a listing of this strategy, which may be none although there are more; nothing if
    /// there are no more.
    #[napi(catch_unwind)]
    pub fn next_page(&self, env: Env, slot: u32, strategy: u32, listing: &NativeListing) {
        let listing = Arc::clone(&listing.0);
        self.run(env, slot, strategy, |manager, _| {
            Ok(async move { manager.next_page(&listing).await.map(Outcome::Page) })
        });
    }
}
