//! The proof that a lease is yours.

use std::fmt;

use super::HolderId;

/// Proves that a lease is yours: 48 bits that name its manager, and 80 random ones that are new for every
/// attempt, so that cleaning up after one attempt can never touch a later one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner([u8; 16]);

impl Owner {
    /// A new owner of a manager of its own, for use at once. Always straight from the operating system:
    /// buffered randomness would repeat in the clones of a virtual machine's snapshot, and the cleanup of one
    /// clone could then end the lease of the other.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        fill(&mut bytes);
        Self(bytes)
    }

    /// This many new owners of a manager, for use at once: one system call instead of many.
    pub fn several(holder: HolderId, count: usize) -> impl Iterator<Item = Self> {
        let mut bytes = vec![[0; 16]; count];
        fill(bytes.as_flattened_mut());
        bytes.into_iter().map(move |bytes| Self(bytes).of(holder))
    }

    /// A new owner of the same manager, for use at once.
    #[must_use]
    pub fn another(self) -> Self {
        Self::random().of(self.holder())
    }

    const fn of(mut self, holder: HolderId) -> Self {
        self.0.split_at_mut(HolderId::BYTES).0.copy_from_slice(holder.as_bytes());
        self
    }

    /// The manager that it belongs to.
    pub const fn holder(self) -> HolderId {
        match self.0.first_chunk() {
            Some(holder) => HolderId::from_bytes(*holder),
            None => unreachable!(),
        }
    }

    /// The owner with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The owner with these 32 lower-case hexadecimal digits; `None` for any other text.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if hex.len() != 32 || !hex.bytes().all(is_digit) {
            return None;
        }
        u128::from_str_radix(hex, 16).ok().map(|owner| Self(owner.to_be_bytes()))
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// 32 lower-case hexadecimal digits.
    pub fn to_hex(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 32];
        for (i, byte) in self.0.iter().enumerate() {
            hex[i * 2] = DIGITS[usize::from(byte >> 4)];
            hex[i * 2 + 1] = DIGITS[usize::from(byte & 15)];
        }
        hex
    }
}

fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system has randomness once it has booted");
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_hex()).expect("hexadecimal digits are ASCII"))
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_all_different_and_print_as_hex() {
        assert_ne!(Owner::random(), Owner::random());
        let owner = Owner::from_bytes([0x0f, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff]);
        assert_eq!(owner.to_string(), "0fa000000000000000000000000000ff");
        assert_eq!(Owner::from_hex("0fa000000000000000000000000000ff"), Some(owner));
        for other in ["", "0fa", "+fa000000000000000000000000000ff", "0FA000000000000000000000000000FF"] {
            assert_eq!(Owner::from_hex(other), None, "{other}");
        }
    }

    #[test]
    fn the_owners_of_a_manager_begin_with_its_id() {
        let id = HolderId::from_bytes([0, 0x0f, 0xa0, 1, 2, 0xff]);
        assert_eq!(id.to_string(), "000fa00102ff");
        let owners: Vec<_> = Owner::several(id, 100).collect();
        assert!(
            owners.iter().all(|owner| owner.holder() == id && owner.to_string().starts_with("000fa00102ff"))
        );
        let another = owners[0].another();
        assert_eq!(another.holder(), id);
        let mut all: Vec<_> = owners.iter().chain([&another]).map(ToString::to_string).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 101);
        assert_ne!(HolderId::random(), HolderId::random());
    }
}
