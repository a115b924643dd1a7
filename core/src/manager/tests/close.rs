//! How managers end: draining, closing, and what their holders are told.

use super::*;

/// The deadlines of tests that wait for an event.
const PATIENCE: Duration = Duration::from_secs(10);

fn renewed(name: &str, ttl_ms: u32) -> Wanted {
    let limits = RenewalLimits { max_hold: RenewalLimits::FOREVER, max_stall: RenewalLimits::FOREVER };
    Wanted { renew: Some(limits), ..wanted(name, ttl_ms) }
}

impl Stage {
    fn close(&self, drain: Duration) -> mpsc::Receiver<StillHeld> {
        let (done, closed) = mpsc::channel();
        self.manager.close(drain, move |held| {
            let _ = done.send(held.clone());
        });
        closed
    }

    fn release(&self, id: LeaseId) -> mpsc::Receiver<Result<bool>> {
        let release = self.manager.release(id).expect("it is held");
        self.start(move |_| release)
    }

    fn message(&self) -> String {
        self.notified.lock()[0].1.clone()
    }
}

#[test]
fn closing_releases_the_leases_and_refuses_new_calls() {
    let stage = Stage::new();
    let id = stage.acquire("r", 60_000);
    assert!(stage.manager.watch(id).unwrap());
    let closed = stage.close(Duration::ZERO);
    assert_eq!(
        closed.recv_timeout(PATIENCE).unwrap(),
        StillHeld::default(),
        "there was no time to release it"
    );
    assert_eq!(stage.manager.remaining(id), Duration::ZERO);
    assert!(stage.notified.lock()[0].1.contains("closed"));
    assert_eq!(stage.manager.acquire_sync(Strategy::Local, &wanted("r", 10)).unwrap_err().code(), "CLOSED");
    let names: Vec<_> = std::fs::read_dir(stage.directory.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "no side files, no liveness file: {names:?}");
}

#[test]
fn a_manager_without_leases_closes_at_once() {
    let stage = Stage::in_real_time();
    let (released, lost, ended) =
        (stage.acquire("released", 60_000), stage.acquire("lost", 60_000), stage.acquire("ended", 20));
    stage.release(released).recv().unwrap().unwrap();
    stage.manager.mark_lost(&stage.held(lost), LossCause::Taken, "on purpose");
    std::thread::sleep(ms(30));
    assert_eq!(stage.manager.remaining(ended), Duration::ZERO);
    let closed = stage.close(RenewalLimits::FOREVER);
    assert_eq!(closed.recv_timeout(PATIENCE).unwrap(), StillHeld::default());
}

#[test]
fn a_synchronous_call_that_is_under_way_is_awaited_and_leaves_nothing() {
    let stage = Stage::in_real_time();
    let id = stage.acquire("r", 60_000);
    assert!(stage.manager.release_sync(id).unwrap());
    let in_the_way = stage.other_program();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| stage.manager.acquire_sync(Strategy::Local, &wanted("r", 60_000)));
        let began = std::time::Instant::now();
        while stage.manager.stats().pending == 0 {
            assert!(began.elapsed() < ms(1_000), "it is no pending call");
            std::thread::sleep(ms(1));
        }
        let closed = stage.close(Duration::ZERO);
        assert!(closed.recv_timeout(ms(100)).is_err(), "the attempt is under way");
        drop(in_the_way);
        assert_eq!(call.join().unwrap().unwrap_err().code(), "CLOSED");
        closed.recv_timeout(PATIENCE).unwrap();
    });
    let other = SqliteBackend::new(config(&stage.directory), Clock::System);
    let attempt = other.acquire_sync(&wanted("r", 10).first()).unwrap();
    assert!(matches!(attempt, Attempt::Granted(_)), "what was granted is released");
}

#[test]
fn a_draining_manager_keeps_its_leases_and_accepts_no_others() {
    let stage = Stage::in_real_time();
    let (id, other) = (stage.acquire("r", 60_000), stage.acquire("other", 60_000));
    assert!(stage.manager.watch(id).unwrap());
    let closed = stage.close(RenewalLimits::FOREVER);
    let refused = stage.start(|manager| async move {
        [
            manager.acquire(Strategy::Local, wanted("new", 10), None).await.unwrap_err().code(),
            manager.acquire_sync(Strategy::Local, &wanted("new", 10)).unwrap_err().code(),
            manager.force_release(Strategy::Local, "r").await.unwrap_err().code(),
            manager.connect(Strategy::Local).await.unwrap_err().code(),
        ]
    });
    assert_eq!(refused.recv().unwrap(), ["CLOSED"; 4]);
    stage.extend(id, 120_000).recv().unwrap().unwrap();
    assert!(stage.manager.remaining(id) > ms(100_000));
    let info = stage.start(|manager| async move { manager.inspect(Strategy::Local, "r").await });
    assert!(info.recv().unwrap().unwrap().is_some());
    assert!(stage.manager.release_sync(other).unwrap());
    assert!(closed.recv_timeout(ms(50)).is_err(), "one lease is still held");
    assert!(stage.release(id).recv().unwrap().unwrap());
    assert_eq!(closed.recv_timeout(PATIENCE).unwrap(), StillHeld::default());
    assert!(stage.notified.lock().is_empty(), "nothing was taken away");
    assert_eq!(stage.manager.lease_end(id), Some(LeaseEnd::Closed { drained: true }));
}

