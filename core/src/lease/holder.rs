//! Who holds a lease: the manager that was granted it, and what people call it.

use std::fmt;

/// The manager that was granted a lease: the first 48 bits of its [owners](super::Owner). Random, and made
/// anew for each manager.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HolderId([u8; Self::BYTES]);

impl HolderId {
    /// How many bytes it has.
    pub const BYTES: usize = 6;

    /// A new one.
    pub fn random() -> Self {
        let mut bytes = [0; Self::BYTES];
        getrandom::fill(&mut bytes).expect("the operating system has randomness once it has booted");
        Self(bytes)
    }

    /// The one with these bytes.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

/// 12 lower-case hexadecimal digits.
impl fmt::Display for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HolderId({self})")
    }
}

/// The most bytes of a name, and of that of a host.
pub const MAX_HOLDER_BYTES: usize = 256;

/// What is known about a holder. For people: nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name, as its application chose it.
    pub name: String,
    /// The name of its host.
    pub host: String,
    /// The number of its process on that host, in the process's own namespace.
    pub pid: u32,
    /// When the manager was made, in milliseconds since 1970 by the clock of its host.
    pub since_ms: u64,
}

impl Holder {
    /// A manager of this process with this name, on a host without one.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), host: String::new(), pid: std::process::id(), since_ms: 0 }
    }

    /// As a text: four lines, of which the last may be followed by those of later versions.
    pub fn encode(&self) -> String {
        let Self { name, host, pid, since_ms } = self;
        format!("{since_ms}\n{pid}\n{host}\n{name}")
    }

    /// The holder in such a text; `None` for any other.
    pub fn decode(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let (since_ms, pid) = (lines.next()?.parse().ok()?, lines.next()?.parse().ok()?);
        Self::checked(lines.next()?.to_owned(), lines.next()?.to_owned(), pid, since_ms)
    }

    /// With a name and a host that someone else wrote; `None` if they are not what this version writes.
    pub fn checked(host: String, name: String, pid: u32, since_ms: u64) -> Option<Self> {
        let fits = |text: &str| text.len() <= MAX_HOLDER_BYTES && !text.contains(char::is_control);
        // What JavaScript's Date can represent.
        let is_date = since_ms <= 8_640_000_000_000_000;
        (fits(&host) && fits(&name) && !name.is_empty() && is_date).then_some(Self {
            name,
            host,
            pid,
            since_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder() -> Holder {
        Holder { name: "jobs é".into(), host: "web-3".into(), pid: 4711, since_ms: 1_764_000_000_000 }
    }

    #[test]
    fn a_holder_is_read_as_it_was_written() {
        assert_eq!(Holder::decode(&holder().encode()), Some(holder()));
        let without_host = Holder { host: String::new(), ..holder() };
        assert_eq!(Holder::decode(&without_host.encode()), Some(without_host));
        assert_eq!(Holder::decode(&format!("{}\nof a later version", holder().encode())), Some(holder()));
    }

    #[test]
    fn other_texts_are_no_holders() {
        let long = "a".repeat(MAX_HOLDER_BYTES + 1);
        for text in [
            "",
            "1\n2\nhost",
            "1\n2\nhost\n",
            "x\n2\nhost\nname",
            "1\n-2\nhost\nname",
            "1\n2\nho\tst\nname",
            "1\n2\nhost\nna\u{1b}[31mme",
            "8640000000000001\n2\nhost\nname",
            &format!("1\n2\nhost\n{long}"),
            &format!("1\n2\n{long}\nname"),
        ] {
            assert_eq!(Holder::decode(text), None, "{text:?}");
        }
    }
}
