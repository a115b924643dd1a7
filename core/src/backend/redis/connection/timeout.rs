//! A time limit that is set and called off for every request, and almost never comes.
//!
//! The runtime's timers would have to be registered each time, and a timer that is the next to come costs a system call
//! to wake the thread that is about to sleep. Here one sleeper looks after all limits in turn: it sleeps until a limit
//! that has mostly been called off by then, looks what the limit is now, and sleeps on.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// One limit at a time.
#[derive(Default)]
pub(crate) struct Alarm {
    // A std Mutex, because nothing awaits while it is held.
    state: Mutex<State>,
    earlier: Notify,
}

#[derive(Default)]
struct State {
    due: Option<Instant>,
    /// Until when the sleeper sleeps; `None`: until it is woken.
    asleep_until: Option<Instant>,
    /// Changes with every limit.
    number: u64,
}

/// Names a limit that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed(u64);

impl Alarm {
    /// Sets the limit, instead of the one there may be.
    pub fn set(&self, due: Instant) {
        let mut state = self.lock();
        state.number += 1;
        self.put(state, due);
    }

    /// Calls the limit off.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.number += 1;
        state.due = None;
    }

    /// Sets another limit after one that passed, unless it was set or called off meanwhile.
    pub fn again(&self, passed: Passed, due: Instant) {
        let state = self.lock();
        if state.number == passed.0 {
            self.put(state, due);
        }
    }

    /// Until a limit passes. For one sleeper.
    pub async fn passed(&self) -> Passed {
        loop {
            let until = {
                let mut state = self.lock();
                if state.due.is_some_and(|due| due <= Instant::now()) {
                    state.due = None;
                    state.asleep_until = None;
                    return Passed(state.number);
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

    fn put(&self, mut state: MutexGuard<'_, State>, due: Instant) {
        state.due = Some(due);
        let too_long = state.asleep_until.is_none_or(|until| due < until);
        drop(state);
        if too_long {
            self.earlier.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// How long the alarm takes from now, in milliseconds of the paused clock.
    async fn passes(alarm: &Alarm) -> u128 {
        let since = Instant::now();
        alarm.passed().await;
        since.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn passes_at_the_limit_that_was_set_last() {
        let alarm = Arc::new(Alarm::default());
        alarm.set(Instant::now() + ms(100));
        alarm.set(Instant::now() + ms(300));
        assert_eq!(passes(&alarm).await, 300);
        alarm.set(Instant::now() + ms(300));
        let other = Arc::clone(&alarm);
        tokio::spawn(async move {
            tokio::time::sleep(ms(50)).await;
            other.set(Instant::now() + ms(10));
        });
        assert_eq!(passes(&alarm).await, 60, "an earlier one wakes the sleeper");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_called_off_does_not_pass() {
        let alarm = Alarm::default();
        alarm.set(Instant::now() + ms(10));
        alarm.clear();
        assert!(tokio::time::timeout(ms(1_000), alarm.passed()).await.is_err());
        alarm.set(Instant::now() + ms(10));
        let passed = alarm.passed().await;
        alarm.again(passed, Instant::now() + ms(5));
        assert_eq!(passes(&alarm).await, 5);
        // It replaces the limit that passed.
        alarm.set(Instant::now() + ms(50));
        alarm.again(passed, Instant::now() + ms(1));
        assert_eq!(passes(&alarm).await, 50);
    }
}
