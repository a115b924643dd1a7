//! What the guarantee of a node is asked for.

/// What locks require, and what there is for it.
pub(super) struct Asked {
    /// How many replicas have to acknowledge.
    pub acks: u32,
    /// Whether a lease has to be on disk.
    pub fsync: bool,
    /// The replicas that the deployment is declared to have.
    pub declared: u32,
    /// Those that are connected now; `None` if that cannot be seen.
    pub connected: Option<u32>,
}
