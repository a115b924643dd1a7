//! The core's types as JavaScript sees them, and the reverse.

pub(crate) mod event;
pub(crate) mod failure;
pub(crate) mod guarantees;
pub(crate) mod info;
pub(crate) mod outcome;
pub(crate) mod stats;
pub(crate) mod wanted;

use std::time::Duration;

/// Whole milliseconds, rounded up: a lease with any time left never shows zero.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_micros().div_ceil(1000) as f64
}

/// An array is not as long as what it is for.
pub(crate) fn too_short(what: &str) -> napi::Error {
    napi::Error::new(napi::Status::InvalidArg, format!("{what}: the array has the wrong length"))
}
