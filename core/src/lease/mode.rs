//! How a lease shares its resources with other leases.

/// What other leases may exist on the same resources at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// None.
    #[default]
    Exclusive,
}
