//! fencelock: locks that say honestly what they guarantee.
//!
//! The layers, each knowing only those below it:
//!
//! ```text
//! js         the only code that knows N-API
//! manager    the leases one manager holds (held, stats); acquire, extend, release · close
//! acquire    one attempt, or waiting (room, cancel)
//! renew      keeps leases alive
//! watch      tells holders of the end of their lease before it comes
//! wheel      the timer that both share among all leases
//! backend    redis, sqlite: what a grant is, and how it is proved
//! lease · token · clock · error · home
//! ```

pub mod acquire;
pub mod backend;
pub mod cancel;
pub mod clock;
pub mod error;
pub mod held;
pub mod home;
#[cfg_attr(test, allow(dead_code, reason = "napi-derive registers nothing in test builds"))]
mod js;
pub mod lease;
pub mod manager;
pub mod renew;
pub mod room;
pub mod stats;
pub mod token;
pub mod watch;
mod wheel;
