//! A timeout that is set and cleared for every request and almost never elapses.
//!
//! A timer of the runtime would have to be registered each time, and registering the next timer to fire costs
//! a system call that wakes the sleeping thread. Here one sleeper serves all timeouts in turn: it sleeps
//! until a time that has usually been cleared by then, checks the current one, and sleeps on.

use std::sync::MutexGuard;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::runtime::sync::Mutex;

/// One timeout at a time.
#[derive(Default)]
pub(crate) struct ResettableTimeout {
    state: Mutex<State>,
    earlier: Notify,
}

#[derive(Default)]
struct State {
    due: Option<Instant>,
    /// Until when the sleeper sleeps; `None`: until it is woken.
    asleep_until: Option<Instant>,
    /// Changes whenever the timeout is set or cleared.
    number: u64,
}

/// Identifies a timeout that elapsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elapsed(u64);

impl ResettableTimeout {
    /// Sets the timeout, and replaces the previous one.
    pub fn set(&self, due: Instant) {
        let mut state = self.state.lock();
        state.number += 1;
        self.schedule(state, due);
    }

    pub fn clear(&self) {
        let mut state = self.state.lock();
        state.number += 1;
        state.due = None;
    }

    /// Sets another timeout after one that elapsed, unless it was set or cleared since.
    pub fn rearm(&self, elapsed: Elapsed, due: Instant) {
        let state = self.state.lock();
        if state.number == elapsed.0 {
            self.schedule(state, due);
        }
    }

    /// Waits until the timeout elapses. For a single task.
    pub async fn elapsed(&self) -> Elapsed {
        loop {
            let until = {
                let mut state = self.state.lock();
                if state.due.is_some_and(|due| due <= Instant::now()) {
                    state.due = None;
                    state.asleep_until = None;
                    return Elapsed(state.number);
                }
                state.asleep_until = state.due;
                state.due
            };
            match until {
                Some(until) => {
                    let _ = timeout_at(until, self.earlier.notified()).await;
                }
                None => self.earlier.notified().await,
            }
        }
    }

    fn schedule(&self, mut state: MutexGuard<'_, State>, due: Instant) {
        state.due = Some(due);
        let sleeps_too_long = state.asleep_until.is_none_or(|until| due < until);
        drop(state);
        if sleeps_too_long {
            self.earlier.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// How long the timeout takes from now, in milliseconds of the paused clock.
    async fn elapses_after(timeout: &ResettableTimeout) -> u128 {
        let since = Instant::now();
        timeout.elapsed().await;
        since.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn elapses_at_the_time_that_was_set_last() {
        let timeout = Arc::new(ResettableTimeout::default());
        timeout.set(Instant::now() + ms(100));
        timeout.set(Instant::now() + ms(300));
        assert_eq!(elapses_after(&timeout).await, 300);
        timeout.set(Instant::now() + ms(300));
        let other = Arc::clone(&timeout);
        tokio::spawn(async move {
            tokio::time::sleep(ms(50)).await;
            other.set(Instant::now() + ms(10));
        });
        assert_eq!(elapses_after(&timeout).await, 60, "an earlier time wakes the sleeper");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cleared_timeout_does_not_elapse() {
        let timeout = ResettableTimeout::default();
        timeout.set(Instant::now() + ms(10));
        timeout.clear();
        assert!(tokio::time::timeout(ms(1_000), timeout.elapsed()).await.is_err());
        timeout.set(Instant::now() + ms(10));
        let elapsed = timeout.elapsed().await;
        timeout.rearm(elapsed, Instant::now() + ms(5));
        assert_eq!(elapses_after(&timeout).await, 5);
        // It replaces the time that elapsed.
        timeout.set(Instant::now() + ms(50));
        timeout.rearm(elapsed, Instant::now() + ms(1));
        assert_eq!(elapses_after(&timeout).await, 50);
    }
}
