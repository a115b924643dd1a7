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

/// Which operations a transaction takes first, if there are more than it has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// It keeps something that is held, or shows that waiters live: it must not wait for a burst of others.
    /// There are never more of these than leases are held.
    Keep,
    /// It ends something that is held, which others wait for.
    End,
    /// All others.
    Rest,
}

/// What an operation needs of the lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Whether it writes.
    pub access: Access,
    /// Whether it creates the file if there is none.
    pub create: bool,
    /// When its turn comes.
    pub priority: Priority,
}

impl Needs {
    /// Reads a file that may exist.
    pub const READ: Self = Self { access: Access::Read, create: false, priority: Priority::Rest };
    /// Changes a file that may exist.
    pub const WRITE: Self = Self { access: Access::Write, ..Self::READ };
    /// Keeps what is held in a file that may exist.
    pub const KEEP: Self = Self { priority: Priority::Keep, ..Self::WRITE };
    /// Ends what is held in a file that may exist.
    pub const END: Self = Self { priority: Priority::End, ..Self::WRITE };
    /// Reads a file, and creates it if necessary.
    pub const OPEN: Self = Self { create: true, ..Self::READ };
    /// Changes a file, and creates it if necessary.
    pub const CREATE: Self = Self { create: true, ..Self::WRITE };

    /// Whether there is nothing to do without a file.
    pub fn only_changes(self) -> bool {
        self.access == Access::Write && !self.create
    }
}
