//! Who holds leases, for people: one key for each manager.

use std::time::Duration;

use redis::Value;

use super::NodeResult;
use super::inspect::{call_with_key, read_key, refused};
use crate::backend::redis::config::keys::KeyKind;
use crate::backend::redis::connection::shared::ExchangeError;
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::listing::{pack_count_waiters, pack_holder};
use crate::backend::redis::protocol::operation::Operation;
use crate::lease::Holder;

/// Stores who the manager with this id is. `asking`: to this node.
pub(super) async fn write_holder(
    context: &NodeContext,
    id: &str,
    (holder, lasts): (&Holder, Duration),
    asking: bool,
) -> NodeResult<()> {
    let (keys, text) = (&context.settings.keys, holder.encode());
    let response = call_with_key(context, asking, |packer, out| {
        pack_holder(keys, id, &text, lasts, packer, out);
    });
    let mut response = response.await?;
    match (response.broken, response.replies.pop()) {
        (Some(broken), _) => Err(context.query_failed(ExchangeError::Broken(broken)).into()),
        (None, Some(Value::Okay)) => Ok(()),
        (None, reply) => Err(refused(context.reply_context(Operation::Query), &reply.unwrap_or(Value::Nil))),
    }
}

/// Who the manager with this id is, if the node knows. `asking`: this node.
pub(super) async fn read_holder(context: &NodeContext, id: &str, asking: bool) -> NodeResult<Option<Holder>> {
    let stored = read_key(context, id, KeyKind::Holder, asking).await?;
    Ok(stored.and_then(|(text, _)| Holder::decode(&text)))
}

/// How many wait for a resource, by a script with no key but its wait queue: it works while the slot is
/// moving. `asking`: this node.
pub(super) async fn count_waiters(context: &NodeContext, resource: &str, asking: bool) -> NodeResult<u32> {
    let keys = &context.settings.keys;
    let response = call_with_key(context, asking, |packer, out| {
        pack_count_waiters(keys, resource, packer, out);
    });
    let mut response = response.await?;
    match (response.broken, response.replies.pop()) {
        (Some(broken), _) => Err(context.query_failed(ExchangeError::Broken(broken)).into()),
        (None, Some(Value::Int(count))) => Ok(u32::try_from(count).unwrap_or(0)),
        (None, reply) => Err(refused(context.reply_context(Operation::Query), &reply.unwrap_or(Value::Nil))),
    }
}
