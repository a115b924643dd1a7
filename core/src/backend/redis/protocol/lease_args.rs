//! What a script gets for one lease, and how many leases go into one call.

use std::time::Duration;

use crate::backend::contract::Request;
use crate::backend::waiter::Waiter;
use crate::lease::token::FENCE_TTL_MS;
use crate::lease::{Mode, Owner, Resources, Ttl};

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
}

impl LeaseArgs {
    pub fn acquire(request: &Request) -> Self {
        // The only mode that the scripts have.
        let Request { resources, mode: Mode::Exclusive, owner, ttl, min_token, waiter, .. } = request;
        let numbers = [ttl.as_millis().into(), *min_token, fence_ms(*ttl)];
        Self { resources: resources.clone(), owner: *owner, numbers, waiter: waiter.clone() }
    }

    pub fn extend(resources: &Resources, owner: Owner, ttl: Ttl) -> Self {
        let numbers = [ttl.as_millis().into(), fence_ms(ttl), 0];
        Self { resources: resources.clone(), owner, numbers, waiter: None }
    }

    pub fn release(resources: &Resources, owner: Owner) -> Self {
        Self { resources: resources.clone(), owner, numbers: [0; 3], waiter: None }
    }

    /// The TTL of a grant or an extension.
    pub const fn ttl(&self) -> Duration {
        Duration::from_millis(self.numbers[0])
    }

    /// The resources.
    pub const fn resources(&self) -> &Resources {
        &self.resources
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

/// How long a fence is kept for a lease of this TTL, unless its token is ahead of the clock.
const fn fence_ms(ttl: Ttl) -> u64 {
    FENCE_TTL_MS + ttl.as_millis() as u64
}

/// The number of leases for each call. `separately`: one lease a call.
pub(crate) fn call_sizes<'a>(leases: impl Iterator<Item = &'a LeaseArgs>, separately: bool) -> Vec<usize> {
    let most = if separately { 1 } else { MAX_LEASES };
    let (mut calls, mut names) = (Vec::new(), 0);
    for lease in leases {
        match calls.last_mut() {
            Some(size) if *size < most && names + lease.names() <= MAX_NAMES => {
                *size += 1;
                names += lease.names();
            }
            _ => {
                calls.push(1);
                names = lease.names();
            }
        }
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
        let sizes = |names: &[usize], separately| {
            let leases: Vec<_> = names.iter().map(|&names| lease(names)).collect();
            call_sizes(leases.iter(), separately)
        };
        assert_eq!(sizes(&[1; 130], false), [64, 64, 2]);
        assert_eq!(sizes(&[60, 60, 60, 1_000, 1, 1], false), [2, 1, 1, 2]);
        assert_eq!(sizes(&[1, 1], true), [1, 1]);
        assert_eq!(sizes(&[], false), [0; 0]);
    }
}
