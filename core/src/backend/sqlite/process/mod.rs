//! The lock files of this process, and their users.

pub(crate) mod background_undo;
pub(crate) mod file_watch;
pub(crate) mod lock_file;
pub(crate) mod reaper;
pub(crate) mod registry;
