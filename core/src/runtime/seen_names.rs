//! Which names a listing has returned, in bounded memory: servers may name a key twice.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// How many names are remembered at least. A name takes nine bytes or so.
const GENERATION: usize = 1 << 19;

/// Names that were seen before. Only 64 bits of each are kept, and of the names that came before the last
/// [`GENERATION`] to twice as many, nothing: then one may be taken for new again. That a new one is taken for
/// one that was seen is as likely as that two of a million random numbers of 64 bits are equal: less than one
/// in ten million.
#[derive(Debug)]
pub struct SeenNames {
    /// Its keys are random, so no one can choose names that collide.
    hasher: RandomState,
    newer: HashSet<u64>,
    older: HashSet<u64>,
    generation: usize,
}

impl Default for SeenNames {
    fn default() -> Self {
        Self::of(GENERATION)
    }
}

impl SeenNames {
    fn of(generation: usize) -> Self {
        let (hasher, newer, older) = (RandomState::new(), HashSet::new(), HashSet::new());
        Self { hasher, newer, older, generation }
    }

    /// Remembers a name. `false`: it was seen before.
    pub fn is_new(&mut self, name: &str) -> bool {
        let hash = self.hasher.hash_one(name);
        if self.older.contains(&hash) {
            return false;
        }
        if !self.newer.insert(hash) {
            return false;
        }
        if self.newer.len() == self.generation {
            self.older = std::mem::take(&mut self.newer);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_new_once() {
        let mut seen = SeenNames::default();
        let new = (0..10_000).filter(|number| seen.is_new(&format!("order:{number}"))).count();
        let again = (0..10_000).filter(|number| seen.is_new(&format!("order:{number}"))).count();
        assert_eq!((new, again), (10_000, 0));
    }

    #[test]
    fn memory_is_bounded_and_the_newest_are_remembered() {
        let mut seen = SeenNames::of(100);
        for number in 0..10_000 {
            assert!(seen.is_new(&number.to_string()));
            let before = u32::saturating_sub(number, 99);
            assert!((before..=number).all(|number| !seen.is_new(&number.to_string())), "{number}");
            assert!(seen.newer.len() + seen.older.len() <= 200);
        }
    }
}
