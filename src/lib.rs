//! The addon: what crosses between JavaScript and fencelock's core. The only crate that knows Node-API.

mod call_batch;
mod cancellations;
mod completion_queue;
mod config;
mod guarantees;
mod lock;
mod manager;
mod outcome;
