//! How long something took: a fixed number of counters, so that recording and reading cost next to nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Each power of two has this many buckets, so a bucket's end is at most a quarter above what is in it.
const PER_OCTAVE: u64 = 4;
/// Up to 2^41 microseconds, which is 25 days; what is longer counts as that.
const BUCKETS: usize = 160;

/// Durations, in buckets. Any thread may record.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    longest: AtomicU64,
}

/// How many durations there were, and how long they were: percentiles are at most a quarter too high.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// Half of them were not longer.
    pub p50: Duration,
    /// 90 % of them were not longer.
    pub p90: Duration,
    /// 99 % of them were not longer.
    pub p99: Duration,
    /// The longest, exactly.
    pub max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], longest: AtomicU64::new(0) }
    }
}

impl Histogram {
    pub fn record(&self, took: Duration) {
        let micros = took.as_secs().saturating_mul(1_000_000).saturating_add(took.subsec_micros().into());
        self.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        // Mostly it is not, and a load is cheaper.
        if micros > self.longest.load(Ordering::Relaxed) {
            self.longest.fetch_max(micros, Ordering::Relaxed);
        }
    }

    pub fn summary(&self) -> Summary {
        let counts: [u64; BUCKETS] = std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed));
        let count: u64 = counts.iter().sum();
        let max = Duration::from_micros(self.longest.load(Ordering::Relaxed));
        let percentile = |percent: u64| {
            let rank = (count * percent).div_ceil(100).max(1);
            let mut seen = 0;
            let reached = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            reached.map_or(Duration::ZERO, |at| end_of(at).min(max))
        };
        Summary { count, p50: percentile(50), p90: percentile(90), p99: percentile(99), max }
    }
}

/// The bucket of this many microseconds.
fn bucket(micros: u64) -> usize {
    if micros < PER_OCTAVE {
        return micros as usize;
    }
    let octave = u64::from(micros.ilog2());
    let within = (micros >> (octave - 2)) & (PER_OCTAVE - 1);
    (((octave - 1) * PER_OCTAVE + within) as usize).min(BUCKETS - 1)
}

/// The largest duration of a bucket.
fn end_of(bucket: usize) -> Duration {
    let bucket = bucket as u64;
    if bucket < PER_OCTAVE {
        return Duration::from_micros(bucket);
    }
    let (octave, within) = (bucket / PER_OCTAVE + 1, bucket % PER_OCTAVE);
    Duration::from_micros(((PER_OCTAVE + within + 1) << (octave - 2)) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_bucket_that_ends_at_most_a_quarter_above_it() {
        let mut before = 0;
        for micros in (0..5_000).chain((13..41).map(|power| (1 << power) - 1)).chain((13..41).map(|p| 1 << p))
        {
            let end = end_of(bucket(micros)).as_micros() as u64;
            assert!(end >= micros && end <= micros + micros / PER_OCTAVE, "{micros}: {end}");
            if micros < 5_000 {
                assert!(bucket(micros) >= before && bucket(micros) <= before + 1, "{micros}");
                before = bucket(micros);
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let histogram = Histogram::default();
        assert_eq!(histogram.summary(), Summary::default());
        for ms in 1..=1_000 {
            histogram.record(Duration::from_millis(ms));
        }
        let Summary { count, p50, p90, p99, max } = histogram.summary();
        assert_eq!((count, max), (1_000, Duration::from_secs(1)));
        for (found, ms) in [(p50, 500), (p90, 900), (p99, 990)] {
            let exact = Duration::from_millis(ms);
            assert!(found >= exact && found <= exact * 5 / 4, "{ms}: {found:?}");
        }
        histogram.record(Duration::MAX);
        assert_eq!(histogram.summary().count, 1_001);
    }
}
