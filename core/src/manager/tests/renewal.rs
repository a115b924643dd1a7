//! When leases are renewed, and when that ends.

use super::*;
use crate::lease::{Owner, Resources};
use crate::manager::held_lease::LOST;
use crate::manager::renewal::policy::{self, Turn};
use crate::runtime::deadline_queue::Wheel;

const FOREVER: Limits = Limits { max_hold: Limits::FOREVER, max_stall: Limits::FOREVER };

/// A lease of 30 s that was asked for at `start`, which no manager and no wheel knows.
fn lease(start: BootInstant, limits: Limits) -> HeldLease {
    let request = Request {
        resources: Resources::one("r").unwrap(),
        owner: Owner::random(),
        ttl: Ttl::from_millis(30_000).unwrap(),
        mode: Mode::Exclusive,
        min_token: 0,
        acks: AckPolicy::default(),
        waiter: None,
    };
    HeldLease::new(Strategy::Local, &request, start, request.ttl.deadline(start), Some(limits))
}

fn turn(held: &HeldLease, at: BootInstant, pulse: &FakePulse) -> Turn {
    held.renewal().unwrap().turn(held, at, pulse)
}

fn done(held: &HeldLease, at: BootInstant, result: Result<()>) -> Option<BootInstant> {
    held.renewal().unwrap().renewed(held, result, at)
}

fn obstacle(held: &HeldLease) -> String {
    held.renewal().unwrap().obstacle().unwrap_or_default()
}

fn start() -> (BootInstant, FakePulse) {
    let start = FakeClock::new().clock().boot();
    let pulse = FakePulse::default();
    pulse.set(start);
    (start, pulse)
}

#[test]
fn a_lease_is_renewed_at_a_third_of_its_ttl_and_a_third_after_each_renewal() {
    let (start, pulse) = start();
    let held = lease(start, FOREVER);
    assert_eq!(turn(&held, start, &pulse), Turn::Later(start + ms(10_000)));
    assert_eq!(turn(&held, start + ms(9_999), &pulse), Turn::Later(start + ms(10_000)));
    assert_eq!(turn(&held, start + ms(10_000), &pulse), Turn::Renew);
    held.extend_deadline(start + ms(10_003), held.ttl);
    assert_eq!(done(&held, start + ms(10_005), Ok(())), Some(start + ms(20_003)));
    // What the holder extended by itself needs no renewal until then.
    held.extend_deadline(start + ms(12_000), Ttl::from_millis(120_000).unwrap());
    let Turn::Later(next) = turn(&held, start + ms(20_003), &pulse) else { panic!("not yet") };
    assert!(next > start + ms(110_000) && next < held.warning());
    assert_eq!(pulse.asked.load(Ordering::SeqCst), 0, "nobody is asked where any silence is fine");
}

#[test]
fn a_renewal_comes_before_the_margin_or_not_at_all() {
    let (start, pulse) = start();
    let held = lease(start, FOREVER);
    assert_eq!(turn(&held, held.warning() - ms(1), &pulse), Turn::Renew);
    assert_eq!(turn(&held, held.warning(), &pulse), Turn::Over);
    let shortest = Ttl::from_millis(10).unwrap();
    let due = BootInstant::from_micros(3_334);
    assert!(policy::tick(due, shortest) < shortest.deadline(BootInstant::from_micros(0)) - shortest.margin());
    let lost = lease(start, FOREVER);
    lost.end(LOST);
    let released = lease(start, FOREVER);
    released.end(RELEASED);
    for over in [lost, released] {
        assert_eq!(turn(&over, start + ms(10_000), &pulse), Turn::Over);
    }
}

