//! For how long a backend knows who this manager is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::runtime::clock::BootInstant;
use crate::runtime::sync::Mutex;

/// A backend is told for twice as long at least.
const SHORTEST: Duration = Duration::from_secs(60);
/// How old what it knows may be when a lease is granted or extended: it may have lost it since.
const FRESH: Duration = Duration::from_secs(60);
/// How soon it is told again after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// For how long a backend knows who this manager is. It is told again with the first lease that lasts longer
/// than that, whether granted or extended, and with the first one a minute later, because it may have evicted
/// or lost what it knew. So that outlives every lease of this manager, although nothing is sent with any of
/// them, and there is no timer.
#[derive(Debug)]
pub struct Announcement {
    /// Microseconds on the boot clock: leases that end before need nothing.
    known_until: AtomicU64,
    /// Microseconds on the boot clock: leases that were asked for before need nothing.
    fresh_until: AtomicU64,
    /// When the backend may be told next.
    not_before: Mutex<BootInstant>,
}

impl Announcement {
    /// Of a backend that knows nothing yet; `is_shared`: other managers see its leases.
    pub fn new(is_shared: bool) -> Self {
        let [known_until, fresh_until] =
            [(); 2].map(|()| AtomicU64::new(if is_shared { 0 } else { u64::MAX }));
        Self { known_until, fresh_until, not_before: Mutex::new(BootInstant::from_micros(0)) }
    }

    /// Whether nothing needs to be told for a lease that was asked for at `sent` and lasts until `end`.
    pub fn covers(&self, sent: BootInstant, end: BootInstant) -> bool {
        end.as_micros() <= self.known_until.load(Ordering::Relaxed)
            && sent.as_micros() < self.fresh_until.load(Ordering::Relaxed)
    }

    /// For how long the backend is to know of this manager, because a lease lasts until `end`; `None`: it is
    /// being told already, or the last failure was just now.
    pub fn claim(&self, now: BootInstant, end: BootInstant) -> Option<Duration> {
        let not_before = self.not_before.lock();
        if now < *not_before || self.covers(now, end) {
            return None;
        }
        // Twice as long, so that leases that are extended do not have it told each time.
        let known_until = BootInstant::from_micros(self.known_until.load(Ordering::Relaxed));
        let lasts = (now.until(end).max(SHORTEST) * 2).max(now.until(known_until));
        self.known_until.store((now + lasts).as_micros(), Ordering::Relaxed);
        self.fresh_until.store((now + FRESH).as_micros(), Ordering::Relaxed);
        Some(lasts)
    }

    /// It was not told.
    pub fn failed(&self, now: BootInstant) {
        *self.not_before.lock() = now + RETRY;
        self.forgotten();
    }

    /// The backend may have lost what it knew.
    pub fn forgotten(&self) {
        let _ = self
            .known_until
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| (until != u64::MAX).then_some(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> BootInstant {
        BootInstant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_backend_is_told_again_when_a_lease_outlasts_what_it_knows() {
        let announcement = Announcement::new(true);
        assert_eq!(announcement.claim(at(100), at(110)), Some(SHORTEST * 2));
        assert_eq!(announcement.claim(at(100), at(110)), None, "it is told once");
        assert!(announcement.covers(at(159), at(220)) && !announcement.covers(at(159), at(221)));
        assert_eq!(announcement.claim(at(159), at(221)), Some(Duration::from_secs(124)));
        assert_eq!(announcement.claim(at(212), at(212 + 3_600)), Some(Duration::from_secs(7_200)));
    }

    #[test]
    fn a_backend_is_told_again_after_a_minute_because_it_may_have_lost_it() {
        let announcement = Announcement::new(true);
        assert_eq!(announcement.claim(at(100), at(3_700)), Some(Duration::from_secs(7_200)));
        assert_eq!(announcement.claim(at(159), at(200)), None);
        assert!(!announcement.covers(at(160), at(200)));
        assert_eq!(announcement.claim(at(160), at(200)), Some(Duration::from_secs(7_140)), "never for less");
        assert_eq!(announcement.claim(at(160), at(200)), None);
    }

    #[test]
    fn after_a_failure_it_is_told_again_a_little_later() {
        let announcement = Announcement::new(true);
        assert!(announcement.claim(at(100), at(110)).is_some());
        announcement.failed(at(101));
        assert_eq!(announcement.claim(at(105), at(115)), None);
        assert!(announcement.claim(at(106), at(116)).is_some());
        announcement.forgotten();
        assert!(announcement.claim(at(107), at(117)).is_some(), "a failover is no failure");
    }

    #[test]
    fn a_private_backend_is_never_told() {
        let announcement = Announcement::new(false);
        announcement.forgotten();
        assert_eq!(announcement.claim(at(1), at(100_000)), None);
    }
}
