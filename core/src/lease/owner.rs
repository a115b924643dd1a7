//! The proof that a lease is yours.

use std::fmt;

/// Proves that a lease is yours: 128 random bits, new for every attempt, so that cleaning up after one
/// attempt can never touch a later one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner([u8; 16]);

impl Owner {
    /// A new owner, for use at once. Always straight from the operating system: buffered randomness would
    /// repeat in the clones of a virtual machine's snapshot, and one clone's cleanup could then end the
    /// other's lease.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        fill(&mut bytes);
        Self(bytes)
    }

    /// This many new owners, for use at once: one system call instead of many.
    pub fn several(count: usize) -> impl Iterator<Item = Self> {
        let mut bytes = vec![[0; 16]; count];
        fill(bytes.as_flattened_mut());
        bytes.into_iter().map(Self)
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
        let mut several: Vec<_> = Owner::several(100).map(|owner| owner.to_string()).collect();
        several.sort_unstable();
        several.dedup();
        assert_eq!(several.len(), 100);
        let owner = Owner::from_bytes([0x0f, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff]);
        assert_eq!(owner.to_string(), "0fa000000000000000000000000000ff");
        assert_eq!(Owner::from_hex("0fa000000000000000000000000000ff"), Some(owner));
        for other in ["", "0fa", "+fa000000000000000000000000000ff", "0FA000000000000000000000000000FF"] {
            assert_eq!(Owner::from_hex(other), None, "{other}");
        }
    }
}