#[test]
fn leases_that_are_due_close_together_are_renewed_together() {
    let (start, _) = start();
    let ttl = Ttl::from_millis(30_000).unwrap();
    let ticks: std::collections::HashSet<_> =
        (0..10_000).map(|at| policy::tick(start + ms(at), ttl).as_micros()).collect();
    assert!(ticks.len() <= 40, "{} a period of ten seconds", ticks.len());
    for at in (0..10_000).map(|at| start + ms(at)) {
        let tick = policy::tick(at, ttl);
        assert!(tick >= at && at.until(tick) < ms(263));
        // Those of a short lease are among them.
        assert!(policy::tick(at, Ttl::from_millis(100).unwrap()) <= tick);
        assert_eq!(policy::tick(tick, Ttl::from_millis(100).unwrap()), tick);
    }
}

#[test]
fn nothing_is_renewed_beyond_max_hold() {
    let (start, pulse) = start();
    let held = lease(start, Limits { max_hold: ms(25_000), ..FOREVER });
    assert_eq!(turn(&held, start + ms(10_000), &pulse), Turn::Renew);
    held.extend_deadline(start + ms(10_000), held.ttl);
    assert_eq!(done(&held, start + ms(10_001), Ok(())), Some(start + ms(20_000)));
    assert_eq!(turn(&held, start + ms(24_999), &pulse), Turn::Renew);
    assert_eq!(turn(&held, start + ms(25_000), &pulse), Turn::Over);
    assert!(obstacle(&held).contains("maxHoldMs (25000)"), "{}", obstacle(&held));
}

#[test]
fn nothing_is_renewed_for_a_holder_that_is_silent_for_longer_than_max_stall() {
    let (start, pulse) = start();
    let held = lease(start, Limits { max_stall: ms(12_000), ..FOREVER });
    assert_eq!(turn(&held, start + ms(10_000), &pulse), Turn::Renew);
    assert_eq!(pulse.asked.load(Ordering::SeqCst), 1, "so that there is an answer when it counts");
    held.extend_deadline(start + ms(10_000), held.ttl);
    done(&held, start + ms(10_000), Ok(())).unwrap();
    // Nobody answered. It is asked again, and looked at again, until somebody does or the margin begins.
    let Turn::Later(again) = turn(&held, start + ms(20_000), &pulse) else { panic!("a silent holder") };
    assert_eq!(pulse.asked.load(Ordering::SeqCst), 2);
    assert!(matches!(turn(&held, again, &pulse), Turn::Later(_)));
    assert!(obstacle(&held).contains("maxStallMs (12000)"), "{}", obstacle(&held));
    assert_eq!(turn(&held, held.warning(), &pulse), Turn::Over);
    pulse.set(again);
    assert_eq!(turn(&held, again + ms(100), &pulse), Turn::Renew, "it answered in time");
    assert_eq!(turn(&held, again + ms(200), &pulse), Turn::Renew);
}

#[test]
fn a_holder_that_answers_keeps_its_lease_however_short_max_stall_is() {
    let (start, pulse) = start();
    let held = lease(start, Limits { max_stall: ms(1), ..FOREVER });
    for round in 1..5 {
        let due = start + ms(10_000 * round);
        let Turn::Later(again) = turn(&held, due, &pulse) else { panic!("silent for 10 s") };
        pulse.set(due + ms(3));
        assert_eq!(turn(&held, again, &pulse), Turn::Renew);
        held.extend_deadline(due, held.ttl);
        done(&held, again, Ok(()));
    }
}

#[test]
fn a_renewal_that_failed_is_tried_again_until_the_margin() {
    let (start, pulse) = start();
    let held = lease(start, FOREVER);
    let (mut now, mut tries) = (start + ms(10_000), 0);
    while turn(&held, now, &pulse) == Turn::Renew {
        tries += 1;
        let next = done(&held, now, Err(Error::unavailable("the server is away"))).unwrap();
        assert!(now.until(next) >= ms(900) && now.until(next) <= ms(3_750), "{:?}", now.until(next));
        now = next;
    }
    assert!((5..12).contains(&tries), "{tries}");
    assert!(obstacle(&held).contains("BACKEND_UNAVAILABLE: the server is away"), "{}", obstacle(&held));
    let kept = lease(start, FOREVER);
    done(&kept, now, Err(Error::unavailable("the server is away"))).unwrap();
    done(&kept, now, Ok(())).unwrap();
    assert_eq!(obstacle(&kept), "", "forgotten once it was renewed");
    for end in [Error::lost("taken"), Error::Closed] {
        assert_eq!(done(&held, start + ms(10_000), Err(end)), None);
    }
}

