//! Which keys a resource has: its lock, its fence and its line, always in one hash slot. And which channel we listen to.

use std::io::Write;

use redis::{Cmd, RedisWrite};

use crate::backend::waiter::Waiter;
use crate::error::{Error, Result};
use crate::lease::Owner;

/// Longest prefix, in bytes.
const MAX_PREFIX_BYTES: usize = 64;

/// Names keys. `{prefix}:{{resource}}:lock`, `…:fence`, `…:line`: the resource is the hash tag, so they share a slot of
/// a cluster. A hash tag inside a resource is honoured by itself: all resources `{order:5}:…` share a slot, because
/// a tag ends at the first `}`.
///
/// A resource that begins with `}` would make an empty tag, which Redis does not honour. It is written in
/// hexadecimal, as `{prefix}:x{<hex>}:lock`; no other resource can have that key, because the prefix has no brace
/// and so what stands before the first one tells the two shapes apart.
#[derive(Debug)]
pub(crate) struct Keys {
    prefix: Box<str>,
    /// What this node is called in lines, and on its channel: no two processes' are the same.
    process: Owner,
}

/// One of a resource's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Holds the owner, for as long as the lease lasts.
    Lock,
    /// Holds the last token, for much longer.
    Fence,
    /// Holds those who wait, while anybody does; see line.lua.
    Line,
}

impl Keys {
    pub fn new(prefix: &str) -> Result<Self> {
        let fits = (1..=MAX_PREFIX_BYTES).contains(&prefix.len());
        let bad = |c: char| matches!(c, '{' | '}') || c.is_whitespace() || c.is_control();
        if fits && !prefix.contains(bad) {
            return Ok(Self { prefix: prefix.into(), process: Owner::random() });
        }
        Err(Error::invalid(format!(
            "prefix must have 1 to {MAX_PREFIX_BYTES} bytes, without braces, whitespace and control characters"
        )))
    }

    /// What lines call us.
    pub fn process(&self) -> String {
        self.process.to_string()
    }

    /// What lines call one of our waiters.
    pub fn waiter(&self, waiter: &Waiter) -> String {
        let kind = if waiter.is_fair() { 'f' } else { 'u' };
        format!("{}:{}:{kind}", self.process, waiter.number())
    }

    /// What the names of all channels begin with; the rest is the process.
    pub fn channels(&self) -> String {
        format!("{}:wake:", self.prefix)
    }

    /// Where we are told that one of our waiters is up.
    pub fn channel(&self) -> String {
        format!("{}{}", self.channels(), self.process)
    }

    /// Adds the key as the command's next argument.
    pub fn add_to(&self, cmd: &mut Cmd, resource: &str, part: Part) {
        self.write(&mut cmd.writer_for_next_arg(), resource, part)
            .expect("a command's buffer is memory, which takes every write");
    }

    fn write(&self, out: &mut impl Write, resource: &str, part: Part) -> std::io::Result<()> {
        let suffix: &[u8] = match part {
            Part::Lock => b"}:lock",
            Part::Fence => b"}:fence",
            Part::Line => b"}:line",
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

    /// The key as text.
    #[cfg(test)]
    fn name(&self, resource: &str, part: Part) -> String {
        let mut name = Vec::new();
        self.write(&mut name, resource, part).expect("a vector takes every write");
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
    fn hashed(key: &str) -> &str {
        let tag = key.find('{').and_then(|open| {
            let rest = &key[open + 1..];
            rest.find('}').filter(|&length| length > 0).map(|length| &rest[..length])
        });
        tag.unwrap_or(key)
    }

    fn slot(key: &str) -> u16 {
        crc16(hashed(key).as_bytes()) % 16_384
    }

    /// Every string of up to four pieces that could confuse the naming, about 7,000 of them.
    fn nasty() -> Vec<String> {
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
        assert_eq!(hashed("foo{}{bar}"), "foo{}{bar}");
    }

    #[test]
    fn lock_fence_and_line_share_a_slot_and_a_tag_that_is_honoured() {
        let keys = Keys::new("fencelock").unwrap();
        for resource in nasty() {
            let lock = keys.name(&resource, Part::Lock);
            assert_ne!(hashed(&lock), lock, "{resource:?} has no tag");
            for other in [Part::Fence, Part::Line].map(|part| keys.name(&resource, part)) {
                assert_eq!(hashed(&lock), hashed(&other), "{resource:?}");
                assert_eq!(slot(&lock), slot(&other), "{resource:?}");
            }
        }
    }

    #[test]
    fn no_two_resources_or_prefixes_share_a_key() {
        let mut seen = HashMap::new();
        for prefix in ["a", "a:x", "x", "a:"] {
            let keys = Keys::new(prefix).unwrap();
            for resource in nasty() {
                for part in [Part::Lock, Part::Fence, Part::Line] {
                    let who = (prefix, resource.clone(), part);
                    if let Some(other) = seen.insert(keys.name(&resource, part), who.clone()) {
                        panic!("{who:?} and {other:?} share a key");
                    }
                }
            }
        }
    }

    #[test]
    fn a_tag_inside_a_resource_places_it() {
        let keys = Keys::new("fencelock").unwrap();
        let of = |resource| slot(&keys.name(resource, Part::Lock));
        assert_eq!(of("{order:5}:a"), of("{order:5}:b"));
        assert_eq!(keys.name("order:5", Part::Lock), "fencelock:{order:5}:lock");
        assert_eq!(keys.name("}", Part::Fence), "fencelock:x{7d}:fence");
    }

    #[test]
    fn prefixes_are_short_and_plain() {
        for bad in ["", "a{", "}b", "a b", "a\n", "a\u{a0}b", &"x".repeat(65)] {
            assert_eq!(Keys::new(bad).unwrap_err().code(), "INVALID_OPTION", "{bad:?}");
        }
        assert!(Keys::new("team-a:locks").is_ok());
    }
}
