//! Reading the holder of a resource, wherever its slot is. While the slot is moving key by key, a script with
//! several keys is refused on both sides, so lock and fence are read by scripts of their own.

use std::sync::Arc;
use std::time::Duration;

use super::detour::OnMigration;
use super::nodes::Nodes;
use crate::backend::contract::Info;
use crate::backend::redis::config::keys::KeyKind;
use crate::backend::redis::node::{Node, token_of};
use crate::error::Result;
use crate::lease::Resources;

impl Nodes {
    /// The holder of a resource.
    pub async fn inspect(self: &Arc<Self>, resources: &Resources) -> Result<Option<Info>> {
        let call = |node: Arc<Node>, _| async move { node.inspect(resources).await };
        match self.request(resources, OnMigration::Stop, call).await? {
            Some(info) => Ok(info),
            None => self.inspect_by_key(resources).await,
        }
    }

    async fn inspect_by_key(self: &Arc<Self>, resources: &Resources) -> Result<Option<Info>> {
        loop {
            let Some((before, _)) = self.read_key(resources, KeyKind::Lock).await? else { return Ok(None) };
            let fence = match self.read_key(resources, KeyKind::Fence).await {
                // What another application wrote must not hide who holds the lock.
                Err(error) if error.is_of_key_type() => None,
                fence => fence?,
            };
            let Some((owner, remaining)) = self.read_key(resources, KeyKind::Lock).await? else {
                return Ok(None);
            };
            // Each grant has an owner of its own, so while that is the same, the fence has its token.
            if owner == before {
                let token = fence.map_or(0, |(fence, _)| token_of(&fence));
                let call = |node: Arc<Node>, asking| async move {
                    node.count_waiters(resources.first(), asking).await
                };
                let waiters = self.request_key(resources, call).await?;
                return Ok(Some(Info { owner, token, remaining, waiters }));
            }
        }
    }

    async fn read_key(
        self: &Arc<Self>,
        resources: &Resources,
        kind: KeyKind,
    ) -> Result<Option<(String, Duration)>> {
        let name = resources.first();
        let call = |node: Arc<Node>, asking| async move { node.read_key(name, kind, asking).await };
        self.request_key(resources, call).await
    }
}
