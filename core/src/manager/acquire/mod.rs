//! Getting a lease: one attempt, or as many as it takes while another owner has it. A grant counts only if
//! its token is above the caller's high-water mark, and if it arrives before its deadline.

pub(in crate::manager) mod grant;
pub(in crate::manager) mod wait_queue;
pub(in crate::manager) mod wanted;

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use self::wait_queue::{Ticket, WaitQueues};
use self::wanted::Wanted;
use crate::backend::contract::{Attempt, Busy, Grant, LockBackend, Request};
use crate::backend::{Backend, Waiter};
use crate::error::{Error, Result};
use crate::lease::token;
use crate::runtime::backoff::Backoff;
use crate::runtime::clock::Clock;

/// Makes one attempt. A grant that the caller cannot use is released, not returned.
pub async fn attempt(backend: &Backend, clock: &Clock, request: &Request) -> Result<Attempt> {
    let attempt = backend.acquire(request).await?;
    if let Err(error) = check(&attempt, clock, request) {
        release_unused(backend, request.clone()).await;
        return Err(error);
    }
    Ok(attempt)
}

/// Whether the caller can use what this attempt granted, if it did. An error: it is to be released.
pub fn check(attempt: &Attempt, clock: &Clock, request: &Request) -> Result<()> {
    let Attempt::Granted(grant) = attempt else { return Ok(()) };
    if !token::is_valid(grant.token, request.min_token) {
        return Err(Error::unavailable(format!(
            "it granted the token {}, but each has to be above minToken ({}) and below 2^53; the lease was \
             released. Make sure that this is the right server or file, and that nothing between alters its \
             replies",
            grant.token, request.min_token
        )));
    }
    let now = clock.boot();
    if now < request.ttl.deadline(grant.sent) {
        return Ok(());
    }
    Err(Error::lost(format!(
        "the grant took {} ms to arrive, longer than a lease of {} ms may last, so it was released. \
         Use a longer ttlMs, or find what delays the backend, or blocks the event loop",
        grant.sent.until(now).as_millis(),
        request.ttl.as_millis()
    )))
}

/// Releases a grant that no caller will use, at once: nothing was done that its minimum could be for. An
/// error needs no handling: the backend then keeps trying by itself, until the lease's own end at the latest.
/// Boxed, like everything rare: that keeps the futures of common calls small.
pub fn release_unused<'a>(
    backend: &'a Backend,
    request: Request,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    Box::pin(async move {
        let _ = backend.release(&request.resources, request.owner, request.lasts(), None).await;
    })
}

/// The end of a call that did not fail.
#[derive(Debug)]
pub enum Settled {
    /// This attempt was granted, in time.
    Granted(Request, Grant),
    /// Another owner has it.
    Busy(Busy),
}

