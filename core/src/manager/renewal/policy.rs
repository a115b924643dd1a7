//! When a lease is renewed, and when that stops. Decisions only: no I/O and no clock.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::lease::Ttl;
use crate::runtime::backoff::Backoff;
use crate::runtime::clock::BootInstant;
use crate::runtime::sync::Mutex;

/// Ticks are powers of two, so that those of short leases coincide with those of longer ones. This is about a
/// quarter of a second, in microseconds.
const LONGEST_TICK: u64 = 1 << 18;
/// The limits of the pauses after failures: of the first, and of all.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// After this long without a sign of life the holder is asked for one with the next renewal, so that it need
/// not be waited for when it counts.
const SILENCE: Duration = Duration::from_secs(1);

/// How many renewals that are due at once are started together, and the pause after each such burst: calls
/// of other kinds share the connections and the thread.
const BURST: usize = 1_000;
const BURST_PAUSE: Duration = Duration::from_millis(25);

/// How long a lease is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalLimits {
    /// Counted from the grant.
    pub max_hold: Duration,
    /// Without a sign of life from the holder.
    pub max_stall: Duration,
}

impl RenewalLimits {
    /// No limit.
    pub const FOREVER: Duration = Duration::from_micros(u64::MAX);
}

/// Whether the holder of leases is alive. For JavaScript: its event loop.
pub trait Heartbeat: Send + Sync {
    /// When it last gave a sign of life.
    fn last(&self) -> BootInstant;
    /// Asks for a sign of life. Called from any thread; must not block.
    fn request(&self);
}

/// The moments of a lease that decide about its renewal.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Neither lost nor released.
    pub active: bool,
    /// Just before it was asked for.
    pub granted: BootInstant,
    /// When it should be renewed.
    pub due: BootInstant,
    /// When its holder is notified that it ends.
    pub warning: BootInstant,
    /// What it is renewed by.
    pub ttl: Ttl,
}

/// The first common tick that is not before this moment. Leases that are due close together are renewed
/// together.
pub fn next_tick(at: BootInstant, ttl: Ttl) -> BootInstant {
    // The shortest TTL has ticks of 128 microseconds.
    let share = (ttl.as_duration().as_micros() as u64 / 48).max(1);
    let length = (1 << share.ilog2()).min(LONGEST_TICK);
    BootInstant::from_micros(at.as_micros().next_multiple_of(length))
}

/// How long the renewal in this place waits, among many that are due at once.
pub fn burst_delay(place: usize) -> Duration {
    BURST_PAUSE * u32::try_from(place / BURST).unwrap_or(u32::MAX)
}

/// One run of the renewals of a lease, each of which schedules the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    number: u32,
    /// It does not wait until the renewal is due, until one has succeeded.
    pub hurried: bool,
}

impl Run {
    /// Of a new lease.
    pub const FIRST: Self = Self { number: 0, hurried: false };

    /// It goes on like this after a renewal.
    pub const fn after(self, result: &Result<()>) -> Self {
        Self { hurried: self.hurried && result.is_err(), ..self }
    }
}

/// What to do about a lease now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Renew it.
    Renew,
    /// Decide again at this moment.
    Wait(BootInstant),
    /// Never renew it again.
    Stop,
}

/// The renewal of one lease.
#[derive(Debug)]
pub struct Renewal {
    limits: RenewalLimits,
    state: Mutex<State>,
    passage: AtomicU8,
    /// The number of the current run.
    run: AtomicU32,
}

/// The lease has not reached its holder yet.
const UNDELIVERED: u8 = 0;
/// It was passed on, but not taken yet.
const DELIVERED: u8 = 1;
/// It has a holder.
const TAKEN: u8 = 2;

#[derive(Debug, Default)]
struct State {
    /// The pauses after failures in a row.
    backoff: Option<Backoff>,
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
    /// Of a new lease.
    pub fn new(limits: RenewalLimits) -> Self {
        let (passage, run) = (AtomicU8::new(UNDELIVERED), AtomicU32::new(Run::FIRST.number));
        Self { limits, state: Mutex::default(), passage, run }
    }

