//! When leases are renewed, and when that stops.

use super::*;
use crate::backend::contract::Request;
use crate::manager::held_lease::LOST;
use crate::manager::renewal::policy::{Decision, Run, next_tick};

const FOREVER: RenewalLimits =
    RenewalLimits { max_hold: RenewalLimits::FOREVER, max_stall: RenewalLimits::FOREVER };

/// A lease of 30 s that was asked for at `start`, which no manager and no timer knows.
fn lease(start: BootInstant, limits: RenewalLimits) -> HeldLease {
    let request = Request {
        resources: Resources::one("r").unwrap(),
        owner: Owner::random(),
        ttl: Ttl::from_millis(30_000).unwrap(),
        min_hold: Duration::ZERO,
        mode: Mode::Exclusive,
        min_token: 0,
        acks: AckPolicy::default(),
        waiter: None,
    };
    let grant = Grant { token: 1, sent: start, acks: None };
    HeldLease::new(Strategy::Local, &request, &grant, request.ttl.deadline(start), Some(limits), None)
}

fn decide(held: &HeldLease, at: BootInstant, heartbeat: &FakeHeartbeat) -> Decision {
    held.renewal().unwrap().decide(&held.times(), at, heartbeat)
}

fn record(held: &HeldLease, at: BootInstant, result: Result<()>) -> Option<BootInstant> {
    held.renewal().unwrap().record(&held.times(), result, at)
}

fn obstacle(held: &HeldLease) -> String {
    held.renewal().unwrap().obstacle().unwrap_or_default()
}

fn start() -> (BootInstant, FakeHeartbeat) {
    let start = FakeClock::new().clock().boot();
    let heartbeat = FakeHeartbeat::default();
    heartbeat.set(start);
    (start, heartbeat)
}

#[test]
fn a_lease_is_renewed_at_a_third_of_its_ttl_and_a_third_after_each_renewal() {
    let (start, heartbeat) = start();
    let held = lease(start, FOREVER);
    assert_eq!(decide(&held, start, &heartbeat), Decision::Wait(start + ms(10_000)));
    assert_eq!(decide(&held, start + ms(9_999), &heartbeat), Decision::Wait(start + ms(10_000)));
    assert_eq!(decide(&held, start + ms(10_000), &heartbeat), Decision::Renew);
    held.extend_deadline(start + ms(10_003), held.ttl);
    assert_eq!(record(&held, start + ms(10_005), Ok(())), Some(start + ms(20_003)));
    // What the holder extended by itself needs no renewal until then.
    held.extend_deadline(start + ms(12_000), Ttl::from_millis(120_000).unwrap());
    let Decision::Wait(next) = decide(&held, start + ms(20_003), &heartbeat) else { panic!("not yet") };
    assert!(next > start + ms(110_000) && next < held.warning());
    assert_eq!(
        heartbeat.asked.load(Ordering::SeqCst),
        0,
        "no sign of life is requested when any silence is fine"
    );
}

#[test]
fn what_was_delivered_is_renewed_only_once_it_is_taken() {
    let (start, heartbeat) = start();
    let held = lease(start, FOREVER);
    let due = start + ms(10_000);
    // On its way to a holder whose event loop is blocked, say.
    assert_eq!(decide(&held, due, &heartbeat), Decision::Renew);
    assert!(held.deliver(due));
    let Decision::Wait(next) = decide(&held, due, &heartbeat) else { panic!("it is not taken yet") };
    assert!(next > due && next < due + ms(2_000), "it may be taken any moment");
    assert_eq!(decide(&held, held.warning(), &heartbeat), Decision::Stop);
    held.renewal().unwrap().take();
    assert_eq!(decide(&held, next, &heartbeat), Decision::Renew);
    assert!(held.deliver(due));
    assert_eq!(decide(&held, next, &heartbeat), Decision::Renew, "taken once and for all");
}

