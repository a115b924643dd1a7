//! Waiting for other processes: for how long, and in which steps.
//!
//! SQLite's own busy handler would sleep with our connection's mutex locked, so that a synchronous call on
//! the event loop would wait behind an asynchronous one. Here every attempt is short and the mutex is free in
//! between.

use std::path::Path;
use std::time::{Duration, Instant};

use super::errors;
use crate::error::Result;
use crate::runtime::backoff::Backoff;

/// Between attempts to get the lock. The first pause is about as long as a transaction of ours. With jitter,
/// so that processes that collided once do not collide again.
const PAUSES: Backoff = Backoff::jittered(Duration::from_micros(50), Duration::from_millis(2));

/// How long each kind of caller waits for the file's write lock in all.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Tasks on the file's own thread, from when they were submitted.
    pub task: Duration,
    /// Callers that block their own thread, which may run an event loop.
    pub sync: Duration,
    /// A close, for what is left to do.
    pub close: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { task: Duration::from_secs(2), sync: Duration::from_secs(2), close: Duration::from_millis(500) }
    }
}

/// The time one caller has for its attempts.
#[derive(Debug)]
pub struct RetryBudget {
    // Not the injectable clock: this limits the caller's time, not a lease.
    since: Instant,
    end: Instant,
    pauses: Backoff,
    is_exhausted: bool,
}

impl RetryBudget {
    /// A budget of this length that starts now.
    pub fn new(limit: Duration) -> Self {
        let since = Instant::now();
        Self { since, end: since + limit, pauses: PAUSES, is_exhausted: false }
    }

    /// Continues a wait that began earlier, for this much longer.
    pub fn resumed(since: Instant, limit: Duration) -> Self {
        Self { since, ..Self::new(limit) }
    }

    /// Whether a caller needed more time than there was.
    pub const fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }

    /// Sleeps before another attempt; `false` when no time is left.
    pub fn pause(&mut self) -> bool {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.is_exhausted = true;
            return false;
        }
        std::thread::sleep(self.pauses.next_pause().min(left));
        true
    }

    /// Retries while another process is in the way.
    pub fn retry_busy<T>(
        &mut self,
        path: &Path,
        mut attempt: impl FnMut() -> rusqlite::Result<T>,
    ) -> Result<T> {
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(error) if !errors::is_busy(&error) => return Err(errors::sql(path, &error)),
                Err(_) if self.pause() => {}
                Err(_) => return Err(errors::busy_timeout(path, self.elapsed())),
            }
        }
    }

    /// The time since the wait began.
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_at_its_limit() {
        let mut budget = RetryBudget::new(Duration::from_millis(20));
        let mut attempts = 0;
        while budget.pause() {
            attempts += 1;
        }
        assert!(attempts >= 1 && budget.is_exhausted(), "{attempts}");
        assert!(budget.elapsed() >= Duration::from_millis(20));
        assert!(!RetryBudget::new(Duration::ZERO).pause());
    }
}
