//! Acknowledgements by replicas: how many a grant needs, and how many it got.

/// Acknowledgements by replicas: how many were asked for, how many came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acks {
    /// How many the grant needed.
    pub required: u32,
    /// How many came in time.
    pub received: u32,
}

/// What must acknowledge a write, and by when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AckPolicy {
    /// How many replicas; 0 asks for none.
    pub required: u32,
    /// 1 to half the TTL. Never 0, which would make WAIT block for ever; ignored when nothing is asked for.
    pub timeout_ms: u32,
    /// Whether the primary and these replicas must have the write on disk, not only in memory.
    pub fsync: bool,
}
