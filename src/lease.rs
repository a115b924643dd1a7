//! What a lease is made of: resources, owner, TTL, deadline, margin.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::BootInstant;
use crate::error::{Error, Result};

/// Longest resource name, in bytes of UTF-8.
pub const MAX_RESOURCE_BYTES: usize = 512;

/// The names one lease covers: at least one, all different, each 1 to 512 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resources(Names);

/// One name is the rule, so it costs one allocation. Shared, because an attempt hands it on several times.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Names {
    One(Arc<str>),
    Many(Arc<[Arc<str>]>),
}

impl Resources {
    /// A single resource.
    pub fn one(name: impl Into<Arc<str>>) -> Result<Self> {
        let name = name.into();
        Self::check(&name)?;
        Ok(Self(Names::One(name)))
    }

    /// Several resources, in the caller's order.
    pub fn many(names: Vec<String>) -> Result<Self> {
        let names: Arc<[Arc<str>]> = names.into_iter().map(Arc::from).collect();
        if names.is_empty() {
            return Err(Error::invalid("an array of resources must not be empty"));
        }
        names.iter().try_for_each(|name| Self::check(name))?;
        let mut sorted: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        sorted.sort_unstable();
        if let Some([twice, _]) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::invalid(format!("the resource {twice:?} is named twice")));
        }
        Ok(Self(Names::Many(names)))
    }

    fn check(name: &str) -> Result<()> {
        if (1..=MAX_RESOURCE_BYTES).contains(&name.len()) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "a resource has 1 to {MAX_RESOURCE_BYTES} bytes of UTF-8, got {}",
            name.len()
        )))
    }

    /// The names, in the caller's order.
    pub fn as_slice(&self) -> &[Arc<str>] {
        match &self.0 {
            Names::One(name) => std::slice::from_ref(name),
            Names::Many(names) => names,
        }
    }

    /// The first name, which messages use.
    pub fn first(&self) -> &str {
        &self.as_slice()[0]
    }
}

/// Proves that a lease is yours: 128 random bits, new for every attempt, so that cleaning up after one attempt
/// can never touch a later one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner([u8; 16]);

impl Owner {
    /// A new owner, to be used now. Straight from the operating system every time: buffered randomness would repeat in the
    /// clones of a virtual machine's snapshot, and then one clone's cleanup could end the other's lease.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        fill(&mut bytes);
        Self(bytes)
    }

    /// So many new owners, all of them to be used now: one question to the operating system instead of many.
    pub fn several(count: usize) -> impl Iterator<Item = Self> {
        let mut bytes = vec![[0; 16]; count];
        fill(bytes.as_flattened_mut());
        bytes.into_iter().map(Self)
    }

    /// The owner with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
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

/// How long a lease lasts: 10 ms to 24 h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl(u32);

impl Ttl {
    /// Shortest lease, in milliseconds.
    pub const MIN_MS: u32 = 10;
    /// Longest lease, in milliseconds: 24 h.
    pub const MAX_MS: u32 = 86_400_000;

    /// A TTL of this many milliseconds.
    pub fn from_millis(ms: u32) -> Result<Self> {
        if (Self::MIN_MS..=Self::MAX_MS).contains(&ms) {
            return Ok(Self(ms));
        }
        Err(Error::invalid(format!("ttlMs must be {} to {}, got {ms}", Self::MIN_MS, Self::MAX_MS)))
    }

    /// In milliseconds.
    pub const fn as_millis(self) -> u32 {
        self.0
    }

    /// As a duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0 as u64)
    }

    /// When the holder must assume that the lease is over, if it was asked for at `sent`: drift (1 % + 2 ms)
    /// earlier than the TTL, because the two clocks need not run at the same speed.
    pub fn deadline(self, sent: BootInstant) -> BootInstant {
        sent + self.as_duration() - self.drift()
    }

    /// By how much the deadline is earlier than the TTL.
    pub fn drift(self) -> Duration {
        self.as_duration() / 100 + Duration::from_millis(2)
    }

    /// How long before the deadline the holder is told of the end: 10 % of the TTL, at most 500 ms.
    pub fn margin(self) -> Duration {
        (self.as_duration() / 10).min(Duration::from_millis(500))
    }
}

/// Acknowledgements by replicas: how many were asked for, how many came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acks {
    /// How many the grant needed.
    pub required: u32,
    /// How many came in time.
    pub received: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_keep_their_order_and_refuse_what_no_lock_can_be() {
        let names = Resources::many(vec!["b".into(), "a".into()]).unwrap();
        assert_eq!(names.first(), "b");
        assert_eq!(names.as_slice().len(), 2);
        assert!(Resources::one("x".repeat(512)).is_ok());
        for bad in [Resources::one(""), Resources::one("x".repeat(513)), Resources::many(vec![])] {
            assert_eq!(bad.unwrap_err().code(), "INVALID_OPTION");
        }
        let twice = Resources::many(vec!["a".into(), "b".into(), "a".into()]).unwrap_err();
        assert_eq!(twice.to_string(), "the resource \"a\" is named twice");
    }

    #[test]
    fn owners_are_all_different_and_print_as_hex() {
        assert_ne!(Owner::random(), Owner::random());
        let mut several: Vec<_> = Owner::several(100).map(|owner| owner.to_string()).collect();
        several.sort_unstable();
        several.dedup();
        assert_eq!(several.len(), 100);
        let owner = Owner::from_bytes([0x0f, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff]);
        assert_eq!(owner.to_string(), "0fa000000000000000000000000000ff");
    }

    #[test]
    fn the_deadline_is_ahead_of_the_ttl_by_the_drift() {
        let sent = BootInstant::from_micros(1_000_000);
        let ttl = Ttl::from_millis(10_000).unwrap();
        assert_eq!(sent.until(ttl.deadline(sent)), Duration::from_millis(10_000 - 100 - 2));
        let shortest = Ttl::from_millis(10).unwrap();
        assert_eq!(sent.until(shortest.deadline(sent)), Duration::from_micros(7_900));
    }

    #[test]
    fn the_margin_is_a_tenth_and_at_most_half_a_second() {
        assert_eq!(Ttl::from_millis(1_000).unwrap().margin(), Duration::from_millis(100));
        assert_eq!(Ttl::from_millis(86_400_000).unwrap().margin(), Duration::from_millis(500));
        assert!(Ttl::from_millis(9).is_err());
        assert!(Ttl::from_millis(86_400_001).is_err());
    }
}
