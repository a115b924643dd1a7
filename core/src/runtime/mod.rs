//! What fencelock runs on: threads, clocks, timers, retries.

pub mod backoff;
pub mod clock;
pub mod deadline_queue;
pub mod executor;
pub mod sync;
pub mod undo;
