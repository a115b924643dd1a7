//! Keeps leases alive: when one is to be renewed, and when that ends. Natively, so that a blocked event loop loses no
//! lease; and within limits, so that one that hangs for good does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::lease::Ttl;
use crate::manager::{HeldLease, Manager};
use crate::runtime::clock::BootInstant;
use crate::runtime::deadline_queue::Wheel;

/// Ticks are powers of two, so that those of short leases fall together with those of longer ones. This is about a
/// quarter of a second, in microseconds.
const LONGEST_TICK: u64 = 1 << 18;
/// The longest pause after the first failure, and the most that pauses grow to.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// An event loop that was silent for this long is asked for a sign of life with the next renewal, so that it need not
/// be waited for when it counts.
const SILENCE: Duration = Duration::from_secs(1);

/// How long a lease is kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Counted from the grant.
    pub max_hold: Duration,
    /// Without a sign of life from whoever holds it.
    pub max_stall: Duration,
}

impl Limits {
    /// No limit.
    pub const FOREVER: Duration = Duration::from_micros(u64::MAX);
}

/// Whether those who hold leases are alive. For JavaScript: its event loop.
pub trait Pulse: Send + Sync {
    /// When it last gave a sign of life.
    fn beat(&self) -> BootInstant;
    /// Asks for a sign of life. Called from any thread; must not block.
    fn ask(&self);
}

/// Looks at this lease at the next tick after this moment.
pub(crate) fn add(at: BootInstant, manager: &Arc<Manager>, held: &Arc<HeldLease>) -> Result<()> {
    static RENEWED: Wheel = Wheel::new(Manager::renew_if_due);
    RENEWED.add(tick(at, held.ttl), manager, held)
}

/// The first common moment that is not before this one. Leases that are due close together are renewed together.
pub(crate) fn tick(at: BootInstant, ttl: Ttl) -> BootInstant {
    // The shortest TTL has ticks of 128 microseconds.
    let share = (ttl.as_duration().as_micros() as u64 / 48).max(1);
    let length = (1 << share.ilog2()).min(LONGEST_TICK);
    BootInstant::from_micros(at.as_micros().next_multiple_of(length))
}

/// What is to be done about a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Renew it now.
    Renew,
    /// Look again then.
    Later(BootInstant),
    /// It is not renewed any more.
    Over,
}

/// The renewing of one lease. One task at a time is at it.
#[derive(Debug)]
pub(crate) struct Renewal {
    limits: Limits,
    /// A std mutex: nothing awaits while it is held.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In a row.
    failures: u32,
    /// When the holder was asked for a sign of life that this renewal waits for.
    asked: Option<BootInstant>,
    obstacle: Option<Obstacle>,
}

/// Why a lease is not renewed.
#[derive(Debug)]
enum Obstacle {
    Unanswered,
    Failing(Error),
    Silent,
    HeldLongEnough,
}

impl Renewal {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// What is to be done now. Asks for a sign of life where one is needed.
    pub(crate) fn turn(&self, held: &HeldLease, now: BootInstant, pulse: &dyn Pulse) -> Turn {
        if !held.is_active() {
            return Turn::Over;
        }
        let Limits { max_hold, max_stall } = self.limits;
        let mut state = self.state();
        if now >= held.sent + max_hold {
            state.obstacle = Some(Obstacle::HeldLongEnough);
            return Turn::Over;
        }
        // The holder was told by now, or is about to be.
        if now >= held.warning() {
            return Turn::Over;
        }
        if now < held.due() {
            return Turn::Later(held.due());
        }
        if max_stall < Limits::FOREVER {
            let beat = pulse.beat();
            let silent = beat.until(now);
            if silent >= max_stall && state.asked.is_none_or(|asked| beat < asked) {
                state.asked.get_or_insert(now);
                state.obstacle = Some(Obstacle::Silent);
                drop(state);
                pulse.ask();
                return Turn::Later(now + pause(held.ttl, 0));
            }
            if silent >= SILENCE.min(max_stall / 4) {
                pulse.ask();
            }
        }
        state.asked = None;
        state.obstacle.get_or_insert(Obstacle::Unanswered);
        Turn::Renew
    }

    /// What became of a renewal: answers when to look again, if ever.
    pub(crate) fn renewed(
        &self,
        held: &HeldLease,
        result: Result<()>,
        now: BootInstant,
    ) -> Option<BootInstant> {
        let mut state = self.state();
        match result {
            Ok(()) => {
                *state = State::default();
                Some(held.due())
            }
            Err(Error::LockLost(_) | Error::Closed) => None,
            Err(error) => {
                let pause = pause(held.ttl, state.failures);
                state.failures += 1;
                state.obstacle = Some(Obstacle::Failing(error));
                Some(now + pause)
            }
        }
    }

    /// It cannot be renewed at all.
    pub(crate) fn failed(&self, error: Error) {
        self.state().obstacle = Some(Obstacle::Failing(error));
    }

    /// Why the lease is not renewed, in words, if there is anything in the way.
    pub(crate) fn obstacle(&self) -> Option<String> {
        let Limits { max_hold, max_stall } = self.limits;
        Some(match self.state().obstacle.as_ref()? {
            Obstacle::Unanswered => "its renewal was not answered in time".to_owned(),
            Obstacle::Failing(error) => format!("it could not be renewed ({}: {error})", error.code()),
            Obstacle::Silent => format!(
                "the event loop was blocked for longer than maxStallMs ({}), so it was not renewed",
                max_stall.as_millis()
            ),
            Obstacle::HeldLongEnough => {
                format!("it was held for maxHoldMs ({}), so it is not renewed any more", max_hold.as_millis())
            }
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to wait after so many failures and one more.
fn pause(ttl: Ttl, failures: u32) -> Duration {
    let first = (ttl.as_duration() / 32).min(PAUSES.0);
    (first * 2_u32.pow(failures.min(8))).min(ttl.as_duration() / 8).min(PAUSES.1)
}
