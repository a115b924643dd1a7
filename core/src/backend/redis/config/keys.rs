//! The keys of a resource (its lock, its fence and its wait queue, always in one hash slot), that of a
//! holder, and the channel for wake-ups.

use std::io::Write;

use redis::{Cmd, RedisWrite};

use crate::backend::waiter::Waiter;
use crate::error::{Error, Result};
use crate::lease::Owner;

/// The longest prefix, in bytes.
const MAX_PREFIX_BYTES: usize = 64;

/// The kinds of waiters in queues; see `wait_queue.lua`.
const FAIR: &str = "f";
const UNFAIR: &str = "u";
const SHARDED_FAIR: &str = "sf";
const SHARDED_UNFAIR: &str = "su";

/// Names keys: `{prefix}:{{resource}}:lock`, `…:fence`, and `…:line` for the wait queue. The resource is the
/// hash tag, so the three share a slot of a cluster. A hash tag inside a resource works too: all resources
/// `{order:5}:…` share a slot, because a tag ends at the first `}`.
///
/// A resource that starts with `}` would make an empty tag, which Redis ignores. It is written in
/// hexadecimal, as `{prefix}:x{<hex>}:lock`. No other resource has that key: the prefix contains no brace, so
/// the text before the first brace distinguishes the two shapes.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: Box<str>,
    /// Identifies this process in wait queues and names its channel.
    process: Owner,
}

/// One of the keys of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// Holds the owner, for as long as the lease lasts.
    Lock,
    /// Holds the last token, for much longer.
    Fence,
    /// Holds the waiters, as long as there are any; see `wait_queue.lua`.
    Queue,
    /// Holds who a manager is; in place of the resource is its id.
    Holder,
}

impl Keys {
    /// The facade has checked the prefix and explains what is wrong with it; this keeps a wrong one from
    /// mixing up keys.
    pub fn new(prefix: &str) -> Result<Self> {
        let fits = (1..=MAX_PREFIX_BYTES).contains(&prefix.len());
        let bad = |c: char| matches!(c, '{' | '}') || c.is_whitespace() || c.is_control();
        if fits && !prefix.contains(bad) {
            return Ok(Self { prefix: prefix.into(), process: Owner::random() });
        }
        Err(Error::invalid("the prefix of the Redis keys is invalid"))
    }

    /// The common start of all keys and channels.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name of this process in wait queues.
    pub fn process(&self) -> String {
        self.process.to_string()
    }

    /// The name of one of our waiters in wait queues.
    pub fn waiter(&self, waiter: &Waiter) -> String {
        let kind = match (waiter.is_sharded(), waiter.is_fair()) {
            (false, true) => FAIR,
            (false, false) => UNFAIR,
            (true, true) => SHARDED_FAIR,
            (true, false) => SHARDED_UNFAIR,
        };
        self.queue_entry(waiter.number(), kind)
    }

