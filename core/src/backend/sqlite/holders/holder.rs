//! The holder of a lease, as its row names it, and what follows for the lease's end.

use std::time::Duration;

use super::mark::Mark;
use crate::runtime::clock::{BootIdentity, BootInstant, Clock};

/// The process a lease belongs to: which boot clock it uses, and which file shows whether it is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its boot and time namespace; `None` where the system reports none.
    pub identity: Option<BootIdentity>,
    /// Its liveness file; `None` if it keeps none.
    pub mark: Option<Mark>,
}

impl Holder {
    /// Boot 16, time namespace 8, big-endian.
    pub const IDENTITY_BYTES: usize = 24;
    /// The bytes in a row: identity, then mark. Zeros stand for what is not known.
    pub const BYTES: usize = Self::IDENTITY_BYTES + Mark::BYTES;

    /// The bytes that are stored.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        if let Some(identity) = self.identity {
            bytes[..16].copy_from_slice(&identity.boot);
            bytes[16..Self::IDENTITY_BYTES].copy_from_slice(&identity.time_namespace.to_be_bytes());
        }
        if let Some(mark) = self.mark {
            bytes[Self::IDENTITY_BYTES..].copy_from_slice(&mark.encode());
        }
        bytes
    }

    /// From the stored bytes; `None` if this version did not write them.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let (boot, rest) = bytes.split_first_chunk::<16>()?;
        let (time_namespace, mark) = rest.split_first_chunk::<8>()?;
        let identity = (*boot != [0; 16])
            .then(|| BootIdentity { boot: *boot, time_namespace: u64::from_be_bytes(*time_namespace) });
        Some(Self { identity, mark: Mark::decode(mark) })
    }
}

/// What a row says about the holder of a lease: who it is, and the end of the lease's minimum if it has one.
///
/// Without a minimum these are the bytes of the holder alone. With one, its end follows. Processes that know
/// no minimum take the longer text for that of an unknown holder: they judge the lease by the wall clock
/// alone, and wait for its whole end even if its holder is dead.
#[derive(Debug, Clone, Copy)]
pub struct StoredHolder {
    /// Who holds it, or held it when the lease was released.
    pub holder: Holder,
    /// When its minimum ends: µs on the boot clock, and since 1970.
    pub minimum: Option<(u64, u64)>,
}

impl StoredHolder {
    /// With a minimum: boot clock 8, wall clock 8, big-endian, after the holder.
    const BYTES: usize = Holder::BYTES + 16;

    /// The bytes that are stored for a lease with a minimum.
    pub fn encode(holder: Option<Holder>, (boot, wall): (u64, u64)) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (known, minimum) = bytes.split_at_mut(Holder::BYTES);
        if let Some(holder) = holder {
            known.copy_from_slice(&holder.encode());
        }
        minimum[..8].copy_from_slice(&boot.to_be_bytes());
        minimum[8..].copy_from_slice(&wall.to_be_bytes());
        bytes
    }

    /// From the stored bytes; `None` if this version did not write them.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (known, minimum) = bytes.split_at_checked(Holder::BYTES)?;
        let minimum = match minimum {
            [] => None,
            minimum => {
                let (boot, wall) = minimum.split_first_chunk()?;
                let wall = wall.try_into().ok()?;
                Some((u64::from_be_bytes(*boot), u64::from_be_bytes(wall)))
            }
        };
        Some(Self { holder: Holder::decode(known)?, minimum })
    }
}

/// One moment, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// On this process's boot clock.
    pub boot: BootInstant,
    /// µs since 1970.
    pub wall: u64,
    /// The boot that the boot clock belongs to. `None` also on a network file system: there a holder of
    /// another boot is not dead, and boot clocks cannot be compared.
    pub identity: Option<BootIdentity>,
}

impl Now {
    /// Reads the clocks.
    pub fn read(clock: &Clock, network: bool) -> Self {
        let identity = if network { None } else { clock.identity() };
        Self { boot: clock.boot(), wall: clock.wall_micros(), identity }
    }

    /// This much later, as rows have it: µs on the boot clock, and since 1970.
    pub fn both_after(&self, time: Duration) -> (u64, u64) {
        ((self.boot + time).as_micros(), self.wall + time.as_micros() as u64)
    }
}

