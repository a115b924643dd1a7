//! The product's own rules for tokens and deadlines, in the models' unit of time. A tick is a second: longer
//! than the drift that the product takes off a TTL of a few ticks, which is rounded away here. A model whose
//! clocks may run apart by a whole tick takes a tick off, too.

use fencelock_core::lease::{Ttl, token};
use fencelock_core::runtime::clock::BootInstant;

const TICK_MS: u32 = 1_000;
const TICK_US: u64 = 1_000 * TICK_MS as u64;

/// The clocks of servers and clients at tick 0, so that a clock may be behind without being negative.
pub const EPOCH: u8 = 4;

/// The next token, by the product's rule. It counts in the unit of the clock, whatever that is.
pub fn next_token(last: u8, clock: u8) -> u8 {
    let token = token::next(last.into(), clock.into(), 0);
    token.and_then(|token| u8::try_from(token).ok()).expect("the bounds of a model keep tokens small")
}

/// A tick on the product's clock.
pub fn instant(tick: u8) -> BootInstant {
    BootInstant::from_micros(u64::from(tick) * TICK_US)
}

/// From which tick on a lease is not valid any more, if it was asked for at tick `sent`.
pub fn deadline(sent: u8, ttl: u8) -> u8 {
    let ttl = Ttl::from_millis(u32::from(ttl) * TICK_MS).expect("a few seconds");
    let deadline = ttl.deadline(instant(sent));
    u8::try_from(deadline.as_micros().div_ceil(TICK_US)).expect("the bounds of a model keep times small")
}

/// All combinations of values for `places` places.
pub fn combinations(places: usize, values: &[u8]) -> Vec<Vec<u8>> {
    (0..places).fold(vec![Vec::new()], |all, _| {
        all.iter().flat_map(|one| values.iter().map(|&value| [one.as_slice(), &[value]].concat())).collect()
    })
}

/// The same where the places are alike: only those that are sorted.
pub fn sorted_combinations(places: usize, values: &[u8]) -> Vec<Vec<u8>> {
    combinations(places, values).into_iter().filter(|one| one.is_sorted()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_products_drift_is_less_than_a_tick() {
        assert_eq!(deadline(0, 2), 2);
        assert_eq!(deadline(3, 3), 6);
    }

    #[test]
    fn tokens_rise_by_a_tick() {
        assert_eq!(next_token(6, 4), 7);
        assert_eq!(next_token(3, 4), 4);
    }
}