    /// The names that a waiter with this number may have in wait queues; `sharded`: of a cluster.
    pub fn queue_entries(&self, number: u64, sharded: bool) -> impl Iterator<Item = String> + '_ {
        let kinds = [FAIR, UNFAIR]
            .into_iter()
            .chain([SHARDED_FAIR, SHARDED_UNFAIR].into_iter().filter(move |_| sharded));
        kinds.map(move |kind| self.queue_entry(number, kind))
    }

    fn queue_entry(&self, number: u64, kind: &str) -> String {
        format!("{}:{number}:{kind}", self.process)
    }

    /// The key on each node of a quorum that says what its clients agree on. No resource has it: theirs have
    /// a brace.
    pub fn quorum_note(&self) -> String {
        format!("{}:quorum", self.prefix)
    }

    /// The common start of all channel names; the rest is the process.
    pub fn channel_prefix(&self) -> String {
        format!("{}:wake:", self.prefix)
    }

    /// The channel that wakes waiters of this process.
    pub fn channel(&self) -> String {
        format!("{}{}", self.channel_prefix(), self.process)
    }

    /// The sharded channel that wakes waiters of this process for this resource, and for all others with its
    /// hash tag. In the slot of the resource.
    pub fn sharded_channel(&self, resource: &str) -> String {
        let key = self.name(resource, KeyKind::Queue);
        let tag = &key[self.prefix.len() + 1..];
        let end = tag.find('}').map_or(tag.len(), |brace| brace + 1);
        format!("{}{}:{}", self.channel_prefix(), &tag[..end], self.process)
    }

    /// Adds the key as the command's next argument.
    pub fn add_to(&self, cmd: &mut Cmd, resource: &str, kind: KeyKind) {
        self.write(&mut cmd.writer_for_next_arg(), resource, kind).expect("writing to memory does not fail");
    }

    fn write(&self, out: &mut impl Write, resource: &str, kind: KeyKind) -> std::io::Result<()> {
        let suffix: &[u8] = match kind {
            KeyKind::Lock => b"}:lock",
            KeyKind::Fence => b"}:fence",
            KeyKind::Queue => b"}:line",
            KeyKind::Holder => b"}:holder",
        };
        out.write_all(self.prefix.as_bytes())?;
        if resource.starts_with('}') {
            out.write_all(b":x{")?;
            for byte in resource.bytes() {
                write!(out, "{byte:02x}")?;
            }
        } else {
            out.write_all(b":{")?;
            out.write_all(resource.as_bytes())?;
        }
        out.write_all(suffix)
    }

    /// The key of the lock, as text.
    #[cfg(test)]
    pub fn lock_name(&self, resource: &str) -> String {
        self.name(resource, KeyKind::Lock)
    }

    /// The key as text.
    fn name(&self, resource: &str, kind: KeyKind) -> String {
        let mut name = Vec::new();
        self.write(&mut name, resource, kind).expect("writing to memory does not fail");
        String::from_utf8(name).expect("made of strings only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// CRC16/XMODEM, as the cluster specification has it.
    fn crc16(bytes: &[u8]) -> u16 {
        bytes.iter().fold(0, |crc, &byte| {
            (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            })
        })
    }

    /// The part of a key that Redis hashes.
    fn hash_tag(key: &str) -> &str {
        let tag = key.find('{').and_then(|open| {
            let rest = &key[open + 1..];
            rest.find('}').filter(|&length| length > 0).map(|length| &rest[..length])
        });
        tag.unwrap_or(key)
    }

    fn slot(key: &str) -> u16 {
        crc16(hash_tag(key).as_bytes()) % 16_384
    }

    /// Every string of up to four pieces that could confuse the naming; about 7,000.
    fn confusing_names() -> Vec<String> {
        let pieces = ["{", "}", ":", "x", ":lock", "}:fence", ":line", "7d", "\0", "é"];
        let mut all = vec![String::new()];
        let mut from = 0;
        for _ in 0..4 {
            let to = all.len();
            for i in from..to {
                all.extend(pieces.iter().map(|piece| format!("{}{piece}", all[i])).collect::<Vec<_>>());
            }
            from = to;
        }
        all.split_off(1)
    }

    #[test]
    fn the_slot_function_is_the_one_of_redis() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot("foo"), 12_182);
        assert_eq!(hash_tag("foo{}{bar}"), "foo{}{bar}");
    }

    #[test]
    fn lock_fence_and_queue_share_a_slot_and_a_valid_tag() {
        let keys = Keys::new("fencelock").unwrap();
        for resource in confusing_names() {
            let lock = keys.name(&resource, KeyKind::Lock);
            assert_ne!(hash_tag(&lock), lock, "{resource:?} has no tag");
            for other in
                [KeyKind::Fence, KeyKind::Queue, KeyKind::Holder].map(|kind| keys.name(&resource, kind))
            {
                assert_eq!(hash_tag(&lock), hash_tag(&other), "{resource:?}");
                assert_eq!(slot(&lock), slot(&other), "{resource:?}");
            }
        }
    }

    #[test]
    fn no_two_resources_or_prefixes_share_a_key() {
        let mut seen = HashMap::new();
        for prefix in ["a", "a:x", "x", "a:"] {
            let keys = Keys::new(prefix).unwrap();
            for resource in confusing_names() {
                for kind in [KeyKind::Lock, KeyKind::Fence, KeyKind::Queue, KeyKind::Holder] {
                    let key = (prefix, resource.clone(), kind);
                    if let Some(other) = seen.insert(keys.name(&resource, kind), key.clone()) {
                        panic!("{key:?} and {other:?} share a key");
                    }
                }
            }
        }
    }

    #[test]
    fn a_tag_inside_a_resource_decides_its_slot() {
        let keys = Keys::new("fencelock").unwrap();
        let slot_of = |resource| slot(&keys.name(resource, KeyKind::Lock));
        assert_eq!(slot_of("{order:5}:a"), slot_of("{order:5}:b"));
        assert_eq!(keys.name("order:5", KeyKind::Lock), "fencelock:{order:5}:lock");
        assert_eq!(keys.name("}", KeyKind::Fence), "fencelock:x{7d}:fence");
    }

    #[test]
    fn a_sharded_channel_is_in_the_slot_of_its_resource() {
        for prefix in ["fencelock", "a:x", "a:"] {
            let keys = Keys::new(prefix).unwrap();
            for resource in confusing_names() {
                let channel = keys.sharded_channel(&resource);
                let key = keys.name(&resource, KeyKind::Queue);
                assert_eq!(hash_tag(&channel), hash_tag(&key), "{resource:?}");
                assert!(channel.starts_with(&keys.channel_prefix()), "{channel:?}");
            }
        }
        let keys = Keys::new("p").unwrap();
        let process = keys.process();
        for (resource, tag) in [("r", "{r}"), ("{order:5}:a", "{{order:5}"), ("}b", "x{7d62}")] {
            assert_eq!(keys.sharded_channel(resource), format!("p:wake:{tag}:{process}"));
        }
    }

    #[test]
    fn prefixes_are_short_and_plain() {
        for bad in ["", "a{", "}b", "a b", "a\n", "a\u{a0}b", &"x".repeat(65)] {
            assert_eq!(Keys::new(bad).unwrap_err().code(), "INVALID_OPTION", "{bad:?}");
        }
        assert!(Keys::new("team-a:locks").is_ok());
    }
}
