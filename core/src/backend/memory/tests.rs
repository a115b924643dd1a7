//! The contract of every backend, step by step. Nothing takes time, so no call has to be awaited.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::MemoryBackend;
use crate::backend::Waiter;
use crate::backend::contract::{Attempt, Busy, Info, LockBackend, Request, SyncBackend};
use crate::error::Result;
use crate::lease::{AckPolicy, Mode, Owner, Resources, Ttl, token};
use crate::runtime::clock::BootInstant;
use crate::runtime::clock::fake::FakeClock;

/// A backend with a clock that stands still.
struct Subject {
    clock: Arc<FakeClock>,
    backend: MemoryBackend,
}

fn now<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("it is done when it returns")
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn request(names: &[&str], ttl_ms: u32) -> Request {
    Request {
        resources: Resources::many(names.iter().map(ToString::to_string).collect()).unwrap(),
        mode: Mode::Exclusive,
        owner: Owner::random(),
        ttl: Ttl::from_millis(ttl_ms).unwrap(),
        min_hold: Duration::ZERO,
        min_token: 0,
        acks: AckPolicy::default(),
        waiter: None,
    }
}

impl Subject {
    fn new() -> Self {
        let clock = FakeClock::new();
        Self { backend: MemoryBackend::new(clock.clock()), clock }
    }

    fn attempt(&self, request: &Request) -> Result<Attempt> {
        now(self.backend.acquire(request))
    }

    /// The request, and the token of its grant.
    fn acquire(&self, names: &[&str], ttl_ms: u32) -> (Request, u64) {
        let request = request(names, ttl_ms);
        let token = self.granted(&request);
        (request, token)
    }

    fn granted(&self, request: &Request) -> u64 {
        match self.attempt(request).unwrap() {
            Attempt::Granted(grant) => grant.token,
            Attempt::Busy(busy) => panic!("not granted: {busy:?}"),
        }
    }

    fn busy(&self, request: &Request) -> Busy {
        match self.attempt(request).unwrap() {
            Attempt::Busy(busy) => busy,
            Attempt::Granted(grant) => panic!("it was free: {grant:?}"),
        }
    }

    fn is_free(&self, name: &str) -> bool {
        now(self.backend.inspect(name)).unwrap().is_none()
    }

    fn release(&self, lease: &Request) -> bool {
        now(self.backend.release(&lease.resources, lease.owner, lease.ttl, None)).unwrap()
    }

    fn extend(&self, lease: &Request, ttl_ms: u32) -> Result<BootInstant> {
        let ttl = Ttl::from_millis(ttl_ms).unwrap();
        now(self.backend.extend(&lease.resources, lease.owner, ttl, AckPolicy::default()))
    }

    /// Joins the queue and attempts once, as the manager does.
    fn waiting(&self, names: &[&str], fair: bool) -> (Request, Busy) {
        let waiter = Waiter::new(fair);
        let request = Request { waiter: Some(waiter.clone()), ..request(names, 60_000) };
        now(self.backend.join_queue(&request.resources, &waiter)).unwrap();
        let busy = self.busy(&request);
        (request, busy)
    }

    fn leave(&self, waiting: &Request) {
        now(self.backend.leave_queue(&waiting.resources, waiting.waiter.as_ref().unwrap()));
    }

    fn rows(&self) -> usize {
        self.backend.step(|store| store.len())
    }
}

/// Whether this waiter was woken since this was asked last.
fn was_woken(waiting: &Request) -> bool {
    waiting.waiter.as_ref().unwrap().woken().now_or_never().is_some()
}