#[test]
fn a_renewal_comes_before_the_margin_or_not_at_all() {
    let (start, heartbeat) = start();
    let held = lease(start, FOREVER);
    assert_eq!(decide(&held, held.warning() - ms(1), &heartbeat), Decision::Renew);
    assert_eq!(decide(&held, held.warning(), &heartbeat), Decision::Stop);
    let shortest = Ttl::from_millis(10).unwrap();
    let due = BootInstant::from_micros(3_334);
    assert!(next_tick(due, shortest) < shortest.deadline(BootInstant::from_micros(0)) - shortest.margin());
    let lost = lease(start, FOREVER);
    lost.end(LOST);
    let released = lease(start, FOREVER);
    released.end(RELEASED);
    for over in [lost, released] {
        assert_eq!(decide(&over, start + ms(10_000), &heartbeat), Decision::Stop);
    }
}

#[test]
fn leases_that_are_due_close_together_are_renewed_together() {
    let (start, _) = start();
    let ttl = Ttl::from_millis(30_000).unwrap();
    let ticks: std::collections::HashSet<_> =
        (0..10_000).map(|at| next_tick(start + ms(at), ttl).as_micros()).collect();
    assert!(ticks.len() <= 40, "{} a period of ten seconds", ticks.len());
    for at in (0..10_000).map(|at| start + ms(at)) {
        let tick = next_tick(at, ttl);
        assert!(tick >= at && at.until(tick) < ms(263));
        // Those of a short lease are among them.
        assert!(next_tick(at, Ttl::from_millis(100).unwrap()) <= tick);
        assert_eq!(next_tick(tick, Ttl::from_millis(100).unwrap()), tick);
    }
}

#[test]
fn nothing_is_renewed_beyond_max_hold() {
    let (start, heartbeat) = start();
    let held = lease(start, RenewalLimits { max_hold: ms(25_000), ..FOREVER });
    assert_eq!(decide(&held, start + ms(10_000), &heartbeat), Decision::Renew);
    held.extend_deadline(start + ms(10_000), held.ttl);
    assert_eq!(record(&held, start + ms(10_001), Ok(())), Some(start + ms(20_000)));
    assert_eq!(decide(&held, start + ms(24_999), &heartbeat), Decision::Renew);
    assert_eq!(decide(&held, start + ms(25_000), &heartbeat), Decision::Stop);
    assert!(obstacle(&held).contains("maxHoldMs (25000)"), "{}", obstacle(&held));
}

#[test]
fn nothing_is_renewed_for_a_holder_that_is_silent_for_longer_than_max_stall() {
    let (start, heartbeat) = start();
    let held = lease(start, RenewalLimits { max_stall: ms(12_000), ..FOREVER });
    assert_eq!(decide(&held, start + ms(10_000), &heartbeat), Decision::Renew);
    assert_eq!(heartbeat.asked.load(Ordering::SeqCst), 1, "so that there is an answer when it counts");
    held.extend_deadline(start + ms(10_000), held.ttl);
    record(&held, start + ms(10_000), Ok(())).unwrap();
    // It did not answer: it is asked again, and decided again, until it does or the margin begins.
    let Decision::Wait(again) = decide(&held, start + ms(20_000), &heartbeat) else {
        panic!("a silent holder")
    };
    assert_eq!(heartbeat.asked.load(Ordering::SeqCst), 2);
    assert!(matches!(decide(&held, again, &heartbeat), Decision::Wait(_)));
    assert!(obstacle(&held).contains("maxStallMs (12000)"), "{}", obstacle(&held));
    assert_eq!(decide(&held, held.warning(), &heartbeat), Decision::Stop);
    heartbeat.set(again);
    assert_eq!(decide(&held, again + ms(100), &heartbeat), Decision::Renew, "it answered in time");
    assert_eq!(decide(&held, again + ms(200), &heartbeat), Decision::Renew);
}

#[test]
fn a_holder_that_answers_keeps_its_lease_however_short_max_stall_is() {
    let (start, heartbeat) = start();
    let held = lease(start, RenewalLimits { max_stall: ms(1), ..FOREVER });
    for round in 1..5 {
        let due = start + ms(10_000 * round);
        let Decision::Wait(again) = decide(&held, due, &heartbeat) else { panic!("silent for 10 s") };
        heartbeat.set(due + ms(3));
        assert_eq!(decide(&held, again, &heartbeat), Decision::Renew);
        held.extend_deadline(due, held.ttl);
        record(&held, again, Ok(()));
    }
}

