//! Growing pauses between tries.

use std::time::Duration;

/// Pauses that double up to a limit.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    next: Duration,
    limit: Duration,
    jitter: bool,
}

impl Backoff {
    /// Between attempts to connect to a server.
    pub const CONNECT: Self = Self::jittered(Duration::from_millis(20), Duration::from_millis(200));
    /// Between attempts to undo what may have been written.
    pub const UNDO: Self = Self::jittered(Duration::from_millis(50), Duration::from_secs(2));
    /// Between attempts to acquire from a backend that went away while its lease was waited for.
    pub const REACQUIRE: Self = Self::exact(Duration::from_millis(50), Duration::from_secs(1));

    /// Between attempts of a waiter at the ends of short leases.
    pub const POLL: Self = Self::exact(Duration::from_millis(1), Duration::from_millis(50));

    /// Exactly this long at first, then twice as long each time.
    pub const fn exact(first: Duration, limit: Duration) -> Self {
        Self { next: first, limit, jitter: false }
    }

    /// Likewise, but each is between half and the whole of its step: clients that failed together do not come
    /// back together.
    pub const fn jittered(first: Duration, limit: Duration) -> Self {
        Self { next: first, limit, jitter: true }
    }

    /// The next pause.
    pub fn next_pause(&mut self) -> Duration {
        let step = self.next.min(self.limit);
        self.next = (step * 2).min(self.limit);
        if !self.jitter {
            return step;
        }
        step / 2 + random_below(step / 2)
    }
}

/// A random time up to this one, so that those who wait for the same do not try at the same moment.
pub fn random_below(limit: Duration) -> Duration {
    // Without randomness they are merely spread less.
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    limit.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_differ() {
        let mut backoff = Backoff::CONNECT;
        let mut step = 20;
        for _ in 0..8 {
            let pause = backoff.next_pause().as_millis();
            assert!((step / 2..=step).contains(&pause), "{pause} of {step}");
            step = (step * 2).min(200);
        }
        let pauses: std::collections::HashSet<_> = (0..20).map(|_| backoff.next_pause()).collect();
        assert!(pauses.len() > 10);
    }

    #[test]
    fn exact_pauses_double_up_to_their_limit() {
        let mut backoff = Backoff::exact(Duration::from_millis(3), Duration::from_millis(10));
        let pauses: Vec<_> = (0..4).map(|_| backoff.next_pause().as_millis()).collect();
        assert_eq!(pauses, [3, 6, 10, 10]);
        let mut above = Backoff::exact(Duration::from_millis(20), Duration::from_millis(10));
        assert_eq!(above.next_pause(), Duration::from_millis(10));
    }
}
