//! Patience: how long, and in which steps, somebody waits for what another process has.
//!
//! SQLite's own busy handler would sleep with our connection's mutex held, so that a synchronous call on the event
//! loop waited behind an asynchronous one. Here every try is short and the mutex is free in between.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::{Duration, Instant};

use super::errors;
use crate::error::Result;

/// The first pause: about as long as a transaction of ours.
const FIRST: Duration = Duration::from_micros(50);
/// The longest pause.
const LONGEST: Duration = Duration::from_millis(2);

/// How long each kind of caller waits for the file's write lock in all.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Tasks on the file's own thread, from when they asked.
    pub task: Duration,
    /// Callers that block their own thread, perhaps an event loop.
    pub sync: Duration,
    /// A close, for what is left to do.
    pub close: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { task: Duration::from_secs(5), sync: Duration::from_secs(2), close: Duration::from_millis(500) }
    }
}

/// One caller's wait.
#[derive(Debug)]
pub struct Wait {
    // Not the injectable clock: this is about the caller's patience, not about leases.
    since: Instant,
    end: Instant,
    pause: Duration,
    over: bool,
}

impl Wait {
    /// Starts the wait.
    pub fn at_most(limit: Duration) -> Self {
        let since = Instant::now();
        Self { since, end: since + limit, pause: FIRST, over: false }
    }

    /// Goes on with a wait that began earlier, for this much longer.
    pub fn resumed(since: Instant, limit: Duration) -> Self {
        Self { since, ..Self::at_most(limit) }
    }

    /// Whether the patience ended, rather than the need for it.
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// Sleeps before another try; `false` when the patience is over.
    pub fn again(&mut self) -> bool {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.over = true;
            return false;
        }
        // Half to all of the pause: processes that met once should not meet again.
        let random = RandomState::new().hash_one(0_u8) as u32;
        let pause = self.pause / 2 + self.pause.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0);
        std::thread::sleep(pause.min(left));
        self.pause = (self.pause * 2).min(LONGEST);
        true
    }

    /// Does something to the database until nobody is in the way.
    pub fn until_free<T>(
        &mut self,
        path: &Path,
        mut attempt: impl FnMut() -> rusqlite::Result<T>,
    ) -> Result<T> {
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(error) if !errors::is_busy(&error) => return Err(errors::sql(path, &error)),
                Err(_) if self.again() => {}
                Err(_) => return Err(errors::locked_out(path, self.waited())),
            }
        }
    }

    /// How long it has been.
    pub fn waited(&self) -> Duration {
        self.since.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_at_its_limit() {
        let mut wait = Wait::at_most(Duration::from_millis(20));
        let mut tries = 0;
        while wait.again() {
            tries += 1;
        }
        assert!(tries >= 1 && wait.is_over(), "{tries}");
        assert!(wait.waited() >= Duration::from_millis(20));
        assert!(!Wait::at_most(Duration::ZERO).again());
    }
}
