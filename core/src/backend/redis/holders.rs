//! Who holds leases: a key for each manager, on the node where its id belongs as if it was a resource.

use std::sync::Arc;
use std::time::Duration;

use super::RedisBackend;
use super::node::Node;
use super::topology::cluster::OnMigration;
use crate::error::Result;
use crate::lease::{Holder, HolderId, Resources};

impl RedisBackend {
    /// Stores who a manager is, for so long.
    pub(super) async fn write_holder(&self, id: HolderId, holder: &Holder, lasts: Duration) -> Result<()> {
        self.check_open()?;
        let resources = Resources::one(id.to_string())?;
        let id = resources.first();
        let call =
            |node: Arc<Node>, asking| async move { node.write_holder(id, (holder, lasts), asking).await };
        self.topology.on_owner(&resources, (OnMigration::Ask, self.patience), call).await
    }

    /// Who a manager is, if that is stored.
    pub(super) async fn read_holder(&self, id: HolderId) -> Result<Option<Holder>> {
        self.check_open()?;
        let resources = Resources::one(id.to_string())?;
        let id = resources.first();
        let call = |node: Arc<Node>, asking| async move { node.read_holder(id, asking).await };
        self.topology.on_owner(&resources, (OnMigration::Ask, self.patience), call).await
    }
}
