//! Reading and forcibly ending the lease of a resource.

use std::time::Duration;

use redis::Value;

use super::{NodeError, NodeResult};
use crate::backend::contract::Info;
use crate::backend::redis::config::keys::KeyKind;
use crate::backend::redis::connection::Response;
use crate::backend::redis::connection::shared::ExchangeError;
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::lease_args::Rest;
use crate::backend::redis::protocol::listing::pack_inspect;
use crate::backend::redis::protocol::operation::Operation;
use crate::backend::redis::protocol::packer::Packer;
use crate::backend::redis::protocol::replies::ReplyContext;
use crate::backend::redis::protocol::replies::expected::ScriptReply;
use crate::backend::redis::protocol::scripts::{
    FORCE_RELEASE, INSPECT, pack_asking, pack_delete_lock, pack_read_key,
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
        Value::Array(fields) if fields.len() == 4 => {
            let mut fields = fields.into_iter();
            let mut next = || fields.next().unwrap_or(Value::Nil);
            let owner = text(next()).unwrap_or_default();
            let token = text(next()).as_deref().map_or(0, token_of);
            let remaining = remaining(&next());
            let waiters = if let Value::Int(count) = next() { u32::try_from(count).unwrap_or(0) } else { 0 };
            Ok(Some(Info { owner, token, remaining, waiters }))
        }
        other => Err(refused(context.reply_context(Operation::Query), &other)),
    }
}

/// The token in a fence; 0 if it is none.
pub(crate) fn token_of(fence: &str) -> u64 {
    fence.parse().unwrap_or(0)
}

fn remaining(left_ms: &Value) -> Duration {
    match *left_ms {
        Value::Int(left_ms) if left_ms >= 0 => Duration::from_millis(left_ms.unsigned_abs()),
        _ => Duration::MAX,
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

/// Deletes one lock of this owner, or of any, or leaves the rest of its minimum, by a script with a single
/// key: it works while the slot is moving. `asking`: to this node.
pub(crate) async fn delete_lock(
    context: &NodeContext,
    resource: &str,
    (owner, rest): (Option<Owner>, Option<Rest>),
    asking: bool,
) -> NodeResult<bool> {
    let keys = &context.settings.keys;
    let operation = if owner.is_some() { Operation::Release } else { Operation::ForceRelease };
    let replies = context.reply_context(operation);
    let response = call_with_key(context, asking, |packer, out| {
        pack_delete_lock(keys, resource, owner, rest, packer, out);
    });
    let mut response = response.await?;
    match (response.broken, response.replies.pop()) {
        (None, Some(Value::Int(deleted))) => Ok(deleted > 0),
        (None, Some(other)) => Err(refused(replies, &other)),
        (Some(broken), _) if broken.sent => Err(replies.unknown(resource, &broken).into()),
        (Some(broken), _) => Err(replies.not_sent(&broken).into()),
        (None, None) => Err(replies.not_sent(&"no reply").into()),
    }
}

/// Reads one key, and for how much longer it is there, by a script with no other: it works while the slot is
/// moving. `asking`: to this node.
pub(crate) async fn read_key(
    context: &NodeContext,
    resource: &str,
    kind: KeyKind,
    asking: bool,
) -> NodeResult<Option<(String, Duration)>> {
    let keys = &context.settings.keys;
    let response = call_with_key(context, asking, |packer, out| {
        pack_read_key(keys, resource, kind, packer, out);
    });
    let mut response = response.await?;
    if let Some(broken) = response.broken {
        return Err(context.query_failed(ExchangeError::Broken(broken)).into());
    }
    match response.replies.pop() {
        Some(Value::Nil) => Ok(None),
        Some(Value::Array(mut fields)) if fields.len() == 2 => {
            let remaining = remaining(&fields.swap_remove(1));
            Ok(Some((text(fields.swap_remove(0)).unwrap_or_default(), remaining)))
        }
        other => Err(refused(context.reply_context(Operation::Query), &other.unwrap_or(Value::Nil))),
    }
}

/// Sends a command for one key. A script is called by its text always, which is simpler
/// than repeating the call, and this is rare.
pub(super) async fn call_with_key(
    context: &NodeContext,
    asking: bool,
    pack: impl FnOnce(&mut Packer, &mut Vec<u8>),
) -> NodeResult<Response> {
    let exchange = context.shared.exchange(1 + usize::from(asking), |packer, out| {
        if asking {
            pack_asking(packer, out);
        }
        packer.by_text(true, |packer| pack(packer, out));
    });
    exchange.await.map_err(|error| context.query_failed(error).into())
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
