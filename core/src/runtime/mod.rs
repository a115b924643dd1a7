//! What fencelock runs on: its threads, its clocks, its timers.

pub mod backoff;
pub mod cancellation;
pub mod clock;
pub mod deadline_queue;
pub mod executor;
pub mod undo;
