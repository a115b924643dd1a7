//! One attempt to get a lease, seen from the caller: a grant is worth something only if it is still in time and
//! still wanted.

use std::time::Duration;

use crate::backend::{AckPolicy, Attempt, Backend, Grant, Request};
use crate::clock::{BootInstant, Clock};
use crate::error::{Error, Result};
use crate::lease::{Owner, Resources, Ttl};
use crate::renew::Limits;

/// What a caller asks for.
#[derive(Debug)]
pub struct Wanted {
    /// All of them, or none.
    pub resources: Resources,
    /// How long the lease lasts.
    pub ttl: Ttl,
    /// The token must be above this.
    pub min_token: u64,
    /// For backends with replicas.
    pub acks: AckPolicy,
    /// Whether the lease is kept alive, and for how long.
    pub renew: Option<Limits>,
}

impl Wanted {
    /// A new attempt, which has an owner of its own. That asks the operating system for randomness, which is best done off
    /// JavaScript's thread.
    pub fn attempt(&self) -> Request {
        let Self { ref resources, ttl, min_token, acks, .. } = *self;
        Request { resources: resources.clone(), owner: Owner::random(), ttl, min_token, acks }
    }
}

/// What the caller of one attempt gets.
#[derive(Debug)]
pub enum Outcome {
    /// The lease is ours until `deadline` at least.
    Granted {
        /// The backend's proof.
        grant: Grant,
        /// When it must be assumed lost.
        deadline: BootInstant,
    },
    /// Somebody else has it, for this much longer if the backend can tell.
    Busy(Option<Duration>),
}

/// Makes one attempt. A grant that arrives past its deadline is released, not returned.
pub async fn attempt(backend: &Backend, clock: &Clock, request: &Request) -> Result<Outcome> {
    let outcome = judge(backend.acquire(request).await, clock, request);
    if matches!(outcome, Err(Error::LockLost(_))) {
        give_back(backend, request).await;
    }
    outcome
}

/// What a backend's answer is worth by now. [`Error::LockLost`]: there was a grant, which came past its deadline and is
/// to be released.
pub fn judge(answer: Result<Attempt>, clock: &Clock, request: &Request) -> Result<Outcome> {
    let grant = match answer? {
        Attempt::Busy(remaining) => return Ok(Outcome::Busy(remaining)),
        Attempt::Granted(grant) => grant,
    };
    let deadline = request.ttl.deadline(grant.sent);
    let now = clock.boot();
    if now < deadline {
        return Ok(Outcome::Granted { grant, deadline });
    }
    Err(Error::lost(format!(
        "the grant took {} ms to arrive, longer than a lease of {} ms may last, so it was released; \
         ask for a longer ttlMs, or find what delays the backend",
        grant.sent.until(now).as_millis(),
        request.ttl.as_millis()
    )))
}

/// Releases a grant nobody will use. An error needs no handling here: the backend then goes on by itself, until the
/// lease's own end at the latest.
pub async fn give_back(backend: &Backend, request: &Request) {
    // Boxed, as all rare ways: the futures of the usual one are smaller for it.
    let _ = Box::pin(backend.release(&request.resources, request.owner, request.ttl)).await;
}
