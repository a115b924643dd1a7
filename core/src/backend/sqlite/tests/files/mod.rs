//! The lock file and the files beside it: how they are created, who may use them, and what happens when they
//! are damaged, deleted or replaced.

mod creation;
#[cfg(unix)]
pub(super) mod damage;
mod damaged_rows;
#[cfg(unix)]
mod file_watch;
mod foreign;
#[cfg(unix)]
mod given_up;
mod names;
#[cfg(unix)]
mod permissions;
mod replacement;
#[cfg(unix)]
mod special_files;
#[cfg(target_os = "linux")]
pub(super) mod stopped;
mod unusable;
