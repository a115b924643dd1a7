//! A lease as its holder sees it: until when it counts, and whether it still does.

use std::hash::Hasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::expiry::lease_end::LeaseEnd;
use super::renewal::policy::{Renewal, RenewalLimits, Times};
use crate::backend::contract::{Grant, Request};
use crate::lease::{AckPolicy, Owner, Resources, Strategy, Ttl};
use crate::runtime::clock::BootInstant;

/// Names one lease of this process; never reused.
pub type LeaseId = u64;

/// Spreads lease ids over a table. They are ours and count up, so no attacker can choose colliding ones, and
/// one multiplication is enough.
#[derive(Debug, Default, Clone)]
pub(crate) struct LeaseHasher(u64);

impl Hasher for LeaseHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not used for a `u64`; correct all the same.
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        // 2^64 divided by the golden ratio: https://en.wikipedia.org/wiki/Hash_function#Fibonacci_hashing
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

static NEXT_LEASE: AtomicU64 = AtomicU64::new(1);

/// A lease as its holder sees it.
#[derive(Debug)]
pub struct HeldLease {
    pub(crate) id: LeaseId,
    pub(crate) strategy: Strategy,
    pub(crate) resources: Resources,
    pub(crate) owner: Owner,
    pub(crate) token: u64,
    pub(crate) ttl: Ttl,
    pub(crate) acks: AckPolicy,
    /// Just before it was asked for.
    pub(crate) sent: BootInstant,
    /// Microseconds on the boot clock; only ever moves forward, by acknowledged extensions, until it ends.
    deadline: AtomicU64,
    /// The TTL that set the deadline, in milliseconds.
    current: AtomicU32,
    /// The longest time ever asked for, in milliseconds, which the backend may have given it.
    pub(crate) longest: AtomicU32,
    state: AtomicU8,
    pub(crate) watched: AtomicBool,
    /// Its handle was garbage-collected, and it is renewed all the same.
    pub(crate) dropped: AtomicBool,
    /// Made when it is needed: most leases are neither extended nor renewed, and a service may hold very
    /// many.
    extras: OnceLock<Box<Extras>>,
}

/// What only some leases need.
#[derive(Debug, Default)]
struct Extras {
    /// Held by the extension that is in flight.
    extending: tokio::sync::Mutex<()>,
    /// For leases that are renewed.
    renewal: Option<Renewal>,
    /// For leases that others are kept out for, however soon they are released.
    minimum: Option<Minimum>,
    /// Why it was lost before its deadline.
    lost_because: OnceLock<String>,
}

/// What stays of a lease that is released early.
#[derive(Debug)]
struct Minimum {
    stands_until: BootInstant,
    /// Whether a holder has taken the lease. Until then nothing was done with it, and nothing stays.
    taken: AtomicBool,
}

/// The lease was granted, and is on its way to its holder.
const GRANTED: u8 = 0;
/// Its holder has it. It counts until its deadline.
const HELD: u8 = 1;
/// It is known to be lost.
pub(crate) const LOST: u8 = 2;
/// Its holder released it.
pub(crate) const RELEASED: u8 = 3;

/// What a lease was when it was to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Was {
    /// On its way to its holder, who never had it.
    Granted,
    /// Held.
    Held,
    /// It had ended before.
    Ended,
}

impl HeldLease {
    /// A lease that was just granted.
    pub fn new(
        strategy: Strategy,
        request: &Request,
        grant: &Grant,
        deadline: BootInstant,
        renew: Option<RenewalLimits>,
        stands_until: Option<BootInstant>,
    ) -> Self {
        let extras = (renew.is_some() || stands_until.is_some()).then(|| {
            let minimum =
                stands_until.map(|stands_until| Minimum { stands_until, taken: AtomicBool::new(false) });
            Box::new(Extras { renewal: renew.map(Renewal::new), minimum, ..Extras::default() })
        });
        Self {
            id: NEXT_LEASE.fetch_add(1, Ordering::Relaxed),
            strategy,
            resources: request.resources.clone(),
            owner: request.owner,
            token: grant.token,
            ttl: request.ttl,
            acks: request.acks,
            sent: grant.sent,
            deadline: AtomicU64::new(deadline.as_micros()),
            current: AtomicU32::new(request.ttl.as_millis()),
            longest: AtomicU32::new(request.lasts().as_millis()),
            state: AtomicU8::new(GRANTED),
            watched: AtomicBool::new(false),
            dropped: AtomicBool::new(false),
            extras: extras.map_or_else(OnceLock::new, OnceLock::from),
        }
    }

    /// Serializes extensions: at most one is in flight.
    pub(crate) fn extending(&self) -> &tokio::sync::Mutex<()> {
        &self.extras.get_or_init(Box::default).extending
    }

    /// Its renewal, if it is renewed.
    pub(crate) fn renewal(&self) -> Option<&Renewal> {
        self.extras.get()?.renewal.as_ref()
    }

    /// It is passed to its holder. `false`: too late, because it has expired or is known to be lost, so its
    /// holder never has it. It is renewed only if it is [taken](super::Manager::hold) then: what was lost on
    /// the way must not be kept from others for ever.
    pub fn deliver(&self, now: BootInstant) -> bool {
        if let Some(renewal) = self.renewal() {
            renewal.deliver();
        }
        now < self.deadline() && self.leave(GRANTED, HELD) != Err(LOST)
    }