#[test]
fn while_one_owner_holds_all_others_are_busy() {
    let subject = Subject::new();
    let (first, token) = subject.acquire(&["r"], 10_000);
    subject.clock.advance(millis(4_000));
    let busy = Busy { resource: 0, remaining: Some(millis(6_000)) };
    assert_eq!(subject.busy(&request(&["r"], 1_000)), busy);
    assert_eq!(subject.backend.acquire_sync(&request(&["r"], 1_000)), Ok(Attempt::Busy(busy)));
    let info = Info { owner: first.owner.to_string(), token, remaining: millis(6_000), waiters: 0 };
    assert_eq!(now(subject.backend.inspect("r")), Ok(Some(info)));

    assert!(subject.release(&first));
    assert!(!subject.release(&first), "it is no longer ours");
    assert!(subject.is_free("r"));
    let (second, higher) = subject.acquire(&["r"], 10_000);
    assert!(higher > token);
    assert!(!subject.release(&first), "nor may it end the lease of another owner");
    assert!(!subject.is_free("r"));
    assert_eq!(subject.backend.release_sync(&second.resources, second.owner, None), Ok(true));
    assert!(subject.is_free("r"));
}

#[test]
fn a_lease_ends_with_its_ttl_by_the_boot_clock() {
    let subject = Subject::new();
    let (lease, _) = subject.acquire(&["r"], 1_000);
    subject.clock.step_wall(3_600_000_000);
    subject.clock.advance(millis(999));
    assert_eq!(subject.busy(&request(&["r"], 1_000)).remaining, Some(millis(1)));
    subject.clock.advance(millis(1));
    assert!(subject.is_free("r"));
    assert_eq!(subject.extend(&lease, 1_000).unwrap_err().code(), "LOCK_LOST", "it is not revived");
    assert!(!subject.release(&lease), "it ended before it was released");
    subject.acquire(&["r"], 1_000);
}

#[test]
fn tokens_rise_above_the_last_one_the_clock_and_the_minimum() {
    let subject = Subject::new();
    let (lease, first) = subject.acquire(&["r"], 1_000);
    assert_eq!(first, subject.clock.clock().wall_micros());
    subject.release(&lease);
    let (lease, second) = subject.acquire(&["r"], 1_000);
    assert_eq!(second, first + 1, "no time has passed");
    subject.release(&lease);
    subject.clock.step_wall(-3_600_000_000);
    let (lease, third) = subject.acquire(&["r"], 1_000);
    assert_eq!(third, first + 2, "the wall clock went back");
    subject.release(&lease);
    subject.clock.step_wall(7_200_000_000);
    let (lease, fourth) = subject.acquire(&["r"], 1_000);
    assert_eq!(fourth, subject.clock.clock().wall_micros());
    subject.release(&lease);
    let minimum = Request { min_token: fourth + 1_000_000, ..request(&["r"], 1_000) };
    assert_eq!(subject.granted(&minimum), fourth + 1_000_001);
    subject.release(&minimum);
    assert_eq!(subject.acquire(&["r", "s"], 1_000).1, fourth + 1_000_002, "one token for all of them");
    assert_eq!(subject.acquire(&["t"], 1_000).1, fourth, "other resources have tokens of their own");
}

#[test]
fn a_forgotten_resource_has_no_lower_token_although_the_clock_went_back() {
    let subject = Subject::new();
    let (lease, first) = subject.acquire(&["r"], 1_000);
    subject.clock.advance(millis(5));
    subject.release(&lease);
    assert_eq!(subject.rows(), 0, "it is forgotten");
    subject.clock.step_wall(-3_600_000_000);
    assert!(subject.acquire(&["r"], 1_000).1 > first);
}

#[test]
fn nothing_is_granted_without_a_token_above_the_last_one() {
    let subject = Subject::new();
    let highest = token::TOKEN_LIMIT - 1;
    let last = Request { min_token: highest - 1, ..request(&["r"], 1_000) };
    assert_eq!(subject.granted(&last), highest);
    assert!(
        subject.busy(&request(&["r"], 1_000)).remaining.is_some(),
        "a held lock is busy, whatever its token"
    );
    subject.release(&last);
    for names in [&["r"][..], &["s", "r"]] {
        let error = subject.attempt(&request(names, 1_000)).unwrap_err();
        assert_eq!(error.code(), "BACKEND_UNAVAILABLE");
        assert!(error.to_string().contains("tokens cannot rise"), "{error}");
    }
    assert!(subject.is_free("s"), "nothing was granted");
    subject.clock.step_wall(1 << 53);
    let error = subject.attempt(&request(&["t"], 1_000)).unwrap_err();
    assert!(error.to_string().contains("clock"), "{error}");
}