impl Settled {
    /// From an attempt and what came of it.
    pub fn new(request: Request, attempt: Attempt) -> Self {
        match attempt {
            Attempt::Granted(grant) => Self::Granted(request, grant),
            Attempt::Busy(busy) => Self::Busy(busy),
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

/// Is called when a call begins to wait: its first attempt was not granted, or others were there before it.
pub type OnWait = Box<dyn Fn() + Send + Sync>;

/// A call that waits.
pub struct Wait<'a> {
    backend: &'a Arc<Backend>,
    queues: &'a WaitQueues,
    clock: &'a Clock,
    wanted: &'a Wanted,
    cancellation: Cancellation<'a>,
    /// `None`: forever.
    until: Option<Instant>,
    on_begin: Option<OnWait>,
    /// When it began to wait.
    since: OnceLock<Instant>,
}

impl<'a> Wait<'a> {
    /// Its time starts now.
    pub fn new(
        backend: &'a Arc<Backend>,
        queues: &'a WaitQueues,
        clock: &'a Clock,
        wanted: &'a Wanted,
        cancellation: Cancellation<'a>,
        on_begin: Option<OnWait>,
    ) -> Self {
        let until = Instant::now().checked_add(wanted.wait);
        Self { backend, queues, clock, wanted, cancellation, until, on_begin, since: OnceLock::new() }
    }

    /// How long it has waited; `None` if it did not.
    pub fn waited(&self) -> Option<Duration> {
        self.since.get().map(Instant::elapsed)
    }

    fn begin(&self) {
        let _ = self.since.set(Instant::now());
        if let Some(on_begin) = &self.on_begin {
            on_begin();
        }
    }

    /// Makes attempts until one is granted or fails, or the time is over, and returns the last. A cancelled
    /// call is busy. [`Error::Closed`]: the manager was closed.
    ///
    /// The caller waits, never an attempt: one that was sent is always completed.
    pub async fn run(&self) -> Result<Settled> {
        // Fair callers queue at the backend, each of its own.
        let Wanted { resources, acks, fair, .. } = self.wanted;
        let ticket = (!fair).then(|| self.queues.join(resources, *acks));
        let at_once = ticket.as_ref().is_none_or(Ticket::is_first);
        if let Some(ticket) = ticket.as_ref().filter(|_| !at_once) {
            self.begin();
            match self.pause(ticket.first()).await {
                Pause::Done => {}
                // What stopped the queue's head stopped everyone in it.
                Pause::TimeOver => return ticket.last_outcome().map(Settled::Busy),
                Pause::Cancelled => return Ok(Settled::Busy(Busy::default())),
                Pause::Closed => return Err(Error::Closed),
            }
        }
        let mut last = None;
        if at_once {
            // Mostly it is free, and the backend need not know of a waiter.
            let request = self.wanted.first();
            match attempt(self.backend, self.clock, &request).await {
                Ok(Attempt::Granted(grant)) => return Ok(Settled::Granted(request, grant)),
                Ok(Attempt::Busy(busy)) => last = Some(Ok(busy)),
                // The next primary is a moment away.
                Err(error) if error.is_failover() => last = Some(Err(error)),
                Err(error) => return Err(error),
            }
            self.begin();
            report(ticket.as_ref(), last.clone());
        }
        let waiter = Waiter::new(*fair);
        // A waiter leaves the backend's queue however its wait ends.
        let _leave = scopeguard::guard((), |()| self.leave_queue(&waiter));
        let has_reason = last.is_some();
        match self.join_queue(&waiter, ticket.as_ref(), last).await? {
            Some(settled) => Ok(settled),
            None => self.retry(&waiter, ticket.as_ref(), has_reason).await,
        }
    }

    /// Joins the backend's queue, as soon as a failover is over. `last` is what stopped the first attempt.
    /// Returns the end of a wait that ended before.
    async fn join_queue(
        &self,
        waiter: &Waiter,
        ticket: Option<&Ticket<'_>>,
        mut last: Option<Result<Busy>>,
    ) -> Result<Option<Settled>> {
        let mut backoff = Backoff::REACQUIRE;
        loop {
            let mut joined = Ok(());
            let joining = async {
                joined = self.backend.join_queue(&self.wanted.resources, waiter).await;
                if joined.as_ref().is_err_and(Error::is_failover) {
                    sleep(backoff.next_pause()).await;
                }
            };
            let pause = self.pause(joining).await;
            match joined {
                Ok(()) if matches!(pause, Pause::Done) => return Ok(None),
                Ok(()) => {}
                Err(error) if error.is_failover() => {
                    last = Some(Err(error));
                    report(ticket, last.clone());
                }
                Err(error) => return Err(error),
            }
            match pause {
                Pause::Done => {}
                Pause::TimeOver => {
                    return last.unwrap_or_else(|| Ok(Busy::default())).map(|busy| Some(Settled::Busy(busy)));
                }
                Pause::Cancelled => {
                    return Ok(Some(Settled::Busy(last.and_then(Result::ok).unwrap_or_default())));
                }
                Pause::Closed => return Err(Error::Closed),
            }
        }
    }

    /// Attempts whenever the waiter is woken. `has_reason`: an attempt found another owner, or a failover.
    async fn retry(
        &self,
        waiter: &Waiter,
        ticket: Option<&Ticket<'_>>,
        mut has_reason: bool,
    ) -> Result<Settled> {
        let mut backoff = Backoff::REACQUIRE;
        loop {
            let request = self.wanted.retry(waiter);
            let outcome = attempt(self.backend, self.clock, &request).await;
            let pause = match &outcome {
                Ok(Attempt::Busy(busy)) => {
                    (has_reason, backoff) = (true, Backoff::REACQUIRE);
                    report(ticket, Some(Ok(*busy)));
                    busy.remaining
                }
                // The backend worked a moment ago, and may work again in a moment.
                Err(error) if (has_reason && is_transient(error)) || error.is_failover() => {
                    report(ticket, Some(Err(error.clone())));
                    Some(backoff.next_pause())
                }
                _ => {
                    if outcome.is_ok() {
                        // What stopped the head of the queue no longer stops those behind it.
                        report(ticket, None);
                    }
                    return outcome.map(|attempt| Settled::new(request, attempt));
                }
            };
            match self.pause(woken(waiter, pause)).await {
                Pause::Done => {}
                Pause::TimeOver => return outcome.map(|attempt| Settled::new(request, attempt)),
                Pause::Cancelled => return Ok(Settled::Busy(Busy::default())),
                Pause::Closed => return Err(Error::Closed),
            }
        }
    }

    /// Whatever ends a wait is looked at first: what is waited for may be there every time, and the wait
    /// would never end.
    async fn pause(&self, until_done: impl Future<Output = ()>) -> Pause {
        let time_over = async {
            match self.until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.cancellation.manager.cancelled() => Pause::Closed,
            () = self.cancellation.call.cancelled() => Pause::Cancelled,
            () = time_over => Pause::TimeOver,
            () = until_done => Pause::Done,
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

/// Tells those behind the head of a queue what stopped it, or that nothing does any more.
fn report(ticket: Option<&Ticket<'_>>, outcome: Option<Result<Busy>>) {
    if let Some(ticket) = ticket {
        ticket.report(outcome);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::sqlite::{Config, Durability, SqliteBackend};
    use crate::lease::{AckPolicy, Mode, Owner, Resources, Ttl};

    #[tokio::test]
    async fn a_wait_ends_in_time_even_if_it_is_woken_all_the_time() {
        let path = "/nowhere/locks.sqlite".into();
        let config = Config {
            path,
            durability: Durability::Normal,
            allow_network_filesystem: false,
            mode: None,
            is_relative: false,
        };
        let backend = Arc::new(Backend::Sqlite(SqliteBackend::new(config, Clock::System)));
        let (queues, call, manager) =
            (WaitQueues::default(), CancellationToken::new(), CancellationToken::new());
        let wanted = Wanted {
            resources: Resources::one("r").unwrap(),
            mode: Mode::Exclusive,
            owner: Owner::random(),
            ttl: Ttl::from_millis(1_000).unwrap(),
            min_hold: Duration::ZERO,
            min_token: 0,
            acks: AckPolicy::default(),
            wait: Duration::from_millis(20),
            fair: false,
            renew: None,
        };
        let cancellation = Cancellation { call: &call, manager: &manager };
        let wait = Wait::new(&backend, &queues, &Clock::System, &wanted, cancellation, None);
        let waiter = Waiter::new(false);
        let start = Instant::now();
        let mut attempts = 0_u64;
        let end = loop {
            waiter.wake();
            match wait.pause(woken(&waiter, None)).await {
                Pause::Done if start.elapsed() < Duration::from_secs(5) => attempts += 1,
                end => break end,
            }
            tokio::task::yield_now().await;
        };
        assert!(matches!(end, Pause::TimeOver), "after {attempts} attempts");
        assert!(attempts > 0);
        call.cancel();
        assert!(matches!(wait.pause(async {}).await, Pause::Cancelled));
    }
}