    /// Its holder has taken it: from now on it is renewed, and its minimum counts.
    pub(crate) fn take(&self) {
        let Some(extras) = self.extras.get() else { return };
        if let Some(renewal) = &extras.renewal {
            renewal.take();
        }
        if let Some(minimum) = &extras.minimum {
            minimum.taken.store(true, Ordering::Release);
        }
    }

    /// Until when others are to be kept out although it is released.
    pub(crate) fn stands_until(&self) -> Option<BootInstant> {
        let minimum = self.extras.get()?.minimum.as_ref()?;
        minimum.taken.load(Ordering::Acquire).then_some(minimum.stands_until)
    }

    /// When it must be assumed lost.
    pub fn deadline(&self) -> BootInstant {
        BootInstant::from_micros(self.deadline.load(Ordering::Acquire))
    }

    /// When its holder is notified that it ends.
    pub fn warning(&self) -> BootInstant {
        let current = Ttl::from_millis(self.current.load(Ordering::Acquire)).unwrap_or(self.ttl);
        self.deadline() - current.margin()
    }

    /// When it should be renewed: a third of the TTL after the request that set the deadline was sent.
    pub(crate) fn due(&self) -> BootInstant {
        self.deadline() + self.ttl.drift() - self.ttl.as_duration() * 2 / 3
    }

    /// What its renewal is decided by.
    pub(crate) fn times(&self) -> Times {
        Times {
            active: self.is_active(),
            granted: self.sent,
            due: self.due(),
            warning: self.warning(),
            ttl: self.ttl,
        }
    }

    /// Moves the deadline after an acknowledged extension by this TTL, sent at this moment. Never shortens
    /// it. At most one at a time.
    pub(crate) fn extend_deadline(&self, sent: BootInstant, ttl: Ttl) {
        let deadline = ttl.deadline(sent).as_micros();
        if self.deadline.fetch_max(deadline, Ordering::AcqRel) < deadline {
            self.current.store(ttl.as_millis(), Ordering::Release);
        }
    }

    /// Moves the deadline back to this moment, because the lease is to end as if its time had passed.
    pub(crate) fn expire(&self, now: BootInstant) {
        self.deadline.fetch_min(now.as_micros(), Ordering::AcqRel);
    }

    /// Whether it was neither lost nor released. Ignores the deadline.
    pub fn is_active(&self) -> bool {
        matches!(self.state.load(Ordering::SeqCst), GRANTED | HELD)
    }

    /// Whether its holder released or dropped it.
    pub(crate) fn is_released(&self) -> bool {
        self.state.load(Ordering::SeqCst) == RELEASED
    }

    /// How much longer it counts.
    pub(crate) fn remaining(&self, now: BootInstant) -> Duration {
        if self.is_active() { now.until(self.deadline()) } else { Duration::ZERO }
    }

    /// How long the lease may last on the backend, counted from now.
    pub(crate) fn longest(&self) -> Ttl {
        Ttl::from_millis(self.longest.load(Ordering::Acquire)).unwrap_or(self.ttl)
    }

    /// Whether its holder may still work, and can release it.
    pub(crate) fn is_awaited(&self, now: BootInstant) -> bool {
        !self.dropped.load(Ordering::SeqCst) && !self.remaining(now).is_zero()
    }

    /// It was lost before its deadline. Returns what it was.
    pub(crate) fn lose(&self, why: &str) -> Was {
        // Before the state changes: who sees that it is lost sees why. The first reason counts.
        let _ = self.extras.get_or_init(Box::default).lost_because.set(why.to_owned());
        self.end(LOST)
    }

    /// Why it ends or has ended, if it was not released. `None` while it counts.
    pub(crate) fn lease_end(&self, now: BootInstant) -> Option<LeaseEnd> {
        if self.is_released() {
            return None;
        }
        if let (false, Some(why)) = (self.is_active(), self.lost_because()) {
            return Some(LeaseEnd::Lost { why });
        }
        (now >= self.warning()).then(|| self.expires())
    }

    /// How it ends if it is not extended any more.
    pub(crate) fn expires(&self) -> LeaseEnd {
        let why = match self.renewal() {
            None => "it was not extended in time".to_owned(),
            Some(renewal) => renewal.obstacle().unwrap_or_else(|| {
                "it was not renewed in time, because this process was stopped, suspended or starved"
                    .to_owned()
            }),
        };
        LeaseEnd::Expires { deadline: self.deadline(), why }
    }

    pub(super) fn lost_because(&self) -> Option<String> {
        self.extras.get()?.lost_because.get().cloned()
    }

    /// Ends, once. Returns what it was.
    pub(crate) fn end(&self, state: u8) -> Was {
        if self.leave(HELD, state).is_ok() {
            return Was::Held;
        }
        match self.leave(GRANTED, state) {
            Ok(_) => Was::Granted,
            // It was delivered in between.
            Err(HELD) if self.leave(HELD, state).is_ok() => Was::Held,
            Err(_) => Was::Ended,
        }
    }

    /// Changes its state, or returns what it is instead.
    fn leave(&self, state: u8, next: u8) -> Result<u8, u8> {
        // Sequentially consistent, like `watched`: when one thread starts watching while another marks the
        // lease lost, one of them sees the other.
        self.state.compare_exchange(state, next, Ordering::SeqCst, Ordering::SeqCst)
    }
}
