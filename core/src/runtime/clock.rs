//! Time as locks need it: a monotonic clock that counts suspend, the wall clock, and the identity of this
//! boot.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment on the boot clock: monotonic, counts time spent suspended, the same for all processes of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootInstant(u64);

impl BootInstant {
    /// The moment this many microseconds after the boot clock's zero.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the boot clock's zero.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long from this moment to `later`; zero when `later` has passed.
    pub const fn until(self, later: Self) -> Duration {
        Duration::from_micros(later.0.saturating_sub(self.0))
    }
}

impl Add<Duration> for BootInstant {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs.as_micros() as u64))
    }
}

impl Sub<Duration> for BootInstant {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(rhs.as_micros() as u64))
    }
}

/// Which boot, and which view of the boot clock, a [`BootInstant`] belongs to. Moments of two processes
/// compare only if both parts are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootIdentity {
    /// Random per boot; the same in every container of the host.
    pub boot: [u8; 16],
    /// The time namespace, which may shift the boot clock; 0 on systems without them.
    pub time_namespace: u64,
}

/// The source of time. Cheap to clone; tests inject one that they move.
#[derive(Clone, Default)]
pub enum Clock {
    /// The operating system's clocks.
    #[default]
    System,
    /// A clock that tests move.
    #[cfg(test)]
    Fake(std::sync::Arc<fake::FakeClock>),
}

impl Clock {
    /// Now, on the boot clock.
    pub fn boot(&self) -> BootInstant {
        match self {
            Self::System => BootInstant(system::boot_micros()),
            #[cfg(test)]
            Self::Fake(clock) => clock.boot(),
        }
    }

    /// Now, on the wall clock: microseconds since 1970.
    pub fn wall_micros(&self) -> u64 {
        match self {
            Self::System => {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
            }
            #[cfg(test)]
            Self::Fake(clock) => clock.wall_micros(),
        }
    }

    /// The identity of this boot, or `None` if the system does not provide one.
    pub fn identity(&self) -> Option<BootIdentity> {
        match self {
            Self::System => system::identity(),
            #[cfg(test)]
            Self::Fake(clock) => clock.identity(),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(unix)]
mod system {
    use super::BootIdentity;
    use std::sync::OnceLock;

    /// `CLOCK_BOOTTIME` counts suspend.
    #[cfg(target_os = "linux")]
    pub fn boot_micros() -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
    }

    /// `CLOCK_MONOTONIC_RAW` is `mach_continuous_time` there, which counts suspend and is never adjusted.
    #[cfg(not(target_os = "linux"))]
    pub fn boot_micros() -> u64 {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the function writes one `timespec` to the pointer it is given, which is valid for that.
        let status = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &raw mut now) };
        assert_eq!(status, 0, "every macOS that the addon loads on has this clock");
        now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
    }

    pub fn identity() -> Option<BootIdentity> {
        static IDENTITY: OnceLock<Option<BootIdentity>> = OnceLock::new();
        *IDENTITY.get_or_init(read_identity)
    }

    #[cfg(target_os = "linux")]
    fn read_identity() -> Option<BootIdentity> {
        let boot = parse_uuid(&std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?)?;
        // "time:[4026531834]"; a kernel without time namespaces has no such link.
        let time_namespace = std::fs::read_link("/proc/self/ns/time")
            .map_or(Some(0), |link| link.to_str()?.strip_prefix("time:[")?.strip_suffix(']')?.parse().ok())?;
        Some(BootIdentity { boot, time_namespace })
    }

    #[cfg(not(target_os = "linux"))]
    fn read_identity() -> Option<BootIdentity> {
        let mut text = [0_u8; 64];
        let mut length = text.len();
        // SAFETY: the name is NUL-terminated, `text` has `length` bytes to write to, and nothing is set.
        let status = unsafe {
            libc::sysctlbyname(
                c"kern.bootsessionuuid".as_ptr(),
                text.as_mut_ptr().cast(),
                &raw mut length,
                std::ptr::null_mut(),
                0,
            )
        };
        let uuid = std::ffi::CStr::from_bytes_until_nul(&text).ok()?.to_str().ok()?;
        let boot = parse_uuid(uuid).filter(|_| status == 0)?;
        Some(BootIdentity { boot, time_namespace: 0 })
    }

    fn parse_uuid(text: &str) -> Option<[u8; 16]> {
        let hex: String = text.trim().chars().filter(|&c| c != '-').collect();
        (hex.len() == 32).then(|| u128::from_str_radix(&hex, 16).ok().map(u128::to_be_bytes))?
    }
}

