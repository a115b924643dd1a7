//! What happens to leases whose server may have been replaced.

use futures_util::future::BoxFuture;

use super::*;
use crate::backend::contract::{Outage, Presence};
use crate::manager::renewal::policy::{Run, burst_delay, next_tick};

const FOREVER: RenewalLimits =
    RenewalLimits { max_hold: RenewalLimits::FOREVER, max_stall: RenewalLimits::FOREVER };

/// An outage that gives these answers, one after the other, and concerns the resources of one name.
struct FakeOutage {
    concerns: &'static str,
    answers: Mutex<Vec<Result<bool>>>,
    gone: mpsc::Sender<usize>,
}

impl Outage for FakeOutage {
    fn concerns(&self, resources: &Resources) -> bool {
        resources.first() == self.concerns
    }

    fn is_failover(&self) -> BoxFuture<'_, Result<bool>> {
        let answer = self.answers.lock().pop().expect("it was asked too often");
        Box::pin(std::future::ready(answer))
    }
}

impl Drop for FakeOutage {
    fn drop(&mut self) {
        let _ = self.gone.send(self.answers.lock().len());
    }
}

impl Stage {
    /// Handles an outage with these answers, the last first; returns how many were not asked for.
    fn outage(&self, concerns: &'static str, answers: Vec<Result<bool>>) -> usize {
        let (gone, handled) = mpsc::channel();
        let outage = FakeOutage { concerns, answers: Mutex::new(answers), gone };
        self.manager.handle_outage(Strategy::Local, Arc::new(outage));
        handled.recv().unwrap()
    }

    fn keep(&self, name: &str) -> Arc<HeldLease> {
        self.held(self.take(Wanted { renew: Some(FOREVER), ..wanted(name, 10_000) }))
    }

    fn extended(&self, times: u64) {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while self.manager.stats().extended < times {
            assert!(std::time::Instant::now() < end, "{:?}", self.manager.stats());
            std::thread::sleep(ms(2));
        }
    }
}

#[test]
fn all_renewals_that_a_failover_concerns_are_due_now() {
    let stage = Stage::new();
    let (concerned, other) = (stage.keep("r"), stage.keep("other"));
    // In a pause after a failure, and not due for a long time.
    let away = || Error::unavailable("the server is away");
    let renewal = concerned.renewal().unwrap();
    renewal.record(&concerned.times(), Err(away()), stage.clock.clock().boot()).unwrap();
    stage.clock.advance(ms(1_000));
    assert_eq!(stage.outage("r", vec![Ok(true), Err(away()), Err(away())]), 0, "it is asked until it knows");
    stage.extended(1);
    assert_eq!(stage.manager.remaining(concerned.id), ms(9_898));
    assert_eq!(stage.manager.remaining(other.id), ms(8_898));
    assert_eq!(renewal.obstacle(), None);
    std::thread::sleep(ms(50));
    assert_eq!(stage.manager.stats().extended, 1, "once");
}

#[test]
fn nothing_is_done_without_a_failover_or_without_leases() {
    let stage = Stage::new();
    let held = stage.keep("r");
    assert_eq!(stage.outage("r", vec![Ok(false)]), 0);
    assert_eq!(stage.outage("another shard's", vec![Ok(true)]), 1, "it is not even asked");
    assert_eq!(stage.outage("released", vec![Ok(true)]), 1);
    stage.clock.advance(ms(9_898));
    assert_eq!(stage.outage("r", vec![Ok(true)]), 1, "the deadline has passed");
    assert_eq!(stage.manager.stats().extended, 0);
    assert_eq!(stage.manager.remaining(held.id), Duration::ZERO);
}

#[test]
fn a_hurried_renewal_is_repeated_until_it_succeeds_and_replaces_the_usual_ones() {
    let stage = Stage::new();
    let held = stage.keep("r");
    let renewal = held.renewal().unwrap();
    assert!(renewal.is_current(Run::FIRST));
    let hurried = renewal.hurry();
    assert!(hurried.hurried && !renewal.is_current(Run::FIRST));
    assert_eq!(stage.manager.renew_if_due(&held, Run::FIRST), None, "the run before has ended");
    assert!(hurried.after(&Err(Error::unavailable("not yet"))).hurried);
    let usual = hurried.after(&Ok(()));
    assert!(!usual.hurried && renewal.is_current(usual));
    assert_eq!(stage.manager.renew_if_due(&held, usual), Some(next_tick(held.due(), held.ttl)));
    stage.clock.advance(ms(100));
    assert_eq!(stage.manager.renew_if_due(&held, hurried), None, "it is being renewed");
    stage.extended(1);
}

#[test]
fn very_many_renewals_do_not_start_at_once() {
    assert_eq!(burst_delay(999), Duration::ZERO);
    assert!(burst_delay(1_000) > Duration::ZERO);
    assert!(burst_delay(100_000) <= ms(2_500));
}

#[test]
fn leases_that_are_missing_end_at_once_unless_they_were_released() {
    let stage = Stage::new();
    let leases =
        ["missing", "held", "unknown", "released"].map(|name| stage.held(stage.acquire(name, 10_000)));
    let [missing, held, unknown, released] = leases.clone();
    for lease in &leases {
        assert!(stage.manager.watch(lease.id).unwrap());
    }
    assert!(stage.manager.forget(released.id).is_some());
    let answers = vec![Presence::Missing, Presence::Held, Presence::Unknown, Presence::Missing];
    let rest = stage.manager.note_presence(leases.to_vec(), answers);
    assert_eq!(rest.iter().map(|lease| lease.id).collect::<Vec<_>>(), [unknown.id]);
    let told = stage.notified.lock().clone();
    let [(id, message)] = &told[..] else { panic!("{told:?}") };
    assert!(*id == missing.id && message.contains("does not have it"), "{message}");
    assert_eq!(stage.manager.remaining(missing.id), Duration::ZERO);
    assert_eq!(stage.manager.remaining(held.id), ms(9_898));
    assert_eq!((stage.manager.stats().lost, released.is_released()), (1, true));
}

#[test]
fn a_grant_that_was_in_flight_during_an_outage_is_in_doubt() {
    let stage = Stage::new();
    let failovers = &stage.manager.configured(Strategy::Local).unwrap().failovers;
    let before = stage.clock.clock().boot();
    assert!(!failovers.may_have_hit(before));
    stage.clock.advance(ms(1));
    assert_eq!(stage.outage("none", vec![]), 0);
    assert!(failovers.may_have_hit(before));
    assert!(!failovers.may_have_hit(stage.clock.clock().boot()));
}
