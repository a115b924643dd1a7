//! Strong locks: leases on one Redis primary, proved by its replicas' acknowledgements.

mod backend;
mod config;

pub use backend::RedisBackend;
pub use config::{Config, Options, TlsOptions};
