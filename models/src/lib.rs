//! Models of fencelock's protocols. Each is explored exhaustively within bounds, with and without each of its
//! rules; what was found is in docs/internals/models.md.
//!
//! The layers, each knowing only those below it:
//!
//! ```text
//! main       the command `npm run models`
//! rows       all configurations, what is expected of each, and how they are shown
//! strong, quorum, guard, shared
//!            one protocol each: its state, its steps, its configurations
//! row        a configuration with its expectation
//! check      the search through all states of a model
//! invariant  what must hold; fingerprint, ticks: what models are built with
//! ```

pub mod check;
mod fingerprint;
pub mod guard;
pub mod invariant;
pub mod quorum;
pub mod row;
pub mod rows;
pub mod shared;
pub mod strong;
pub mod ticks;
