//! Reading and forcibly ending the lease of a resource.

use std::time::Duration;

use redis::Value;

use super::{NodeError, NodeResult};
use crate::backend::contract::Info;
use crate::backend::redis::connection::shared::ExchangeError;
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::expected::ScriptReply;
use crate::backend::redis::protocol::replies::{Operation, ReplyContext};
use crate::backend::redis::protocol::scripts::{
    DELETE_LOCK, FORCE_RELEASE, INSPECT, pack_asking, pack_delete_lock, pack_inspect,
};
use crate::backend::redis::protocol::values::text;
use crate::lease::{Owner, Resources};

/// The holder of a resource. A lock without a TTL, which is not one of ours, has [`Duration::MAX`] left.
pub(crate) async fn inspect(context: &NodeContext, resources: &Resources) -> NodeResult<Option<Info>> {
    let keys = &context.settings.keys;
    let call = context.shared.run_script(&INSPECT, |packer, out| pack_inspect(keys, resources, packer, out));
    let reply = call.await.map_err(|error| context.query_failed(error))?;
    match reply {
        Value::Nil => Ok(None),
        Value::Array(fields) if fields.len() == 3 => {
            let mut fields = fields.into_iter();
            let mut next = || fields.next().unwrap_or(Value::Nil);
            let owner = text(next()).unwrap_or_default();
            let token = text(next()).and_then(|token| token.parse().ok()).unwrap_or(0);
            let remaining = match next() {
                Value::Int(left_ms) if left_ms >= 0 => Duration::from_millis(left_ms.unsigned_abs()),
                _ => Duration::MAX,
            };
            Ok(Some(Info { owner, token, remaining }))
        }
        other => Err(refused(context.reply_context(Operation::Query), &other)),
    }
}

/// Deletes the lock. The fence stays, so that tokens keep rising.
pub(crate) async fn force_release(context: &NodeContext, resources: &Resources) -> NodeResult<bool> {
    let keys = &context.settings.keys;
    let resource = resources.first();
    let call = context.shared.run_script(&FORCE_RELEASE, |packer, out| {
        FORCE_RELEASE.pack_queues(keys, &std::iter::once(resource), None, ScriptReply::Number, packer, out);
    });
    let replies = context.reply_context(Operation::ForceRelease);
    match call.await {
        Ok(Value::Int(deleted)) => Ok(deleted > 0),
        Ok(other) => Err(refused(replies, &other)),
        Err(ExchangeError::Broken(broken)) if broken.sent => Err(replies.unknown(resource, &broken).into()),
        Err(error) => Err(context.query_failed(error).into()),
    }
}

/// Deletes one lock of this owner, or of any, by a script with a single key: it works while the slot is
/// moving. `asking`: to this node.
pub(crate) async fn delete_lock(
    context: &NodeContext,
    resource: &str,
    owner: Option<Owner>,
    asking: bool,
) -> NodeResult<bool> {
    let keys = &context.settings.keys;
    let exchange = context.shared.exchange(2 + usize::from(asking), |packer, out| {
        // Always loaded, which is simpler than repeating the call, and this is rare.
        DELETE_LOCK.pack_load(packer, out);
        if asking {
            pack_asking(packer, out);
        }
        pack_delete_lock(keys, resource, owner, packer, out);
    });
    let operation = if owner.is_some() { Operation::Release } else { Operation::ForceRelease };
    let replies = context.reply_context(operation);
    let response = exchange.await.map_err(|error| context.query_failed(error))?;
    match (response.broken, response.replies.last()) {
        (None, Some(Value::Int(deleted))) => Ok(*deleted > 0),
        (None, Some(other)) => Err(refused(replies, other)),
        (Some(broken), _) if broken.sent => Err(replies.unknown(resource, &broken).into()),
        (Some(broken), _) => Err(replies.not_sent(&broken).into()),
        (None, None) => Err(replies.not_sent(&"no reply").into()),
    }
}

/// Why a reply is not the one that was hoped for.
pub(super) fn refused(context: ReplyContext<'_>, reply: &Value) -> NodeError {
    if let Value::ServerError(error) = reply
        && let Some(elsewhere) = context.elsewhere(error)
    {
        return NodeError::Elsewhere(elsewhere);
    }
    context.error(reply).into()
}
