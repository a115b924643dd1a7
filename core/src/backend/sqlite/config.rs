//! The configuration of a lock file.

use std::path::PathBuf;

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The death of the process. A power loss may undo the newest commits.
    #[default]
    Normal,
    /// A power loss too.
    Full,
}

/// A lock file.
#[derive(Debug, Clone)]
pub struct Config {
    /// The path, as the user spells it.
    pub path: PathBuf,
    /// What a commit survives.
    pub durability: Durability,
    /// Accept the file on a network or FUSE file system.
    pub allow_network_filesystem: bool,
    /// The mode of the lock file, and of all files next to it, if this process creates it. `None`: what the
    /// umask leaves of 0666. Not on Windows.
    pub mode: Option<u32>,
    /// Whether the user spelled the path relative to the working directory.
    pub is_relative: bool,
}
