//! Local locks: lease rows in a SQLite file, for the processes of one host.

mod backend;
mod config;

pub use backend::SqliteBackend;
pub use config::{Config, Durability};
