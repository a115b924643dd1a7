//! The lock files of this process, and who shares them.

pub(crate) mod lock_file;
pub(crate) mod registry;