#[test]
fn several_resources_are_granted_together_or_not_at_all() {
    let subject = Subject::new();
    let (held, _) = subject.acquire(&["b"], 5_000);
    subject.acquire(&["c"], 9_000);
    let all = request(&["a", "b", "c"], 1_000);
    assert_eq!(subject.busy(&all), Busy { resource: 2, remaining: Some(millis(9_000)) });
    assert!(subject.is_free("a"));
    assert_eq!(now(subject.backend.force_release("c")), Ok(true));
    assert_eq!(now(subject.backend.force_release("c")), Ok(false), "it is free");
    assert_eq!(subject.busy(&all), Busy { resource: 1, remaining: Some(millis(5_000)) });
    subject.release(&held);
    subject.granted(&all);
    assert_eq!(now(subject.backend.force_release("b")), Ok(true));
    assert_eq!(subject.extend(&all, 5_000).unwrap_err().code(), "LOCK_LOST", "part of it is lost");
    subject.acquire(&["b"], 1_000);
    assert!(!subject.release(&all), "not all of it was left");
    assert!(subject.is_free("a") && subject.is_free("c") && !subject.is_free("b"));
}

#[test]
fn an_extension_never_shortens() {
    let subject = Subject::new();
    let (lease, _) = subject.acquire(&["r"], 10_000);
    subject.clock.advance(millis(1_000));
    assert_eq!(subject.extend(&lease, 1_000), Ok(subject.clock.clock().boot()));
    assert_eq!(subject.busy(&request(&["r"], 1_000)).remaining, Some(millis(9_000)));
    subject.extend(&lease, 20_000).unwrap();
    assert_eq!(subject.busy(&request(&["r"], 1_000)).remaining, Some(millis(20_000)));
    assert_eq!(subject.extend(&request(&["r"], 1_000), 1_000).unwrap_err().code(), "LOCK_LOST");
}

#[test]
fn whatever_ends_a_lease_wakes_those_that_wait() {
    for fair in [false, true] {
        for how in ["release", "release_sync", "force_release"] {
            let subject = Subject::new();
            let (lease, _) = subject.acquire(&["r"], 1_000);
            let (waiting, busy) = subject.waiting(&["q", "r"], fair);
            assert_eq!(busy, Busy { resource: 1, remaining: Some(millis(1_000)) });
            assert!(!was_woken(&waiting));
            let ended = match how {
                "release" => subject.release(&lease),
                "release_sync" => subject.backend.release_sync(&lease.resources, lease.owner, None).unwrap(),
                _ => now(subject.backend.force_release("r")).unwrap(),
            };
            assert!(ended && was_woken(&waiting), "{how}");
            subject.granted(&waiting);
            subject.leave(&waiting);
            subject.clock.advance(millis(1));
            assert!(subject.release(&waiting));
            assert!(!was_woken(&waiting), "it is forgotten");
            assert_eq!(subject.rows(), 0);
        }
    }
}

#[test]
fn a_release_leaves_the_rest_of_a_minimum_and_tells_those_that_wait() {
    for fair in [false, true] {
        let subject = Subject::new();
        let lease = Request { min_hold: millis(5_000), ..request(&["r"], 1_000) };
        subject.granted(&lease);
        let (waiting, busy) = subject.waiting(&["r"], fair);
        assert_eq!(busy.remaining, Some(millis(5_000)), "longer than the TTL");
        let until = subject.clock.clock().boot() + millis(3_000);
        let release =
            |until| now(subject.backend.release(&lease.resources, lease.owner, lease.ttl, Some(until)));
        assert_eq!(release(until), Ok(true));
        assert_eq!(release(until + millis(9_000)), Ok(true), "it is never prolonged");
        assert!(was_woken(&waiting));
        assert_eq!(subject.busy(&waiting).remaining, Some(millis(3_000)));
        subject.clock.advance(millis(3_000));
        assert_eq!(release(until), Ok(false), "it is over");
        subject.granted(&waiting);
    }
}

