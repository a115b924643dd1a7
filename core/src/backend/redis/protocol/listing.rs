//! The commands that read and list locks, and tell who holds them.

use std::time::Duration;

use redis::Value;

use super::packer::Packer;
use super::replies::expected::{ExpectedReply, ScriptReply};
use super::scripts::{COUNT_WAITERS, INSPECT, add_keys};
use crate::backend::redis::config::keys::{KeyKind, Keys};
use crate::lease::Resources;

/// Appends a SCAN to `out`, of about this many of all keys of the server. Keys of another type than locks
/// have are left out by the server.
pub(crate) fn pack_scan(cursor: &str, pattern: &[u8], count: usize, packer: &mut Packer, out: &mut Vec<u8>) {
    packer.command(out, ExpectedReply::Keys, |cmd| {
        cmd.arg("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(count);
        cmd.arg("TYPE").arg("string");
    });
}

/// The reply of SCAN: the next cursor, and the keys.
pub(crate) fn scanned(reply: Value) -> Option<(String, Vec<Vec<u8>>)> {
    let Value::Array(parts) = reply else { return None };
    let [cursor, Value::Array(keys)] = <[Value; 2]>::try_from(parts).ok()? else { return None };
    let cursor = super::values::text(cursor)?;
    let key = |value| if let Value::BulkString(key) = value { Some(key) } else { None };
    Some((cursor, keys.into_iter().filter_map(key).collect()))
}

/// Appends the SET to `out` that stores who a manager is, for so long.
pub(crate) fn pack_holder(
    keys: &Keys,
    id: &str,
    text: &str,
    lasts: Duration,
    packer: &mut Packer,
    out: &mut Vec<u8>,
) {
    packer.command(out, ExpectedReply::Text, |cmd| {
        cmd.arg("SET");
        keys.add_to(cmd, id, KeyKind::Holder);
        cmd.arg(text).arg("PX").arg(lasts.as_millis() as u64);
    });
}

/// Appends the call of `count_waiters.lua` to `out`.
pub(crate) fn pack_count_waiters(keys: &Keys, resource: &str, packer: &mut Packer, out: &mut Vec<u8>) {
    COUNT_WAITERS.call(packer, out, ScriptReply::Number, |cmd, echo| {
        cmd.arg(1);
        keys.add_to(cmd, resource, KeyKind::Queue);
        cmd.arg(echo);
    });
}

/// Appends the call of inspect.lua to `out`.
pub(crate) fn pack_inspect(keys: &Keys, resources: &Resources, packer: &mut Packer, out: &mut Vec<u8>) {
    INSPECT.call(packer, out, ScriptReply::Record, |cmd, echo| {
        cmd.arg(resources.as_slice().len() * 3);
        for kind in [KeyKind::Lock, KeyKind::Fence, KeyKind::Queue] {
            add_keys(cmd, keys, resources, kind);
        }
        cmd.arg(echo);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_is_read_whatever_keys_there_are() {
        let bulk = |text: &str| Value::BulkString(text.into());
        let reply = Value::Array(vec![bulk("17"), Value::Array(vec![bulk("p:{a}:lock"), bulk("")])]);
        assert_eq!(scanned(reply), Some(("17".into(), vec![b"p:{a}:lock".to_vec(), Vec::new()])));
        for other in [Value::Nil, Value::Array(vec![bulk("0")]), Value::Array(vec![bulk("0"), bulk("")])] {
            assert_eq!(scanned(other), None);
        }
    }
}
