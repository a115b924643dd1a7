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
use crate::runtime::clock::BootInstant;

impl Nodes {
    /// Deletes the locks of this owner, or of any, or leaves the rest of their minimum; returns how many
    /// there were.
    pub async fn delete(
        self: &Arc<Self>,
        resources: &Resources,
        owner: Option<Owner>,
        stands_until: Option<BootInstant>,
    ) -> Result<i64> {
        let call = |node: Arc<Node>, _| async move {
            match owner {
                Some(owner) => node.delete(resources, owner, stands_until).await,
                None => node.force_release(resources).await.map(i64::from),
            }
        };
        if let Some(deleted) = self.request(resources, OnMigration::Stop, call).await? {
            return Ok(deleted);
        }
        let names = resources.as_slice().iter();
        let locks = names.map(|name| self.delete_lock(Arc::clone(name), owner, stands_until));
        let deleted = try_join_all(locks).await?;
        Ok(deleted.into_iter().map(i64::from).sum())
    }

    async fn delete_lock(
        self: &Arc<Self>,
        name: Arc<str>,
        owner: Option<Owner>,
        stands_until: Option<BootInstant>,
    ) -> Result<bool> {
        let resources = Resources::one(Arc::clone(&name))?;
        let name = &*name;
        let call = |node: Arc<Node>, asking| async move {
            node.delete_lock(name, owner, stands_until, asking).await
        };
        self.request_key(&resources, call).await
    }
}

impl Neighbours for Nodes {
    fn owns(self: Arc<Self>, route: &Arc<Route>, resources: &Resources) -> bool {
        let owner = self.owner(slot_of(resources.first()));
        // Without an owner it may come back.
        owner.is_none_or(|owner| Arc::ptr_eq(owner.route(), route))
    }

    fn delete(
        self: Arc<Self>,
        resources: Resources,
        owner: Owner,
        stands_until: Option<BootInstant>,
    ) -> BoxFuture<'static, Option<bool>> {
        Box::pin(async move {
            let deleted = Self::delete(&self, &resources, Some(owner), stands_until).await;
            deleted.ok().map(|count| count > 0)
        })
    }
}
