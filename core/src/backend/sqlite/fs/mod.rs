//! The file system under a lock file.

pub(crate) mod kind;
pub(crate) mod paths;
