//! The addon: what crosses between JavaScript and fencelock's core. The only crate that knows Node-API.

// What is exported is documented in `binding.d.ts`.
#![warn(missing_docs)]

mod bridge;
mod completion_queue;
mod config;
mod convert;
mod environment;
#[cfg(unix)]
mod inline;
mod manager;
mod wire;

use napi_derive::napi;

/// The line that identifies the version of a file that cannot be loaded here; `npm run gate` looks for it.
const STAMP: &str = concat!("fencelock addon ", env!("CARGO_PKG_VERSION"), "\n");

/// The version of this addon, which lib/native/load.js compares with that of the package.
#[napi(catch_unwind)]
pub fn version() -> String {
    // Opaque to the optimiser, so that the line as a whole stays in the file.
    let stamp = std::hint::black_box(STAMP);
    stamp.rsplit(' ').next().unwrap_or_default().trim_end().to_owned()
}
