//! Which node owns a resource.

use super::node::Node;
use crate::error::Result;
use crate::lease::Resources;

/// The servers of a deployment. Standalone so far; whatever moves or spreads resources (Sentinel, Cluster) decides
/// here, and nothing else has to know.
pub(crate) struct Deployment {
    primary: Node,
}

impl Deployment {
    /// One primary with its replicas.
    pub const fn standalone(primary: Node) -> Self {
        Self { primary }
    }

    /// The node that owns all of these. One lease has one owner, because it is one atomic step.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "resources of different nodes are an error, once there are several"
    )]
    pub fn owner_of(&self, _resources: &Resources) -> Result<&Node> {
        Ok(&self.primary)
    }

    /// All nodes.
    pub const fn nodes(&self) -> &[Node] {
        std::slice::from_ref(&self.primary)
    }
}
