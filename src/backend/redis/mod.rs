//! Strong locks: leases on one Redis primary, proved by its replicas' acknowledgements.

mod backend;
mod cleanup;
mod config;
mod connection;
mod deployment;
mod keys;
mod lanes;
mod link;
mod node;
mod outcome;
mod scripts;
mod tls;

pub use backend::RedisBackend;
pub use config::{Config, Options};
pub use tls::TlsOptions;
