//! The only code that knows N-API. It turns JavaScript's arguments into the core's types, hands them to the core's
//! threads, and settles what comes back in batches.
//!
//! Two rules hold everywhere here. No `async fn` takes `&self`: a future that borrows a JavaScript object outlives it
//! when a worker is terminated. Every export is `catch_unwind`: a panic becomes an exception instead of ending the
//! process.

mod calls;
mod guarantee;
mod lock;
mod manager;
mod options;
mod outcome;
mod settle;
mod waits;