#[test]
fn a_failed_renewal_is_retried_until_the_margin() {
    let (start, heartbeat) = start();
    let held = lease(start, FOREVER);
    let (mut now, mut tries) = (start + ms(10_000), 0);
    while decide(&held, now, &heartbeat) == Decision::Renew {
        tries += 1;
        let next = record(&held, now, Err(Error::unavailable("the server is away"))).unwrap();
        assert!(now.until(next) >= ms(900) && now.until(next) <= ms(3_750), "{:?}", now.until(next));
        now = next;
    }
    assert!((5..12).contains(&tries), "{tries}");
    assert!(obstacle(&held).contains("BACKEND_UNAVAILABLE: the server is away"), "{}", obstacle(&held));
    let kept = lease(start, FOREVER);
    record(&kept, now, Err(Error::unavailable("the server is away"))).unwrap();
    record(&kept, now, Ok(())).unwrap();
    assert_eq!(obstacle(&kept), "", "cleared by a successful renewal");
    for end in [Error::lost("taken"), Error::Closed] {
        assert_eq!(record(&held, start + ms(10_000), Err(end)), None);
    }
}

impl Stage {
    fn renewed(&self, name: &str, ttl_ms: u32, limits: RenewalLimits) -> Arc<HeldLease> {
        self.held(self.take(Wanted { renew: Some(limits), ..wanted(name, ttl_ms) }))
    }

    /// One renewal, whether it is due or not.
    fn renew(&self, held: &Arc<HeldLease>) -> mpsc::Receiver<()> {
        let held = Arc::clone(held);
        self.start(|manager| manager.renew(held, Run::FIRST))
    }
}

#[test]
fn a_renewal_moves_the_deadline_unless_it_has_passed() {
    let stage = Stage::new();
    let held = stage.renewed("r", 10_000, FOREVER);
    stage.clock.advance(ms(3_000));
    stage.renew(&held).recv().unwrap();
    assert_eq!(stage.manager.remaining(held.id), ms(9_898));
    let in_the_way = stage.other_program();
    let late = stage.renew(&held);
    std::thread::sleep(ms(20));
    stage.clock.advance(ms(9_950));
    drop(in_the_way);
    late.recv().unwrap();
    assert_eq!(stage.manager.remaining(held.id), Duration::ZERO);
    stage.renew(&held).recv().unwrap();
    assert_eq!(stage.manager.remaining(held.id), Duration::ZERO, "never held again");
    stage.acquire("r", 10_000);
}

#[test]
fn a_renewal_that_finds_another_owner_notifies_at_once() {
    let stage = Stage::new();
    let held = stage.renewed("r", 10_000, FOREVER);
    assert!(stage.manager.watch(held.id).unwrap());
    let forced = stage.start(|manager| async move { manager.force_release(Strategy::Local, "r").await });
    assert!(forced.recv().unwrap().unwrap());
    let thief = stage.acquire("r", 10_000);
    stage.renew(&held).recv().unwrap();
    assert!(stage.notified.lock()[0].1.contains("another owner took it"));
    assert!(matches!(stage.manager.lease_end(held.id), Some(LeaseEnd::Lost { .. })));
    assert_eq!(stage.manager.remaining(held.id), Duration::ZERO);
    assert!(stage.manager.remaining(thief) > Duration::ZERO);
}

#[test]
fn the_notification_says_why_a_lease_was_not_renewed() {
    let stage = Stage::new();
    let held = stage.renewed("r", 10_000, RenewalLimits { max_hold: ms(1), ..FOREVER });
    stage.clock.advance(ms(9_500));
    assert_eq!(decide(&held, stage.clock.clock().boot(), &stage.heartbeat), Decision::Stop);
    stage.manager.warn_if_due(&held);
    let message = stage.notified.lock()[0].1.clone();
    assert!(
        message.contains("ends 398 ms after this was reported") && message.contains("maxHoldMs (1)"),
        "{message}"
    );
}

