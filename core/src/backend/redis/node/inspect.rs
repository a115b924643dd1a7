//! Reading and forcibly ending the lease of a resource.

use std::time::Duration;

use redis::Value;

use crate::backend::contract::Info;
use crate::backend::redis::connection::shared::ExchangeError;
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::expected::ScriptReply;
use crate::backend::redis::protocol::replies::Operation;
use crate::backend::redis::protocol::scripts::{FORCE_RELEASE, INSPECT, pack_inspect};
use crate::backend::redis::protocol::values::text;
use crate::error::Result;
use crate::lease::Resources;

/// The holder of a resource. A lock without a TTL, which is not one of ours, has [`Duration::MAX`] left.
pub(crate) async fn inspect(context: &NodeContext, resources: &Resources) -> Result<Option<Info>> {
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
        other => Err(context.reply_context(Operation::Query, 0).error(&other)),
    }
}

/// Deletes the lock. The fence stays, so that tokens keep rising.
pub(crate) async fn force_release(context: &NodeContext, resources: &Resources) -> Result<bool> {
    let keys = &context.settings.keys;
    let resource = resources.first();
    let call = context.shared.run_script(&FORCE_RELEASE, |packer, out| {
        FORCE_RELEASE.pack_queues(keys, &std::iter::once(resource), None, ScriptReply::Number, packer, out);
    });
    let replies = context.reply_context(Operation::ForceRelease, 0);
    match call.await {
        Ok(Value::Int(deleted)) => Ok(deleted > 0),
        Ok(other) => Err(replies.error(&other)),
        Err(ExchangeError::Broken(broken)) if broken.sent => Err(replies.unknown(resource, &broken)),
        Err(error) => Err(context.query_failed(error)),
    }
}
