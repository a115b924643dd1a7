//! Which server a resource belongs to. Locks, waiting and renewal ask here and nowhere else, so that deployments of
//! several primaries fit in without touching them.

use std::sync::Arc;

use super::node::Node;
use crate::lease::Resources;

/// A primary with its replicas.
pub(super) struct Deployment {
    primary: Arc<Node>,
}

impl Deployment {
    pub(super) fn standalone(primary: Arc<Node>) -> Self {
        Self { primary }
    }

    /// Who grants all of these resources together.
    pub(super) fn node_of(&self, _resources: &Resources) -> &Arc<Node> {
        &self.primary
    }

    /// Every server there is.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        std::iter::once(&self.primary)
    }
}
