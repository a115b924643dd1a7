//! The file system that a lock file is on.

pub(crate) mod kind;
pub(crate) mod paths;
pub(crate) mod permission;
pub(crate) mod regular_file;