impl Stage {
    fn renewed(&self, name: &str, ttl_ms: u32, limits: Limits) -> Arc<HeldLease> {
        self.held(self.take(Wanted { renew: Some(limits), ..wanted(name, ttl_ms) }))
    }

    /// One renewal, whether it is due or not.
    fn renew(&self, held: &Arc<HeldLease>) -> mpsc::Receiver<()> {
        let held = Arc::clone(held);
        self.start(|manager| manager.renew(held))
    }
}

#[test]
fn the_deadline_moves_by_a_renewal_and_not_once_it_passed() {
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
fn a_renewal_that_finds_another_owner_tells_at_once() {
    let stage = Stage::new();
    let held = stage.renewed("r", 10_000, FOREVER);
    assert!(stage.manager.watch(held.id).unwrap());
    let forced = stage.start(|manager| async move { manager.force_release(Strategy::Local, "r").await });
    assert!(forced.recv().unwrap().unwrap());
    let thief = stage.acquire("r", 10_000);
    stage.renew(&held).recv().unwrap();
    assert!(stage.told.lock().unwrap()[0].1.contains("somebody else took it"));
    assert_eq!(stage.manager.remaining(held.id), Duration::ZERO);
    assert!(stage.manager.remaining(thief) > Duration::ZERO);
}

#[test]
fn a_holder_is_told_why_its_lease_was_not_renewed() {
    let stage = Stage::new();
    let held = stage.renewed("r", 10_000, Limits { max_hold: ms(1), ..FOREVER });
    stage.clock.advance(ms(9_500));
    assert_eq!(turn(&held, stage.clock.clock().boot(), &stage.pulse), Turn::Over);
    stage.manager.look(&held);
    let told = stage.told.lock().unwrap()[0].1.clone();
    assert!(told.contains("ends in 398 ms") && told.contains("maxHoldMs (1)"), "{told}");
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
fn a_wheel_looks_at_each_lease_when_its_time_comes_and_as_often_as_it_says() {
    static LOOKED: Mutex<Vec<(LeaseId, BootInstant)>> = Mutex::new(Vec::new());
    static WHEEL: Wheel = Wheel::new(|manager, held| {
        let now = manager.clock().boot();
        LOOKED.lock().unwrap().push((held.id, now));
        (now < held.sent + ms(5_000)).then(|| held.sent + ms(5_000))
    });
    let stage = Stage::new();
    let leases = ["a", "b", "c"].map(|name| stage.held(stage.acquire(name, 60_000)));
    let start = stage.clock.clock().boot();
    for (held, at) in leases.iter().zip([3_000, 1_000, 2_000]) {
        WHEEL.add(start + ms(at), &stage.manager, held).unwrap();
    }
    let [a, b, c] = leases;
    drop(stage.manager.let_go(c.id));
    drop(c); // nobody holds it: not looked at
    let looked = |count: usize| {
        // A fake clock wakes nobody: the wheel comes once a second.
        for _ in 0..40 {
            std::thread::sleep(ms(100));
            if LOOKED.lock().unwrap().len() >= count {
                break;
            }
        }
        LOOKED.lock().unwrap().clone()
    };
    stage.clock.advance(ms(1_500));
    assert_eq!(looked(1), [(b.id, start + ms(1_500))]);
    stage.clock.advance(ms(2_000));
    assert_eq!(looked(2)[1..], [(a.id, start + ms(3_500))]);
    stage.clock.advance(ms(1_500));
    let mut last: Vec<_> = looked(4)[2..].to_vec();
    last.sort_unstable();
    assert_eq!(last, [(a.id, start + ms(5_000)), (b.id, start + ms(5_000))]);
}
