//! What a script gets for one lease, and how many leases go into one call.

use std::time::Duration;

use crate::backend::contract::Request;
use crate::backend::redis::config::slot::slot_of;
use crate::backend::waiter::Waiter;
use crate::lease::token::FENCE_TTL_MS;
use crate::lease::{Mode, Owner, Resources, Ttl};
use crate::runtime::clock::BootInstant;

/// The most leases in one call, and the most resource names of all of them together unless it is a single
/// lease. They bound the time a script blocks the server to about a millisecond.
pub(crate) const MAX_LEASES: usize = 64;
const MAX_NAMES: usize = 128;

/// The arguments of a script for one lease.
#[derive(Debug, Clone)]
pub(crate) struct LeaseArgs {
    pub(super) resources: Resources,
    pub(super) owner: Owner,
    pub(super) numbers: [u64; 3],
    pub(super) waiter: Option<Waiter>,
    /// The owner whom an adoption takes the lease over from. Boxed, because it is rare.
    pub(super) from: Option<Box<Owner>>,
    /// The node serves it only because it is asked to: its slot is moving there.
    pub asking: bool,
}

impl LeaseArgs {
    pub fn acquire(request: &Request) -> Self {
        // The only mode that the scripts have.
        let Request { resources, mode: Mode::Exclusive, owner, min_token, waiter, .. } = request;
        let lasts = request.lasts();
        let numbers = [lasts.as_millis().into(), *min_token, fence_ms(lasts)];
        let (resources, waiter) = (resources.clone(), waiter.clone());
        Self { resources, owner: *owner, numbers, waiter, from: None, asking: false }
    }

    /// Of a request that takes the lease over from this owner.
    pub fn adopt(request: &Request, from: Owner, asking: bool) -> Self {
        Self { from: Some(Box::new(from)), asking, ..Self::acquire(request) }
    }

    pub fn extend(resources: &Resources, owner: Owner, ttl: Ttl) -> Self {
        let numbers = [ttl.as_millis().into(), fence_ms(ttl), 0];
        Self { resources: resources.clone(), owner, numbers, waiter: None, from: None, asking: false }
    }

    pub fn release(resources: &Resources, owner: Owner) -> Self {
        Self { resources: resources.clone(), owner, numbers: [0; 3], waiter: None, from: None, asking: false }
    }

    /// Of a release that leaves this standing.
    pub fn leave_rest(resources: &Resources, owner: Owner, rest: Rest) -> Self {
        Self { numbers: [rest.0, 0, 0], ..Self::release(resources, owner) }
    }

    /// The TTL of a grant or an extension.
    pub const fn ttl(&self) -> Duration {
        Duration::from_millis(self.numbers[0])
    }

    /// The resources.
    pub const fn resources(&self) -> &Resources {
        &self.resources
    }

    pub const fn owner(&self) -> Owner {
        self.owner
    }

    /// The slot of its resources.
    pub fn slot(&self) -> u16 {
        slot_of(self.resources.first())
    }

    /// The number of resources.
    pub fn names(&self) -> usize {
        self.resources.as_slice().len()
    }

    /// Whether they differ in names, owner and waiter only.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.names() == other.names()
            && self.numbers == other.numbers
            && self.waiter.is_some() == other.waiter.is_some()
    }
}

/// What is left of the minimum of a lease that is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rest(u64);

impl Rest {
    /// What is left until this moment; `None` if nothing is.
    pub fn until(stands_until: Option<BootInstant>, now: BootInstant) -> Option<Self> {
        let rest = now.until(stands_until?);
        // Rounded up, because it must not end too early.
        (!rest.is_zero()).then(|| Self(rest.as_micros().div_ceil(1_000) as u64))
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

/// How long a fence is kept for a lease of this TTL, unless its token is ahead of the clock.
pub(crate) const fn fence_ms(ttl: Ttl) -> u64 {
    FENCE_TTL_MS + ttl.as_millis() as u64
}

/// Which leases may share a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grouping {
    All,
    /// Those of one slot of a cluster.
    BySlot,
    None,
}

/// The number of leases for each call.
pub(crate) fn call_sizes<'a>(leases: impl Iterator<Item = &'a LeaseArgs>, grouping: Grouping) -> Vec<usize> {
    let most = if grouping == Grouping::None { 1 } else { MAX_LEASES };
    let (mut calls, mut names, mut last_slot) = (Vec::new(), 0, None);
    for lease in leases {
        let slot = (grouping == Grouping::BySlot).then(|| lease.slot());
        let fits = slot == last_slot && !lease.asking && names + lease.names() <= MAX_NAMES;
        match calls.last_mut() {
            Some(size) if *size < most && fits => {
                *size += 1;
                names += lease.names();
            }
            _ => {
                calls.push(1);
                names = lease.names();
            }
        }
        // The next one begins another call.
        last_slot = if lease.asking { Some(u16::MAX) } else { slot };
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_bounded_by_leases_and_by_names() {
        let lease = |names: usize| {
            let names = (0..names).map(|name| name.to_string()).collect();
            LeaseArgs::release(&Resources::many(names).unwrap(), Owner::from_bytes([0; 16]))
        };
        let sizes = |names: &[usize], grouping| {
            let leases: Vec<_> = names.iter().map(|&names| lease(names)).collect();
            call_sizes(leases.iter(), grouping)
        };
        assert_eq!(sizes(&[1; 130], Grouping::All), [64, 64, 2]);
        assert_eq!(sizes(&[60, 60, 60, 1_000, 1, 1], Grouping::All), [2, 1, 1, 2]);
        assert_eq!(sizes(&[1, 1], Grouping::None), [1, 1]);
        assert_eq!(sizes(&[], Grouping::All), [0; 0]);
    }

    #[test]
    fn leases_of_several_slots_share_no_call() {
        let lease =
            |name: &str| LeaseArgs::release(&Resources::one(name).unwrap(), Owner::from_bytes([0; 16]));
        let leases = ["{a}1", "{a}2", "{b}1", "{a}3"].map(lease);
        assert_eq!(call_sizes(leases.iter(), Grouping::BySlot), [2, 1, 1]);
        assert_eq!(call_sizes(leases.iter(), Grouping::All), [4]);
        let mut leases = ["{a}1", "{a}2", "{a}3", "{a}4"].map(lease);
        leases[1].asking = true;
        leases[2].asking = true;
        assert_eq!(call_sizes(leases.iter(), Grouping::BySlot), [1, 1, 1, 1]);
    }
}
