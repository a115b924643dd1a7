//! A lease as its holder sees it: until when it counts, and whether it still does.

use std::hash::Hasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::renewal::policy::{Limits, Renewal};
use crate::backend::contract::Request;
use crate::lease::{AckPolicy, Owner, Resources, Strategy, Ttl};
use crate::runtime::clock::BootInstant;

/// Names one lease of this process; never reused.
pub type LeaseId = u64;

/// Spreads lease ids over a table. They are ours and count up, so nobody can make them collide, and one multiplication does.
#[derive(Debug, Default, Clone)]
pub(crate) struct LeaseHasher(u64);

impl Hasher for LeaseHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("a lease id is a u64");
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
    pub(crate) ttl: Ttl,
    pub(crate) acks: AckPolicy,
    /// The moment before it was asked for.
    pub(crate) sent: BootInstant,
    /// Microseconds on the boot clock; only ever moves forward, by acknowledged extensions.
    deadline: AtomicU64,
    /// The TTL that set the deadline, in milliseconds.
    current: AtomicU32,
    /// The longest TTL ever asked for, in milliseconds, which the backend may have given it.
    pub(crate) longest: AtomicU32,
    state: AtomicU8,
    pub(crate) watched: AtomicBool,
    /// Made when it is needed: most leases are neither extended nor kept alive, and a service may hold very many.
    more: OnceLock<Box<More>>,
}

/// What only some leases need.
#[derive(Debug, Default)]
struct More {
    /// One extension at a time.
    extending: tokio::sync::Mutex<()>,
    /// For leases that are kept alive.
    renewal: Option<Renewal>,
}

/// The lease counts until its deadline.
const HELD: u8 = 0;
/// It is known to be gone.
pub(crate) const LOST: u8 = 1;
/// Its holder gave it back.
pub(crate) const RELEASED: u8 = 2;

impl HeldLease {
    /// A lease that was just granted.
    pub fn new(
        strategy: Strategy,
        request: &Request,
        sent: BootInstant,
        deadline: BootInstant,
        renew: Option<Limits>,
    ) -> Self {
        let more =
            renew.map(|limits| Box::new(More { renewal: Some(Renewal::new(limits)), ..More::default() }));
        Self {
            id: NEXT_LEASE.fetch_add(1, Ordering::Relaxed),
            strategy,
            resources: request.resources.clone(),
            owner: request.owner,
            ttl: request.ttl,
            acks: request.acks,
            sent,
            deadline: AtomicU64::new(deadline.as_micros()),
            current: AtomicU32::new(request.ttl.as_millis()),
            longest: AtomicU32::new(request.ttl.as_millis()),
            state: AtomicU8::new(HELD),
            watched: AtomicBool::new(false),
            more: more.map_or_else(OnceLock::new, OnceLock::from),
        }
    }

    /// What it takes to extend it: one extension at a time.
    pub(crate) fn extending(&self) -> &tokio::sync::Mutex<()> {
        &self.more.get_or_init(Box::default).extending
    }

    /// For leases that are kept alive.
    pub(crate) fn renewal(&self) -> Option<&Renewal> {
        self.more.get()?.renewal.as_ref()
    }

    /// When it must be assumed lost.
    pub fn deadline(&self) -> BootInstant {
        BootInstant::from_micros(self.deadline.load(Ordering::Acquire))
    }

    /// When its holder is to be told of the end.
    pub fn warning(&self) -> BootInstant {
        let current = Ttl::from_millis(self.current.load(Ordering::Acquire)).unwrap_or(self.ttl);
        self.deadline() - current.margin()
    }

    /// When it is to be renewed: at a third of the TTL after what set the deadline was sent.
    pub(crate) fn due(&self) -> BootInstant {
        self.deadline() + self.ttl.drift() - self.ttl.as_duration() * 2 / 3
    }

    /// An extension by this TTL, asked for at this moment, was acknowledged. Never shortens; one at a time.
    pub(crate) fn extend_deadline(&self, sent: BootInstant, ttl: Ttl) {
        let deadline = ttl.deadline(sent).as_micros();
        if self.deadline.fetch_max(deadline, Ordering::AcqRel) < deadline {
            self.current.store(ttl.as_millis(), Ordering::Release);
        }
    }

    /// Whether it was neither lost nor released. The deadline is not looked at.
    pub fn is_active(&self) -> bool {
        self.state.load(Ordering::SeqCst) == HELD
    }

    /// Whether its holder gave it back, or is gone.
    pub(crate) fn let_go(&self) -> bool {
        self.state.load(Ordering::SeqCst) == RELEASED
    }

    /// For how much longer it counts.
    pub(crate) fn remaining(&self, now: BootInstant) -> Duration {
        if self.is_active() { now.until(self.deadline()) } else { Duration::ZERO }
    }

    /// For how long the backend may think that the lease lasts, counted from now.
    pub(crate) fn longest(&self) -> Ttl {
        Ttl::from_millis(self.longest.load(Ordering::Acquire)).unwrap_or(self.ttl)
    }

    /// Leaves the state HELD, once: answers whether this call did it.
    pub(crate) fn end(&self, state: u8) -> bool {
        // Sequentially consistent, like `watched`: of a watcher and a loser at the same time one must see the other.
        self.state.compare_exchange(HELD, state, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}
