//! Which keys of a server are locks, and of which resources.

use std::fmt::Write;

use super::keys::Keys;
use crate::lease::MAX_RESOURCE_BYTES;

/// The locks of resources whose names begin alike.
#[derive(Debug)]
pub(crate) struct LockNames {
    /// What the keys of all resources begin with.
    start: String,
    prefix: String,
}

const END: &str = "}:lock";

impl LockNames {
    /// Of the resources that begin with `prefix`.
    pub fn new(keys: &Keys, prefix: &str) -> Self {
        Self { start: format!("{}:", keys.prefix()), prefix: prefix.to_owned() }
    }

    /// What all their keys match, and few others: a pattern of SCAN.
    pub fn pattern(&self) -> Vec<u8> {
        let Self { start, prefix } = self;
        let mut pattern = Vec::new();
        let literal = match prefix.as_bytes() {
            // Names in hexadecimal, too.
            [] => start.clone(),
            [b'}', ..] => format!("{start}x{{{}", hex(prefix)),
            _ => format!("{start}{{{prefix}"),
        };
        for byte in literal.bytes() {
            if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\') {
                pattern.push(b'\\');
            }
            pattern.push(byte);
        }
        pattern.push(b'*');
        pattern.extend_from_slice(END.as_bytes());
        pattern
    }

    /// The resource whose lock has this key, if it is one of them.
    pub fn resource(&self, key: &[u8]) -> Option<String> {
        let key = std::str::from_utf8(key).ok()?;
        let inner = key.strip_prefix(&*self.start)?.strip_suffix(END)?;
        let resource = match inner.strip_prefix('{') {
            // Those that begin with a brace are in hexadecimal, so no manager made such a key.
            Some(resource) if resource.starts_with('}') => return None,
            Some(resource) => resource.to_owned(),
            None => unhex(inner.strip_prefix("x{")?).filter(|resource| resource.starts_with('}'))?,
        };
        let fits = (1..=MAX_RESOURCE_BYTES).contains(&resource.len());
        (fits && resource.starts_with(&self.prefix)).then_some(resource)
    }
}

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

fn unhex(digits: &str) -> Option<String> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(is_digit) {
        return None;
    }
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    let bytes = (0..digits.len()).step_by(2).map(byte).collect::<Option<Vec<_>>>()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the server compares: `*` and `\\` only.
    fn matches(pattern: &[u8], key: &[u8]) -> bool {
        match pattern {
            [] => key.is_empty(),
            [b'*', rest @ ..] => (0..=key.len()).any(|at| matches(rest, &key[at..])),
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => {
                assert!(!matches!(pattern[0], b'?' | b'['), "{pattern:?}");
                key.first() == Some(byte) && matches(rest, &key[1..])
            }
        }
    }

    fn names(prefix: &str) -> LockNames {
        LockNames::new(&Keys::new("p*").unwrap(), prefix)
    }

    #[test]
    fn each_lock_is_found_by_each_beginning_of_its_name() {
        let keys = Keys::new("p*").unwrap();
        for resource in ["a", "order:7", "}b", "{x}", "a}:lock", "[a]*?\\", "é", "\0", "x{7d}:lock", "}"] {
            let key = keys.lock_name(resource);
            for (end, _) in resource.char_indices().chain([(resource.len(), ' ')]) {
                let names = names(&resource[..end]);
                assert!(matches(&names.pattern(), key.as_bytes()), "{resource:?} by {end}");
                assert_eq!(names.resource(key.as_bytes()).as_deref(), Some(resource), "by {end}");
            }
            assert_eq!(names("other").resource(key.as_bytes()), None);
        }
    }

    #[test]
    fn other_keys_are_no_locks() {
        for key in [
            "p*:{a}:fence",
            "p*:{a}:line",
            "p*:{000000000000}:holder",
            "p*:quorum",
            "p*:lock",
            "p*:{}:lock",
            "p*:{}a}:lock",
            "p*:x{61}:lock",
            "p*:x{7}:lock",
            "p*:x{7D}:lock",
            "p*:x:{a}:lock",
            "pq:{a}:lock",
            &format!("p*:{{{}}}:lock", "a".repeat(513)),
        ] {
            assert_eq!(names("").resource(key.as_bytes()), None, "{key}");
        }
        assert_eq!(names("").resource(b"p*:{\xff}:lock"), None);
    }

    #[test]
    fn what_a_pattern_gives_a_meaning_is_taken_literally() {
        assert_eq!(names("a*[").pattern(), b"p\\*:{a\\*\\[*}:lock");
        assert_eq!(names("}*").pattern(), b"p\\*:x{7d2a*}:lock");
        assert_eq!(names("").pattern(), b"p\\*:*}:lock");
    }
}
