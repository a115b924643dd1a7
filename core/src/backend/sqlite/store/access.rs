//! What a transaction may do.

/// Whether a transaction writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only reads, and does not wait for a writer.
    Read,
    /// May write. Always begun as IMMEDIATE: a transaction that becomes a writer later can fail at any
    /// statement.
    Write,
}

/// What an operation needs of the lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Whether it writes.
    pub access: Access,
    /// Whether it creates the file if there is none.
    pub create: bool,
}

impl Needs {
    /// Reads a file that may exist.
    pub const READ: Self = Self { access: Access::Read, create: false };
    /// Changes a file that may exist.
    pub const WRITE: Self = Self { access: Access::Write, create: false };
    /// Reads a file, and creates it if necessary.
    pub const OPEN: Self = Self { access: Access::Read, create: true };
    /// Changes a file, and creates it if necessary.
    pub const CREATE: Self = Self { access: Access::Write, create: true };
}
