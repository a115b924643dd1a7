//! Where leases and tokens are stored.
//!
//! `<prefix>:{<resource>}:lock` and `…:fence`. The resource is the hash tag, so both keys share one slot of a cluster;
//! a hash tag inside a resource (`{order:5}:a`) decides for it, as users of a cluster expect.

use crate::error::{Error, Result};

/// Longest prefix, in bytes.
const MAX_PREFIX_BYTES: usize = 64;

/// What every key begins with.
#[derive(Debug, Clone)]
pub struct Prefix(Box<str>);

impl Prefix {
    /// Refuses what would make the two keys of a resource fall apart, or a key unreadable.
    pub fn new(prefix: String) -> Result<Self> {
        let fits = (1..=MAX_PREFIX_BYTES).contains(&prefix.len());
        if fits && !prefix.contains(|c: char| c == '{' || c == '}' || c.is_whitespace() || c.is_control()) {
            return Ok(Self(prefix.into()));
        }
        Err(Error::invalid(format!(
            "prefix must have 1 to {MAX_PREFIX_BYTES} bytes without braces, spaces and control characters, got {prefix:?}"
        )))
    }

    /// The key that holds the owner while a lease lasts.
    pub fn lock(&self, resource: &str) -> String {
        self.key(resource, "lock")
    }

    /// The key that holds the last token.
    pub fn fence(&self, resource: &str) -> String {
        self.key(resource, "fence")
    }

    fn key(&self, resource: &str, part: &str) -> String {
        let prefix = &self.0;
        if resource.starts_with('}') {
            // `{}` is no hash tag: Redis would hash the whole key, and the two keys of the resource would part. The
            // `x` sets these keys apart from those of a resource that is spelled like this one's encoding.
            let hex = resource.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
            return format!("{prefix}:x{{{hex}}}:{part}");
        }
        format!("{prefix}:{{{resource}}}:{part}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The part of a key that Redis Cluster hashes: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>
    fn hashed(key: &str) -> &str {
        let Some((_, rest)) = key.split_once('{') else { return key };
        match rest.split_once('}') {
            Some((tag, _)) if !tag.is_empty() => tag,
            _ => key,
        }
    }

    fn nasty() -> Vec<String> {
        let parts =
            ["", "{", "}", "{}", "}{", "a", ":lock", "}:lock", "x{7d}", "7d", "{a}", "🔒", "\0", " ", "\n"];
        let mut names: Vec<String> = parts.iter().flat_map(|a| parts.map(|b| format!("{a}{b}"))).collect();
        names.retain(|name| !name.is_empty());
        names.sort();
        names.dedup();
        names
    }

    #[test]
    fn both_keys_of_a_resource_share_their_hash_tag() {
        let prefix = Prefix::new("fencelock".into()).unwrap();
        for name in nasty() {
            assert_eq!(hashed(&prefix.lock(&name)), hashed(&prefix.fence(&name)), "{name:?}");
        }
        assert_eq!(
            hashed(&prefix.lock("{order:5}:a")),
            hashed(&prefix.fence("{order:5}:b")),
            "the user's own hash tag"
        );
    }

    #[test]
    fn no_two_resources_share_a_key() {
        let prefix = Prefix::new("fencelock".into()).unwrap();
        let keys: HashSet<String> =
            nasty().iter().flat_map(|name| [prefix.lock(name), prefix.fence(name)]).collect();
        assert_eq!(keys.len(), nasty().len() * 2);
    }

    #[test]
    fn a_prefix_that_would_split_a_resource_is_refused() {
        for bad in ["", "a{b", "a}", "a b", "a\n", "a\u{7f}", &"x".repeat(65)] {
            assert_eq!(Prefix::new(bad.into()).unwrap_err().code(), "INVALID_OPTION", "{bad:?}");
        }
        assert!(Prefix::new("x".repeat(64)).is_ok());
    }
}