#[cfg(windows)]
mod system {
    use super::BootIdentity;

    pub fn boot_micros() -> u64 {
        let mut hundred_ns = 0_u64;
        // SAFETY: the function writes one u64 to the pointer it is given, which is valid for that.
        unsafe {
            windows_sys::Win32::System::WindowsProgramming::QueryInterruptTimePrecise(&raw mut hundred_ns);
        }
        hundred_ns / 10
    }

    /// Windows does not identify boots, so leases are judged by the wall clock there.
    pub fn identity() -> Option<BootIdentity> {
        None
    }
}

/// A clock for tests.
#[cfg(test)]
pub mod fake {
    use super::{BootIdentity, BootInstant, Clock};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    #[derive(Clone, Copy)]
    struct State {
        boot: u64,
        wall: u64,
        identity: Option<BootIdentity>,
    }

    /// Moves only when a test moves it.
    pub struct FakeClock(Mutex<State>);

    impl FakeClock {
        /// A clock of a host that booted 1,000 s ago, at a wall time in 2026.
        pub fn new() -> Arc<Self> {
            let identity = Some(BootIdentity { boot: [7; 16], time_namespace: 0 });
            Arc::new(Self(Mutex::new(State { boot: 1_000_000_000, wall: 1_790_000_000_000_000, identity })))
        }

        /// This clock as the core takes it.
        pub fn clock(self: &Arc<Self>) -> Clock {
            Clock::Fake(Arc::clone(self))
        }

        /// Time passes: both clocks move.
        pub fn advance(&self, by: Duration) {
            let mut state = self.0.lock().unwrap();
            state.boot += by.as_micros() as u64;
            state.wall += by.as_micros() as u64;
        }

        /// The wall clock is set.
        pub fn step_wall(&self, by_micros: i64) {
            let mut state = self.0.lock().unwrap();
            state.wall = state.wall.checked_add_signed(by_micros).unwrap();
        }

        /// The host boots again: another identity, the boot clock near zero.
        pub fn reboot(&self) {
            let mut state = self.0.lock().unwrap();
            state.boot = 5_000_000;
            state.wall += 60_000_000;
            state.identity = state.identity.map(|id| BootIdentity { boot: id.boot.map(|b| b ^ 0xff), ..id });
        }

        /// The process runs in this time namespace (or, with `None`, cannot tell its boot).
        pub fn set_identity(&self, identity: Option<BootIdentity>) {
            self.0.lock().unwrap().identity = identity;
        }

        pub(super) fn boot(&self) -> BootInstant {
            BootInstant(self.0.lock().unwrap().boot)
        }

        pub(super) fn wall_micros(&self) -> u64 {
            self.0.lock().unwrap().wall
        }

        pub(super) fn identity(&self) -> Option<BootIdentity> {
            self.0.lock().unwrap().identity
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_rises_and_the_wall_clock_is_after_2020() {
        let first = Clock::System.boot();
        std::thread::sleep(Duration::from_millis(2));
        assert!(first.until(Clock::System.boot()) >= Duration::from_millis(2));
        assert!(Clock::System.wall_micros() > 1_577_836_800_000_000);
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    fn this_boot_has_an_identity_that_stays() {
        let identity = Clock::System.identity().expect("a boot identity");
        assert_ne!(identity.boot, [0; 16]);
        assert_eq!(Some(identity), Clock::System.identity());
    }
}