#[test]
fn the_wait_of_a_caller_ends_when_draining_begins() {
    let stage = Stage::in_real_time();
    let id = stage.acquire("r", 60_000);
    let waits = Wanted { wait: Duration::MAX, ..wanted("r", 60_000) };
    let waiting = stage.start(|manager| async move { manager.acquire(Strategy::Local, waits, None).await });
    while stage.manager.stats().waiting == 0 {
        std::thread::sleep(ms(1));
    }
    let closed = stage.close(RenewalLimits::FOREVER);
    assert_eq!(waiting.recv_timeout(PATIENCE).unwrap().unwrap_err().code(), "CLOSED");
    assert!(stage.manager.release_sync(id).unwrap());
    closed.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn what_is_left_after_the_time_to_drain_is_released_and_named() {
    let stage = Stage::in_real_time();
    let (left, dropped) = (stage.acquire("left", 60_000), stage.take(renewed("dropped", 60_000)));
    assert!(stage.manager.watch(left).unwrap());
    assert_eq!(stage.manager.keep_dropped(dropped).as_deref(), Some("dropped"));
    let begun = std::time::Instant::now();
    let held = stage.close(ms(100)).recv_timeout(PATIENCE).unwrap();
    assert!(begun.elapsed() >= ms(100));
    assert_eq!(held, StillHeld { named: vec!["left".to_owned()], count: 1 });
    assert!(stage.message().contains("not released within drainMs"), "{}", stage.message());
    let again = stage.close(PATIENCE).recv_timeout(PATIENCE).unwrap();
    assert_eq!(again.count, 1, "all calls report the same");
    let other = SqliteBackend::new(config(&stage.directory), Clock::System);
    for name in ["left", "dropped"] {
        let attempt = other.acquire_sync(&wanted(name, 10).first()).unwrap();
        assert!(matches!(attempt, Attempt::Granted(_)), "{name} was released");
    }
}

#[test]
fn a_lease_that_no_handle_can_release_is_not_waited_for() {
    let stage = Stage::in_real_time();
    let (id, expiring) = (stage.take(renewed("r", 60_000)), stage.acquire("expiring", 60_000));
    let closed = stage.close(RenewalLimits::FOREVER);
    assert_eq!(stage.manager.keep_dropped(expiring), None, "it is not renewed");
    assert!(stage.manager.forget(expiring).is_some());
    assert!(closed.recv_timeout(ms(20)).is_err());
    assert!(stage.manager.keep_dropped(id).is_some());
    assert_eq!(closed.recv_timeout(PATIENCE).unwrap(), StillHeld::default());
    assert!(stage.message().contains("manager was closed"), "its end is reported");
}

#[test]
fn a_lease_that_expires_ends_the_wait_and_a_renewed_one_does_not() {
    let stage = Stage::in_real_time();
    stage.acquire("expires", 200);
    let id = stage.take(renewed("renewed", 400));
    let closed = stage.close(RenewalLimits::FOREVER);
    assert!(closed.recv_timeout(ms(1000)).is_err());
    assert!(stage.manager.remaining(id) > Duration::ZERO, "renewed while draining");
    assert!(stage.manager.release_sync(id).unwrap());
    closed.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn all_calls_share_one_end_and_a_shorter_limit_shortens_it() {
    let stage = Stage::in_real_time();
    let id = stage.acquire("r", 60_000);
    let first = stage.close(RenewalLimits::FOREVER);
    let longer = stage.close(RenewalLimits::FOREVER);
    assert!(first.recv_timeout(ms(20)).is_err() && longer.try_recv().is_err());
    // Before the first has finished, no other call returns.
    let in_the_way = stage.other_program();
    let now = stage.close(Duration::ZERO);
    assert!(now.recv_timeout(ms(50)).is_err(), "the release has not been done");
    drop(in_the_way);
    for call in [now, first, longer] {
        assert_eq!(call.recv_timeout(PATIENCE).unwrap().named, ["r"]);
    }
    assert_eq!(stage.manager.remaining(id), Duration::ZERO);
}

#[test]
fn synchronous_calls_get_locks_after_the_close_of_a_process_that_exits() {
    let stage = Stage::in_real_time();
    stage.acquire("r", 60_000);
    let (done, closed) = mpsc::channel();
    stage.manager.close_at_exit(move || done.send(()).unwrap());
    closed.recv_timeout(PATIENCE).unwrap();
    let taken = stage.manager.acquire_sync(Strategy::Local, &wanted("r", 60_000)).unwrap();
    let Acquired::Granted { id, .. } = taken else { panic!("it was released: {taken:?}") };
    assert!(stage.manager.remaining(id) > Duration::ZERO);
    assert!(stage.manager.release_sync(id).unwrap());
    let closed = Stage::in_real_time();
    closed.acquire("r", 60_000);
    closed.close(Duration::ZERO).recv_timeout(PATIENCE).unwrap();
    closed.manager.close_at_exit(|| {});
    let refused = closed.manager.acquire_sync(Strategy::Local, &wanted("r", 60_000)).unwrap_err();
    assert_eq!(refused.code(), "CLOSED", "its program closed it before");
}
