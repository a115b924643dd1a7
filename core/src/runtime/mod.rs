//! What fencelock runs on: threads, clocks, timers, retries.

pub mod backoff;
pub mod clock;
pub mod deadline_queue;
#[cfg(unix)]
pub mod event_loop;
pub mod executor;
pub mod inline;
pub mod seen_names;
pub mod sync;
pub mod undo;
