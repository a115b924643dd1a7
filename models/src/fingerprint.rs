//! 64-bit fingerprints of states, by which the search tells them apart. Two states of n share one with a
//! probability of about n² / 2^65: 3 · 10⁻⁴ at 10⁸ states.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::mem::take;

/// A map from fingerprints. They are evenly distributed, so the map does not hash them again.
pub(crate) type FingerprintMap<V> = HashMap<u64, V, BuildHasherDefault<Identity>>;

/// The fingerprint of a value.
pub(crate) fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = Folding { hash: 0x1234_5678_9abc_def1, ..Folding::default() };
    value.hash(&mut hasher);
    hasher.finish()
}

/// Collects bytes into words, and folds each word into the hash with a product of 128 bits, as wyhash does.
#[derive(Default)]
struct Folding {
    hash: u64,
    word: u64,
    bits: u32,
}

impl Folding {
    #[inline]
    const fn mixed(hash: u64, word: u64) -> u64 {
        let a = hash ^ word ^ 0xa076_1d64_78bd_642f;
        let b = 0xe703_7ed1_a0b4_28db ^ hash.rotate_left(29);
        let product = a as u128 * b as u128;
        product as u64 ^ (product >> 64) as u64
    }
}

impl Hasher for Folding {
    fn finish(&self) -> u64 {
        Self::mixed(Self::mixed(self.hash, self.word), u64::from(self.bits) + 0x9e37_79b9_7f4a_7c15)
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u8(byte);
        }
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.word |= u64::from(value) << self.bits;
        self.bits += 8;
        if self.bits == 64 {
            self.bits = 0;
            self.hash = Self::mixed(self.hash, take(&mut self.word));
        }
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.hash = Self::mixed(self.hash, value);
    }

    /// Lengths and variants of enums, nearly all of them small.
    #[inline]
    fn write_usize(&mut self, value: usize) {
        match u8::try_from(value) {
            Ok(small) if small < u8::MAX => self.write_u8(small),
            _ => {
                self.write_u8(u8::MAX);
                self.write_u64(value as u64);
            }
        }
    }
}

/// A hasher for values that are hashes.
#[derive(Default)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are keys");
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_value_counts() {
        #[derive(Hash, Clone, Copy)]
        enum Phase {
            Idle,
            Holding,
        }
        let values: Vec<u64> = vec![
            fingerprint(&(Phase::Idle, 1u8, 7u64)),
            fingerprint(&(Phase::Holding, 1u8, 7u64)),
            fingerprint(&(Phase::Idle, 2u8, 7u64)),
            fingerprint(&(Phase::Idle, 1u8, 8u64)),
            fingerprint(&(Phase::Idle, 1u8, 7u64, 0u8)),
            fingerprint(&[Some(0u8), None]),
            fingerprint(&[None, Some(0u8)]),
        ];
        let distinct: std::collections::HashSet<_> = values.iter().collect();
        assert_eq!(distinct.len(), values.len());
    }

    #[test]
    fn a_million_values_have_a_million_fingerprints() {
        let all: std::collections::HashSet<u64> =
            (0..1u32 << 20).map(|n| fingerprint(&[n as u8, (n >> 8) as u8, 0, 0, (n >> 16) as u8])).collect();
        assert_eq!(all.len(), 1 << 20);
    }
}
