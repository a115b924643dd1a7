//! What time is it on the nodes? Tokens come from their clocks: the clock of this host, which may be wrong,
//! is used only to measure how much time has passed.

use std::collections::VecDeque;
use std::time::Duration;

use crate::runtime::clock::BootInstant;

/// How many answers an estimate takes into account.
const SAMPLES: usize = 16;
/// The weights of the newest answer in the mean round trip and in its mean deviation: an eighth and a
/// quarter, as TCP has them (RFC 6298).
const NEWEST: u32 = 8;
const NEWEST_DEVIATION: u32 = 4;
/// By how much two clocks may drift apart between answers.
const DRIFT: Duration = Duration::from_millis(1);

/// The clock of one node, as its answers show it.
#[derive(Debug, Default)]
pub(crate) struct NodeClock {
    samples: VecDeque<Sample>,
    round_trip: Option<Duration>,
    deviation: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    /// The node's clock minus the boot clock, in microseconds.
    offset: i64,
    round_trip: Duration,
}

impl Sample {
    /// Whether both can be true of one clock: each is off by half of its round trip at most.
    fn agrees_with(self, other: Self) -> bool {
        let tolerance = (self.round_trip + other.round_trip) / 2 + DRIFT;
        u128::from(self.offset.abs_diff(other.offset)) <= tolerance.as_micros()
    }
}

impl NodeClock {
    /// An answer came that says what time it is there, in microseconds since 1970.
    pub fn record(&mut self, sent: BootInstant, received: BootInstant, node_us: u64) {
        let round_trip = sent.until(received);
        let middle = (sent + round_trip / 2).as_micros();
        let sample =
            Sample { offset: node_us.cast_signed().saturating_sub(middle.cast_signed()), round_trip };
        // Its clock was set since, or runs at another speed.
        self.samples.retain(|other| other.agrees_with(sample));
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        let Some(mean) = self.round_trip else {
            (self.round_trip, self.deviation) = (Some(round_trip), round_trip / 2);
            return;
        };
        let off = mean.abs_diff(round_trip);
        self.deviation = (self.deviation * (NEWEST_DEVIATION - 1) + off) / NEWEST_DEVIATION;
        self.round_trip = Some((mean * (NEWEST - 1) + round_trip) / NEWEST);
    }

    /// The node was restarted, or its connection leads elsewhere: what was measured says nothing any more.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The node's clock minus the boot clock, in microseconds: by the answer that was under way for the
    /// shortest time, because that is off by half of it at most.
    pub fn offset(&self) -> Option<i64> {
        self.samples.iter().min_by_key(|sample| sample.round_trip).map(|sample| sample.offset)
    }

    /// How long an answer takes on average.
    pub const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// How long an answer takes at most, unless something is wrong.
    pub fn usual_limit(&self) -> Option<Duration> {
        self.round_trip.map(|mean| mean + 4 * self.deviation)
    }
}

/// Now, by the median of these clocks (of an even number, the earlier of the two in the middle), in
/// microseconds since 1970. `None` without any.
pub(crate) fn median_now(offsets: impl IntoIterator<Item = i64>, now: BootInstant) -> Option<u64> {
    median(offsets).map(|offset| now.as_micros().saturating_add_signed(offset))
}

/// The median of these offsets.
pub(crate) fn median(offsets: impl IntoIterator<Item = i64>) -> Option<i64> {
    let mut offsets: Vec<_> = offsets.into_iter().collect();
    offsets.sort_unstable();
    let middle = offsets.len().checked_sub(1)? / 2;
    Some(offsets[middle])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> BootInstant {
        BootInstant::from_micros(ms * 1_000)
    }

    #[test]
    fn the_fastest_answer_decides_and_old_ones_are_forgotten() {
        let mut clock = NodeClock::default();
        assert_eq!((clock.offset(), clock.round_trip()), (None, None));
        clock.record(at(100), at(110), 1_000_105_000);
        clock.record(at(200), at(202), 1_000_200_900);
        assert_eq!(clock.offset(), Some(999_999_900), "within half of two milliseconds");
        for _ in 0..SAMPLES {
            clock.record(at(300), at(320), 1_000_310_000);
        }
        assert_eq!(clock.offset(), Some(1_000_000_000));
        clock.record(at(400), at(440), 3_000_420_000);
        assert_eq!(clock.offset(), Some(3_000_000_000), "a clock that was set is not what it was");
        clock.reset();
        assert_eq!(clock.offset(), None);
    }

    #[test]
    fn the_round_trip_follows_slowly() {
        let mut clock = NodeClock::default();
        clock.record(at(0), at(8), 0);
        assert_eq!(clock.round_trip(), Some(Duration::from_millis(8)));
        clock.record(at(0), at(16), 0);
        assert_eq!(clock.round_trip(), Some(Duration::from_millis(9)));
        assert_eq!(clock.usual_limit(), Some(Duration::from_millis(9 + 4 * 5)), "(4 * 3 + 8) / 4");
        for _ in 0..100 {
            clock.record(at(0), at(10), 0);
        }
        assert!(clock.usual_limit().unwrap() < Duration::from_millis(11));
    }

    #[test]
    fn one_clock_that_is_wrong_does_not_move_the_median() {
        let hour = 3_600_000_000;
        assert_eq!(median_now([5, hour, 7], at(1)), Some(1_007));
        assert_eq!(median_now([5, -hour, 7], at(1)), Some(1_005));
        assert_eq!(median_now([5, 9], at(1)), Some(1_005));
        assert_eq!(median_now([], at(1)), None);
        assert_eq!(median_now([-hour], at(1)), Some(0));
    }
}
