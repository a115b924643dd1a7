//! fencelock's core: leases on Redis and SQLite, without JavaScript.
//!
//! The layers, each knowing only those below it:
//!
//! ```text
//! manager    the leases of one LockManager: acquire, wait, renew, extend, release, close
//! backend    what a grant is on Redis and on SQLite, and how it is proved
//! lease      what a lock is made of: resources, owner, TTL, token
//! runtime    threads, deadlines, clocks
//! error      why an operation failed
//! ```

pub mod backend;
pub mod error;
pub mod lease;
pub mod manager;
pub mod runtime;
