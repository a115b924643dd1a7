//! What a call that acquires asks for.

use std::time::Duration;

use crate::backend::Waiter;
use crate::backend::contract::Request;
use crate::lease::{AckPolicy, Mode, Owner, Resources, Ttl};
use crate::manager::renewal::policy::RenewalLimits;

/// What a caller asks for.
#[derive(Debug)]
pub struct Wanted {
    /// All of them, or none.
    pub resources: Resources,
    /// What other leases may exist on them at the same time.
    pub mode: Mode,
    /// The owner of the first attempt.
    pub owner: Owner,
    /// How long the lease lasts.
    pub ttl: Ttl,
    /// How long others are kept out at least, however soon it is released; zero for no minimum.
    pub min_hold: Duration,
    /// The token must be above this; 0 for no demand.
    pub min_token: u64,
    /// What proves the grant, for backends with replicas.
    pub acks: AckPolicy,
    /// How long to wait while another owner has it. Zero: one attempt.
    pub wait: Duration,
    /// First come, first served, across processes.
    pub fair: bool,
    /// How long the lease is renewed; `None`: not at all.
    pub renew: Option<RenewalLimits>,
}

impl Wanted {
    /// The first attempt.
    pub fn first(&self) -> Request {
        let Self { ref resources, mode, owner, ttl, min_hold, min_token, acks, .. } = *self;
        let resources = resources.clone();
        Request { resources, mode, owner, ttl, min_hold, min_token, acks, waiter: None }
    }

    /// Another attempt, which has an owner of its own.
    pub(in crate::manager) fn retry(&self, waiter: &Waiter) -> Request {
        Request { owner: self.owner.another(), waiter: Some(waiter.clone()), ..self.first() }
    }
}
