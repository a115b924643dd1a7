//! How long a lease lasts, and until when its holder may count on it.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::runtime::clock::BootInstant;

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

    /// This TTL, or `min` if that is longer.
    #[must_use]
    pub fn at_least(self, min: Duration) -> Self {
        let min_ms = u32::try_from(min.as_millis()).unwrap_or(Self::MAX_MS);
        Self(self.0.max(min_ms.min(Self::MAX_MS)))
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

#[cfg(test)]
mod tests {
    use super::*;

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