/// A lease's end on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct LeaseEnd {
    /// µs on the holder's boot clock.
    pub boot: u64,
    /// µs since 1970.
    pub wall: u64,
    /// The boot that the holder's boot clock belongs to.
    pub identity: Option<BootIdentity>,
}

impl LeaseEnd {
    /// How long the lease still lasts; zero if it is over.
    pub fn remaining(&self, now: &Now) -> Duration {
        match (self.identity, now.identity) {
            // Setting the wall clock neither ends nor prolongs it.
            (Some(theirs), Some(ours)) if theirs == ours => {
                now.boot.until(BootInstant::from_micros(self.boot))
            }
            // Another boot, another view of the boot clock, or one that is not known.
            _ => Duration::from_micros(self.wall.saturating_sub(now.wall)),
        }
    }

    /// Whether the holder named another boot than ours. Then the host has booted since and the holder is
    /// dead, unless its liveness file is locked: some container managers (LXC, systemd-nspawn) give each
    /// container a boot id of its own.
    pub fn is_from_other_boot(&self, now: &Now) -> bool {
        matches!((self.identity, now.identity), (Some(theirs), Some(ours)) if theirs.boot != ours.boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: BootIdentity = BootIdentity { boot: [7; 16], time_namespace: 3 };

    fn mark() -> Mark {
        Mark { inode: 1, pid_namespace: 2, pid: 3, nonce: 4 }
    }

    #[test]
    fn a_holder_survives_its_encoding() {
        for identity in [None, Some(BOOT)] {
            for mark in [None, Some(mark())] {
                let holder = Holder { identity, mark };
                assert_eq!(Holder::decode(&holder.encode()), Some(holder));
            }
        }
        assert_eq!(Holder::BYTES, 52);
        assert_eq!(Holder::decode(&[0; 51]), None);
        assert_eq!(Holder::decode(&[]), None);
    }

    #[test]
    fn a_minimum_survives_its_encoding_and_hides_the_holder_from_those_who_do_not_know_it() {
        let holder = Holder { identity: Some(BOOT), mark: Some(mark()) };
        let stored = StoredHolder::encode(Some(holder), (1 << 60, 7));
        let decoded = StoredHolder::decode(&stored).unwrap();
        assert_eq!((decoded.holder, decoded.minimum), (holder, Some((1 << 60, 7))));
        assert_eq!(Holder::decode(&stored), None);
        let decoded = StoredHolder::decode(&holder.encode()).unwrap();
        assert_eq!((decoded.holder, decoded.minimum), (holder, None));
        let unknown = StoredHolder::decode(&StoredHolder::encode(None, (1, 2))).unwrap();
        assert_eq!(unknown.holder, Holder { identity: None, mark: None });
        for length in [0, 51, 53, 60, 67] {
            assert!(StoredHolder::decode(&stored[..length]).is_none(), "{length}");
        }
    }

    #[test]
    fn the_clock_that_both_can_read_decides() {
        let second = Duration::from_secs(1);
        let end = LeaseEnd { boot: 2_000_000, wall: 9_000_000, identity: Some(BOOT) };
        let now = |identity| Now { boot: BootInstant::from_micros(1_000_000), wall: 4_000_000, identity };
        assert_eq!(end.remaining(&now(Some(BOOT))), second, "the same boot clock");
        let elsewhere = BootIdentity { time_namespace: 4, ..BOOT };
        assert_eq!(end.remaining(&now(Some(elsewhere))), second * 5, "another time namespace");
        assert_eq!(end.remaining(&now(None)), second * 5, "ours is not known");
        assert_eq!(
            LeaseEnd { identity: None, ..end }.remaining(&now(Some(BOOT))),
            second * 5,
            "theirs is not known"
        );
        let rebooted = BootIdentity { boot: [8; 16], ..BOOT };
        assert_eq!(end.remaining(&now(Some(rebooted))), second * 5, "another boot, or another container");
        assert!(end.is_from_other_boot(&now(Some(rebooted))));
        assert!(!end.is_from_other_boot(&now(Some(elsewhere))) && !end.is_from_other_boot(&now(None)));
    }
}
