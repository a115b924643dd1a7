//! Getting a lease, seen from the caller: one attempt, or as many as it takes while somebody else has it. A grant is
//! worth something only if it is still in time and still wanted.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::renewal::policy::Limits;
use super::wait_queue::{Place, WaitQueues};
use crate::backend::contract::{Attempt, Grant, LockBackend, Request};
use crate::backend::{Backend, Waiter};
use crate::error::{Error, Result};
use crate::lease::{AckPolicy, Mode, Owner, Resources, Ttl};
use crate::runtime::cancellation::Cancel;
use crate::runtime::clock::{BootInstant, Clock};

/// Pauses between attempts at a backend that went away while its lease was waited for, each twice the one before.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What a caller asks for.
#[derive(Debug)]
pub struct Wanted {
    /// All of them, or none.
    pub resources: Resources,
    /// What other leases may exist beside it.
    pub mode: Mode,
    /// Of the first attempt.
    pub owner: Owner,
    /// How long the lease lasts.
    pub ttl: Ttl,
    /// The token must be above this.
    pub min_token: u64,
    /// For backends with replicas.
    pub acks: AckPolicy,
    /// How long it is waited for while somebody else has it. Zero: one attempt.
    pub wait: Duration,
    /// Whether it is waited for in turn, across processes.
    pub fair: bool,
    /// Whether the lease is kept alive, and for how long.
    pub renew: Option<Limits>,
}

impl Wanted {
    /// The first attempt.
    pub fn first(&self) -> Request {
        let Self { ref resources, mode, owner, ttl, min_token, acks, .. } = *self;
        Request { resources: resources.clone(), mode, owner, ttl, min_token, acks, waiter: None }
    }

    /// Another attempt, which has an owner of its own.
    fn again(&self) -> Request {
        Request { owner: Owner::random(), ..self.first() }
    }
}

/// What ends a wait before its time.
#[derive(Debug, Clone, Copy)]
pub struct Cancels<'a> {
    /// The caller wants it no more.
    pub call: &'a Cancel,
    /// Nobody will hold anything any more.
    pub manager: &'a Cancel,
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

/// Makes attempts until one is granted, or fails, or the time is over. Answers the last of them. [`Error::Closed`]: the
/// manager was closed; a call that was cancelled is told "busy".
///
/// What waits is the caller, never an attempt: one that was sent is seen to its end.
pub async fn wait(
    backend: &Arc<Backend>,
    queues: &WaitQueues,
    clock: &Clock,
    wanted: &Wanted,
    cancels: Cancels<'_>,
) -> (Request, Result<Outcome>) {
    // `None`: for ever.
    let until = Instant::now().checked_add(wanted.wait);
    let place = (!wanted.fair).then(|| queues.enter(&wanted.resources));
    let at_once = place.as_ref().is_none_or(Place::is_first);
    if let Some(place) = &place {
        match pause(until, cancels, place.first()).await {
            Pause::Passed => {}
            // What the first of the line is told is true for all of it.
            Pause::TimeOver => {
                let outcome = place.trouble().map_or(Ok(Outcome::Busy(None)), Err);
                return (wanted.first(), outcome);
            }
            Pause::Cancelled => return (wanted.first(), Ok(Outcome::Busy(None))),
            Pause::Closed => return (wanted.first(), Err(Error::Closed)),
        }
    }
    let mut was_busy = false;
    if at_once {
        // Mostly it is free, and then nobody need be told of a waiter.
        let request = wanted.first();
        let outcome = attempt(backend, clock, &request).await;
        if !matches!(outcome, Ok(Outcome::Busy(_))) {
            return (request, outcome);
        }
        was_busy = true;
    }
    let waiter = Waiter::new(wanted.fair);
    let _in_line = InLine { backend, resources: &wanted.resources, waiter: &waiter };
    let mut heard = Ok(());
    let join_queue = async { heard = backend.join_queue(&wanted.resources, &waiter).await };
    match pause(until, cancels, join_queue).await {
        Pause::Passed => {}
        Pause::TimeOver | Pause::Cancelled => return (wanted.first(), Ok(Outcome::Busy(None))),
        Pause::Closed => return (wanted.first(), Err(Error::Closed)),
    }
    if let Err(error) = heard {
        return (wanted.first(), Err(error));
    }
    let mut retry = RETRY_PAUSES.0;
    loop {
        let request = Request { waiter: Some(waiter.clone()), ..wanted.again() };
        let outcome = attempt(backend, clock, &request).await;
        let again = match &outcome {
            Ok(Outcome::Busy(left)) => {
                (was_busy, retry) = (true, RETRY_PAUSES.0);
                if let Some(place) = &place {
                    place.tell(None);
                }
                *left
            }
            // It was there a moment ago, and perhaps is again in a moment.
            Err(error) if was_busy && passes(error) => {
                if let Some(place) = &place {
                    place.tell(Some(error.clone()));
                }
                let pause = retry;
                retry = (retry * 2).min(RETRY_PAUSES.1);
                Some(pause)
            }
            _ => {
                // What was in the way of the first is not in the way of those behind it any more.
                if let (Ok(_), Some(place)) = (&outcome, &place) {
                    place.tell(None);
                }
                return (request, outcome);
            }
        };
        match pause(until, cancels, woken(&waiter, again)).await {
            Pause::Passed => {}
            Pause::TimeOver => return (request, outcome),
            Pause::Cancelled => return (request, Ok(Outcome::Busy(None))),
            Pause::Closed => return (request, Err(Error::Closed)),
        }
    }
}

/// Whether an attempt that failed so has left nothing behind, and another one may succeed.
fn passes(error: &Error) -> bool {
    match error {
        Error::BackendUnavailable(_) => true,
        Error::InsufficientReplicas(shortfall) => shortfall.rolled_back,
        _ => false,
    }
}

/// Until another attempt may succeed; after so long at the latest.
async fn woken(waiter: &Waiter, at_most: Option<Duration>) {
    let due = async {
        match at_most {
            Some(at_most) => sleep(at_most).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = waiter.woken() => {}
        () = due => {}
    }
}

/// How a pause ended.
enum Pause {
    Passed,
    TimeOver,
    Cancelled,
    Closed,
}

async fn pause(until: Option<Instant>, cancels: Cancels<'_>, what: impl Future<Output = ()>) -> Pause {
    let in_time = async {
        if let Some(until) = until {
            timeout_at(until, what).await.is_ok()
        } else {
            what.await;
            true
        }
    };
    tokio::select! {
        biased;
        () = cancels.manager.cancelled() => Pause::Closed,
        () = cancels.call.cancelled() => Pause::Cancelled,
        passed = in_time => if passed { Pause::Passed } else { Pause::TimeOver },
    }
}

/// A waiter leaves its line however its wait ends.
struct InLine<'a> {
    backend: &'a Arc<Backend>,
    resources: &'a Resources,
    waiter: &'a Waiter,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let (backend, resources, waiter) =
            (Arc::clone(self.backend), self.resources.clone(), self.waiter.clone());
        // Nobody waits for that. On the backend's thread, as every attempt; without one, its runtime ends and all with it.
        if let Ok(executor) = tokio::runtime::Handle::try_current() {
            executor.spawn(async move { backend.leave_queue(&resources, &waiter).await });
        }
    }
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
