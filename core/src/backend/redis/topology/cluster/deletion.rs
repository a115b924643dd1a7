//! Deleting a lease, wherever its slot is. While the slot is moving key by key, a script with several keys is
//! refused on both sides, so each lock is deleted by a script of its own.

use std::sync::Arc;

use futures_util::future::{BoxFuture, try_join_all};

use super::detour::OnMigration;
use super::nodes::Nodes;
use crate::backend::redis::config::slot::slot_of;
use crate::backend::redis::connection::route::Route;
use crate::backend::redis::node::{Neighbours, Node};
use crate::error::Result;
use crate::lease::{Owner, Resources};

impl Nodes {
    /// Deletes the locks of this owner, or of any; returns how many there were.
    pub async fn delete(self: &Arc<Self>, resources: &Resources, owner: Option<Owner>) -> Result<i64> {
        let call = |node: Arc<Node>, _| async move {
            match owner {
                Some(owner) => node.delete(resources, owner).await,
                None => node.force_release(resources).await.map(i64::from),
            }
        };
        if let Some(deleted) = self.request(resources, OnMigration::Stop, call).await? {
            return Ok(deleted);
        }
        let names = resources.as_slice().iter();
        let locks = names.map(|name| self.delete_lock(Arc::clone(name), owner));
        let deleted = try_join_all(locks).await?;
        Ok(deleted.into_iter().map(i64::from).sum())
    }

    async fn delete_lock(self: &Arc<Self>, name: Arc<str>, owner: Option<Owner>) -> Result<bool> {
        let resources = Resources::one(Arc::clone(&name))?;
        let name = &*name;
        let call = |node: Arc<Node>, asking| async move { node.delete_lock(name, owner, asking).await };
        self.request_key(&resources, call).await
    }
}

impl Neighbours for Nodes {
    fn owns(self: Arc<Self>, route: &Arc<Route>, resources: &Resources) -> bool {
        let owner = self.owner(slot_of(resources.first()));
        // Without an owner it may come back.
        owner.is_none_or(|owner| Arc::ptr_eq(owner.route(), route))
    }

    fn delete(self: Arc<Self>, resources: Resources, owner: Owner) -> BoxFuture<'static, Option<bool>> {
        Box::pin(
            async move { Self::delete(&self, &resources, Some(owner)).await.ok().map(|count| count > 0) },
        )
    }
}