#[test]
fn the_notification_after_a_long_stop_says_when_the_lease_ended() {
    let stage = Stage::new();
    let (kept, left) = (stage.renewed("kept", 10_000, FOREVER), stage.held(stage.acquire("left", 10_000)));
    for held in [&kept, &left] {
        assert!(stage.manager.watch(held.id).unwrap());
        assert_eq!(stage.manager.lease_end(held.id), None);
    }
    // No thread of the process ran meanwhile.
    stage.clock.advance(ms(9_898 + 8_000));
    for held in [&kept, &left] {
        stage.manager.warn_if_due(held);
        let message = stage.manager.lease_end(held.id).unwrap().message(stage.clock.clock().boot());
        assert!(message.contains("ended 8000 ms before this was reported"), "{message}");
        let notified = stage.notified.lock();
        assert!(notified.iter().any(|(lease, told)| *lease == held.id && *told == message), "{notified:?}");
    }
    let message = |held: &HeldLease| held.expires().message(stage.clock.clock().boot());
    assert!(message(&kept).contains("stopped, suspended or starved"), "{}", message(&kept));
    assert!(message(&left).contains("it was not extended in time"), "{}", message(&left));
    // What is found by an extension reads the same.
    assert_eq!(stage.extend(left.id, 10_000).recv().unwrap().unwrap_err().code(), "LOCK_LOST");
    let end = stage.manager.lease_end(left.id).unwrap();
    assert!(matches!(end, LeaseEnd::Expires { .. }), "{end:?}");
}

#[test]
fn why_a_lease_was_lost_is_remembered() {
    let stage = Stage::new();
    let id = stage.acquire("r", 10_000);
    stage.manager.mark_lost(&stage.held(id), LossCause::File, "its file burnt");
    stage.manager.mark_lost(&stage.held(id), LossCause::Taken, "and something else");
    stage.clock.advance(ms(60_000));
    let message = stage.manager.lease_end(id).unwrap().message(stage.clock.clock().boot());
    assert!(message.contains("the lease is lost: its file burnt"), "{message}");
    assert_eq!(stage.notified.lock().len(), 0, "no one watched it");
}

#[test]
fn a_lost_lease_is_not_counted_as_held() {
    let stage = Stage::new();
    let [lost, kept] = ["lost", "kept"].map(|name| stage.acquire(name, 10_000));
    assert_eq!(stage.manager.stats().held, 2);
    stage.manager.mark_lost(&stage.held(lost), LossCause::Taken, "on purpose");
    assert_eq!(stage.manager.stats().held, 1);
    stage.clock.advance(ms(9_897));
    assert_eq!(stage.manager.stats().held, 1, "it ends in a millisecond");
    stage.clock.advance(ms(1));
    assert_eq!(stage.manager.stats().held, 0, "it is over, whether or not it was missed yet");
    assert_eq!(stage.manager.remaining(kept), ms(0));
}

#[test]
fn a_lease_whose_handle_was_dropped_in_mid_renewal_is_not_released() {
    let stage = Stage::new();
    let held = stage.renewed("r", 10_000, FOREVER);
    let in_the_way = stage.other_program();
    let renewal = stage.renew(&held);
    std::thread::sleep(ms(20));
    assert_eq!(stage.manager.forget(held.id).as_deref(), Some("r"));
    drop(in_the_way);
    renewal.recv().unwrap();
    // Its holder may have kept the token.
    let again = stage.start(|manager| async move {
        matches!(manager.acquire(Strategy::Local, wanted("r", 10), None).await, Ok(Acquired::Busy(_)))
    });
    assert!(again.recv().unwrap());
}

#[test]
fn the_timers_renew_one_lease_and_report_the_end_of_another() {
    let stage = Stage::in_real_time();
    let kept = stage.renewed("kept", 3_000, FOREVER);
    let left = stage.acquire("left", 3_000);
    assert!(stage.manager.watch(left).unwrap());
    std::thread::sleep(ms(4_000));
    assert!(stage.manager.remaining(kept.id) > Duration::ZERO, "renewed past its first TTL");
    assert!(stage.manager.stats().extended >= 2, "{:?}", stage.manager.stats());
    let messages = stage.notified.lock().clone();
    let [(lease, message)] = &messages[..] else { panic!("{messages:?}") };
    assert!(*lease == left && message.contains(" ms after this was reported"), "{message}");
}
