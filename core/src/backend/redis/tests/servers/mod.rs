//! The servers of these tests: real ones, a proxy that breaks connections, and one that damages its replies.

pub mod clusters;
pub mod faulty_server;
pub mod proxy;
pub mod sentinels;
pub mod server;
