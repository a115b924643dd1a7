//! Getting a lease: one attempt, or as many as it takes while another owner has it. A grant counts only if it
//! arrives before its deadline.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::renewal::policy::RenewalLimits;
use super::wait_queue::{Ticket, WaitQueues};
use crate::backend::contract::{Attempt, Grant, LockBackend, Request};
use crate::backend::{Backend, Waiter};
use crate::error::{Error, Result};
use crate::lease::{AckPolicy, Mode, Owner, Resources, Ttl};
use crate::runtime::backoff::Backoff;
use crate::runtime::clock::Clock;

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
        let Self { ref resources, mode, owner, ttl, min_token, acks, .. } = *self;
        Request { resources: resources.clone(), mode, owner, ttl, min_token, acks, waiter: None }
    }

    /// Another attempt, which has an owner of its own.
    fn retry(&self, waiter: &Waiter) -> Request {
        Request { owner: Owner::random(), waiter: Some(waiter.clone()), ..self.first() }
    }
}

/// Makes one attempt. A grant that arrives past its deadline is released, not returned.
pub async fn attempt(backend: &Backend, clock: &Clock, request: &Request) -> Result<Attempt> {
    let attempt = check_deadline(backend.acquire(request).await, clock, request);
    if matches!(attempt, Err(Error::LockLost(_))) {
        release_unused(backend, request.clone()).await;
    }
    attempt
}

/// Passes an attempt on unless its grant arrived past the deadline. [`Error::LockLost`]: it did, and is to be
/// released.
pub fn check_deadline(attempt: Result<Attempt>, clock: &Clock, request: &Request) -> Result<Attempt> {
    let attempt = attempt?;
    let Attempt::Granted(grant) = &attempt else { return Ok(attempt) };
    let now = clock.boot();
    if now < request.ttl.deadline(grant.sent) {
        return Ok(attempt);
    }
    Err(Error::lost(format!(
        "the grant took {} ms to arrive, longer than a lease of {} ms may last, so it was released. \
         Use a longer ttlMs, or find what delays the backend",
        grant.sent.until(now).as_millis(),
        request.ttl.as_millis()
    )))
}

/// Releases a grant that no caller will use. An error needs no handling: the backend then keeps trying by
/// itself, until the lease's own end at the latest. Boxed, like everything rare: that keeps the futures of
/// common calls small.
pub fn release_unused<'a>(
    backend: &'a Backend,
    request: Request,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    Box::pin(async move {
        let _ = backend.release(&request.resources, request.owner, request.ttl).await;
    })
}

/// The end of a call that did not fail.
#[derive(Debug)]
pub enum Settled {
    /// This attempt was granted, in time.
    Granted(Request, Grant),
    /// Another owner has it, for this much longer if the backend can tell.
    Busy(Option<Duration>),
}

impl Settled {
    /// From an attempt and what came of it.
    pub fn new(request: Request, attempt: Attempt) -> Self {
        match attempt {
            Attempt::Granted(grant) => Self::Granted(request, grant),
            Attempt::Busy(remaining) => Self::Busy(remaining),
        }
    }
}

/// What ends a wait early.
#[derive(Debug, Clone, Copy)]
pub struct Cancellation<'a> {
    /// The caller aborted it.
    pub call: &'a CancellationToken,
    /// The manager was closed.
    pub manager: &'a CancellationToken,
}

/// A call that waits.
pub struct Wait<'a> {
    backend: &'a Arc<Backend>,
    queues: &'a WaitQueues,
    clock: &'a Clock,
    wanted: &'a Wanted,
    cancellation: Cancellation<'a>,
    /// `None`: forever.
    until: Option<Instant>,
}

impl<'a> Wait<'a> {
    /// Its time starts now.
    pub fn new(
        backend: &'a Arc<Backend>,
        queues: &'a WaitQueues,
        clock: &'a Clock,
        wanted: &'a Wanted,
        cancellation: Cancellation<'a>,
    ) -> Self {
        let until = Instant::now().checked_add(wanted.wait);
        Self { backend, queues, clock, wanted, cancellation, until }
    }