    /// The lease was passed to its holder.
    pub fn deliver(&self) {
        let _ = self.passage.compare_exchange(UNDELIVERED, DELIVERED, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The holder has taken the lease.
    pub fn take(&self) {
        self.passage.store(TAKEN, Ordering::Release);
    }

    /// Whether the lease was passed on, but not taken yet.
    pub fn is_abandoned(&self) -> bool {
        self.passage.load(Ordering::Acquire) == DELIVERED
    }

    /// Begins a run that renews at once, whatever the one before is waiting for: that one ends.
    pub fn hurry(&self) -> Run {
        self.state.lock().backoff = None;
        Run { number: self.run.fetch_add(1, Ordering::AcqRel).wrapping_add(1), hurried: true }
    }

    /// Whether this is the current run.
    pub fn is_current(&self, run: Run) -> bool {
        self.run.load(Ordering::Acquire) == run.number
    }

    /// Decides what to do now. Asks for a sign of life where one is needed.
    pub fn decide(&self, times: &Times, now: BootInstant, heartbeat: &dyn Heartbeat) -> Decision {
        if !times.active {
            return Decision::Stop;
        }
        let RenewalLimits { max_hold, max_stall } = self.limits;
        let mut state = self.state.lock();
        if now >= times.granted + max_hold {
            state.obstacle = Some(Obstacle::HeldLongEnough);
            return Decision::Stop;
        }
        // The holder was notified by now, or is about to be.
        if now >= times.warning {
            return Decision::Stop;
        }
        if now < times.due {
            return Decision::Wait(times.due);
        }
        if self.is_abandoned() {
            // Most likely for good. But its holder may be just about to take it.
            return Decision::Wait(now + pauses(times.ttl).next_pause());
        }
        if max_stall < RenewalLimits::FOREVER {
            let last = heartbeat.last();
            let silent = last.until(now);
            if silent >= max_stall && state.asked.is_none_or(|asked| last < asked) {
                state.asked.get_or_insert(now);
                state.obstacle = Some(Obstacle::Silent);
                drop(state);
                heartbeat.request();
                return Decision::Wait(now + pauses(times.ttl).next_pause());
            }
            if silent >= SILENCE.min(max_stall / 4) {
                heartbeat.request();
            }
        }
        state.asked = None;
        state.obstacle.get_or_insert(Obstacle::Unanswered);
        Decision::Renew
    }

    /// Records the result of a renewal, and returns when to decide again, if ever.
    pub fn record(&self, times: &Times, result: Result<()>, now: BootInstant) -> Option<BootInstant> {
        let mut state = self.state.lock();
        match result {
            Ok(()) => {
                *state = State::default();
                Some(times.due)
            }
            Err(Error::LockLost(_) | Error::Closed) => None,
            Err(error) => {
                let pause = state.backoff.get_or_insert_with(|| pauses(times.ttl)).next_pause();
                state.obstacle = Some(Obstacle::Failing(error));
                Some(now + pause)
            }
        }
    }

    /// Records that the lease cannot be renewed at all.
    pub fn fail(&self, error: Error) {
        self.state.lock().obstacle = Some(Obstacle::Failing(error));
    }

    /// Why the lease is not renewed, for a message.
    pub fn obstacle(&self) -> Option<String> {
        let RenewalLimits { max_hold, max_stall } = self.limits;
        Some(match self.state.lock().obstacle.as_ref()? {
            Obstacle::Unanswered => "its renewal was not answered in time".to_owned(),
            Obstacle::Failing(error) => {
                format!("it could not be renewed ({}: {})", error.code(), error.what())
            }
            Obstacle::Silent => format!(
                "the event loop was blocked for longer than maxStallMs ({}), so it was not renewed",
                max_stall.as_millis()
            ),
            Obstacle::HeldLongEnough => {
                format!("it was held for maxHoldMs ({}), so it is no longer renewed", max_hold.as_millis())
            }
        })
    }
}

/// The pauses after failures.
fn pauses(ttl: Ttl) -> Backoff {
    let first = (ttl.as_duration() / 32).min(PAUSES.0);
    Backoff::exact(first, (ttl.as_duration() / 8).min(PAUSES.1))
}
