//! Which file, and what it must survive.

use std::path::PathBuf;

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The process's death. Power loss may cost the newest commits.
    #[default]
    Normal,
    /// Power loss too.
    Full,
}

/// A lock file.
#[derive(Debug, Clone)]
pub struct Config {
    /// As the user gave it.
    pub path: PathBuf,
    /// What a commit survives.
    pub durability: Durability,
    /// Take the file also when it lies on a network or FUSE file system.
    pub allow_network_filesystem: bool,
}