#[test]
fn fair_waiters_are_served_in_the_order_in_which_they_came() {
    let subject = Subject::new();
    let (mut lease, _) = subject.acquire(&["r"], 1_000);
    let (hurried, _) = subject.waiting(&["r"], false);
    let (first, busy) = subject.waiting(&["r"], true);
    assert_eq!(busy.remaining, Some(millis(1_000)), "the first knows when to attempt again");
    let (second, busy) = subject.waiting(&["r"], true);
    assert_eq!(busy.remaining, None, "the others are woken in their turn");
    let (third, _) = subject.waiting(&["r"], true);
    for next in [&first, &second, &third] {
        subject.release(&lease);
        for other in [&request(&["r"], 1_000), &hurried, &third] {
            if !std::ptr::eq(other, next) {
                assert_eq!(subject.busy(other), Busy::default(), "none overtakes the queue");
            }
        }
        assert_eq!(subject.backend.acquire_sync(&request(&["r"], 1_000)), Ok(Attempt::Busy(Busy::default())));
        assert!(was_woken(next));
        subject.granted(next);
        subject.leave(next);
        lease = next.clone();
    }
    assert!(was_woken(&hurried), "it learns how long the last of the queue holds");
    assert_eq!(subject.busy(&hurried).remaining, Some(millis(60_000)));
    subject.release(&lease);
    assert!(was_woken(&hurried));
    subject.granted(&hurried);
}

#[test]
fn a_granted_waiter_wakes_the_next_which_then_knows_when_the_lease_ends() {
    let subject = Subject::new();
    let (lease, _) = subject.acquire(&["r"], 1_000);
    let (first, _) = subject.waiting(&["r", "s"], true);
    let (second, _) = subject.waiting(&["s"], true);
    assert!(subject.busy(&second).remaining.is_none());
    subject.release(&lease);
    subject.granted(&first);
    assert!(was_woken(&second));
    assert_eq!(subject.busy(&second).remaining, Some(millis(60_000)));
}

#[test]
fn a_waiter_that_gives_up_leaves_nothing_and_the_next_is_woken() {
    let subject = Subject::new();
    let (lease, _) = subject.acquire(&["r"], 1_000);
    let [first, second, third] = [true, true, false].map(|fair| subject.waiting(&["r", "s"], fair).0);
    subject.clock.advance(millis(1));
    subject.release(&lease);
    assert!(was_woken(&first) && !was_woken(&second));
    subject.leave(&first);
    assert!(was_woken(&second) && !was_woken(&third));
    subject.leave(&second);
    assert!(was_woken(&third));
    subject.leave(&third);
    assert_eq!(subject.rows(), 0);
    subject.acquire(&["s", "r"], 1_000);
}

#[test]
fn leases_that_nothing_releases_do_not_fill_the_store() {
    let subject = Subject::new();
    for round in 0..10_000 {
        subject.acquire(&[&round.to_string()], 10);
        subject.clock.advance(millis(1));
    }
    assert!(subject.rows() <= 1_024, "{}", subject.rows());
    let held: Vec<_> =
        (0..3_000).map(|round| subject.acquire(&[&format!("held {round}")], 60_000).0).collect();
    subject.clock.advance(millis(1));
    assert!(held.iter().all(|lease| subject.release(lease)), "none of those that are held is removed");
}

#[test]
fn describes_itself_without_a_promise_to_others() {
    let ttl = Ttl::from_millis(1_000).unwrap();
    let guarantee = now(Subject::new().backend.describe(AckPolicy::default(), ttl)).unwrap();
    assert!(guarantee.summary.contains("No other manager"), "{}", guarantee.summary);
    assert_eq!((guarantee.file, guarantee.server, guarantee.warnings.len()), (None, None, 1));
}
