//! Growing pauses with jitter, so that many who failed together do not come back together.

use std::time::Duration;

/// Pauses that double up to a limit; each is between half and the whole of its step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    step: Duration,
    limit: Duration,
}

impl Backoff {
    /// Between attempts to connect.
    pub const CONNECT: Self = Self::new(Duration::from_millis(20), Duration::from_millis(500));
    /// Between attempts to undo what may have been written.
    pub const CLEANUP: Self = Self::new(Duration::from_millis(50), Duration::from_secs(2));

    const fn new(first: Duration, limit: Duration) -> Self {
        Self { step: first, limit }
    }

    /// The next pause.
    pub fn next(&mut self) -> Duration {
        // Without randomness the pauses are merely less spread.
        let random = getrandom::u32().unwrap_or(u32::MAX / 2);
        let pause = self.step.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX));
        self.step = (self.step * 2).min(self.limit);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_differ() {
        let mut backoff = Backoff::CONNECT;
        let mut step = 20;
        for _ in 0..8 {
            let pause = backoff.next().as_millis();
            assert!((step / 2..=step).contains(&pause), "{pause} of {step}");
            step = (step * 2).min(500);
        }
        let pauses: std::collections::HashSet<_> = (0..20).map(|_| backoff.next()).collect();
        assert!(pauses.len() > 10);
    }
}