    /// Makes attempts until one is granted or fails, or the time is over, and returns the last. A cancelled
    /// call is busy. [`Error::Closed`]: the manager was closed.
    ///
    /// The caller waits, never an attempt: one that was sent is always completed.
    pub async fn run(self) -> Result<Settled> {
        // Fair callers queue at the backend, each of its own.
        let ticket = (!self.wanted.fair).then(|| self.queues.join(&self.wanted.resources));
        let at_once = ticket.as_ref().is_none_or(Ticket::is_first);
        if let Some(ticket) = &ticket {
            match self.pause(ticket.first()).await {
                Pause::Done => {}
                // The error of the queue's head holds for everyone in it.
                Pause::TimeOver => return ticket.last_error().map_or(Ok(Settled::Busy(None)), Err),
                Pause::Cancelled => return Ok(Settled::Busy(None)),
                Pause::Closed => return Err(Error::Closed),
            }
        }
        let mut was_busy = false;
        if at_once {
            // Mostly it is free, and the backend need not know of a waiter.
            let request = self.wanted.first();
            match attempt(self.backend, self.clock, &request).await? {
                Attempt::Granted(grant) => return Ok(Settled::Granted(request, grant)),
                Attempt::Busy(_) => was_busy = true,
            }
        }
        let waiter = Waiter::new(self.wanted.fair);
        // A waiter leaves the backend's queue however its wait ends.
        let _leave = scopeguard::guard((), |()| self.leave_queue(&waiter));
        let mut joined = Ok(());
        match self
            .pause(async { joined = self.backend.join_queue(&self.wanted.resources, &waiter).await })
            .await
        {
            Pause::Done => joined?,
            Pause::TimeOver | Pause::Cancelled => return Ok(Settled::Busy(None)),
            Pause::Closed => return Err(Error::Closed),
        }
        self.retry(&waiter, ticket.as_ref(), was_busy).await
    }

    /// Attempts whenever the waiter is woken.
    async fn retry(
        &self,
        waiter: &Waiter,
        ticket: Option<&Ticket<'_>>,
        mut was_busy: bool,
    ) -> Result<Settled> {
        let report = |error| {
            if let Some(ticket) = ticket {
                ticket.set_error(error);
            }
        };
        let mut backoff = Backoff::REACQUIRE;
        loop {
            let request = self.wanted.retry(waiter);
            let outcome = attempt(self.backend, self.clock, &request).await;
            let pause = match &outcome {
                Ok(Attempt::Busy(remaining)) => {
                    (was_busy, backoff) = (true, Backoff::REACQUIRE);
                    report(None);
                    *remaining
                }
                // The backend worked a moment ago, and may work again in a moment.
                Err(error) if was_busy && is_transient(error) => {
                    report(Some(error.clone()));
                    Some(backoff.next_pause())
                }
                _ => {
                    if outcome.is_ok() {
                        // What stopped the head of the queue no longer stops those behind it.
                        report(None);
                    }
                    return outcome.map(|attempt| Settled::new(request, attempt));
                }
            };
            match self.pause(woken(waiter, pause)).await {
                Pause::Done => {}
                Pause::TimeOver => return outcome.map(|attempt| Settled::new(request, attempt)),
                Pause::Cancelled => return Ok(Settled::Busy(None)),
                Pause::Closed => return Err(Error::Closed),
            }
        }
    }

    async fn pause(&self, until_done: impl Future<Output = ()>) -> Pause {
        let in_time = async {
            if let Some(until) = self.until {
                timeout_at(until, until_done).await.is_ok()
            } else {
                until_done.await;
                true
            }
        };
        tokio::select! {
            biased;
            () = self.cancellation.manager.cancelled() => Pause::Closed,
            () = self.cancellation.call.cancelled() => Pause::Cancelled,
            done = in_time => if done { Pause::Done } else { Pause::TimeOver },
        }
    }

    fn leave_queue(&self, waiter: &Waiter) {
        let (backend, resources, waiter) =
            (Arc::clone(self.backend), self.wanted.resources.clone(), waiter.clone());
        // Not awaited. On the backend's thread, like every attempt; without a runtime its thread is ending
        // anyway.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { backend.leave_queue(&resources, &waiter).await });
        }
    }
}

/// How a pause ended.
enum Pause {
    Done,
    TimeOver,
    Cancelled,
    Closed,
}

/// Whether an attempt that failed with this error left nothing behind, and another one may succeed.
fn is_transient(error: &Error) -> bool {
    match error {
        Error::BackendUnavailable(_) => true,
        Error::InsufficientReplicas(shortfall) => shortfall.rolled_back,
        _ => false,
    }
}

/// Returns when another attempt may succeed: once the waiter is woken, or after this long, within reason.
async fn woken(waiter: &Waiter, at_most: Option<Duration>) {
    let due = async {
        match at_most {
            Some(at_most) => sleep(at_most.max(waiter.shortest_pause())).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = waiter.woken() => {}
        () = due => {}
    }
}
