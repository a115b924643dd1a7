//! Local locks: lease rows in a SQLite file, for the processes of one host.
//!
//! ```text
//! backend      the contract; sync and async entry
//! file  queue  a lock file of this process: thread, group commit, background undo · registry: who shares it
//! operations   acquire, extend, release … as functions of a transaction · describe · purge · sweep
//! rows         the leases, in SQL · holder: whose lease it is, and when it ends
//! watcher      who waits, and how they are woken · line: the fair waiters, in SQL
//! store        the open file: one transaction at a time, on one connection · snapshot: kept between them · side: its -wal and -shm
//! open         identity (whose file is it) → liveness → connection · create: making it, raced by others
//! place  filesystem  busy  failure   paths and inodes, network or not, patience, errors in words
//! ```
//!
//! Three rules keep the data whole; each is about POSIX locks, which belong to a process and vanish when *any* of its
//! descriptors of the file is closed (<https://sqlite.org/howtocorrupt.html>, section 2.2):
//! - The database, its -wal and its -shm are opened through SQLite only, never with `std::fs`.
//! - A file that is not ours, or that another copy of fencelock in this process uses, is never closed once a
//!   descriptor is open ([`identity`]); a second copy refuses ([`liveness`]).
//! - A file that was replaced is closed without touching anything by name ([`store`]).

mod backend;
mod busy;
mod config;
mod create;
mod describe;
mod failure;
mod file;
mod filesystem;
mod holder;
mod identity;
mod line;
mod liveness;
mod open;
mod operations;
mod place;
mod purge;
mod queue;
mod registry;
mod rows;
mod side;
mod snapshot;
mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod watcher;

pub use backend::SqliteBackend;
pub use config::{Config, Durability};
