//! Strong locks: leases on one Redis primary, proved by its replicas' acknowledgements.
//!
//! From the contract down to the socket, each layer knowing only those below it:
//!
//! ```text
//! backend      the contract of crate::backend
//! deployment   which node owns a resource: the seam for more than one
//! node         one server: what a grant, an extension, a release is there
//! cleanup      undoes in the background what may have been written
//! lanes        tasks that carry batches, with one WAIT each; queue decides which requests travel together, trip sorts
//!              what came back
//! line         those of us who wait: hears of their turn, shows life
//! control      the connection that never carries a WAIT
//! connection   a pipeline that answers what it read, also when it breaks; dial makes one
//! outcome      what each reply means · scripts, keys: what is sent · guarantee, survival: what INFO means
//! alarm, nudge: time limits that hardly ever come · config · tls · backoff · bench: parts of this, for benches/core
//! ```

mod alarm;
mod backend;
mod backoff;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod cleanup;
mod config;
mod connection;
mod control;
mod deployment;
mod dial;
mod guarantee;
mod keys;
mod lanes;
mod line;
mod link;
mod node;
mod nudge;
mod outcome;
mod queue;
mod scripts;
mod survival;
#[cfg(test)]
#[cfg(unix)] // for the signals that pause servers
mod tests;
mod tls;
mod trip;

pub use backend::RedisBackend;
pub use config::{Config, Options, TlsOptions};
