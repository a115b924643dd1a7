//! Leases that are ended on purpose.

use super::*;

impl Stage {
    /// Makes this call, and returns whether the lease was held.
    fn end<F: Future<Output = Result<bool>> + Send>(
        &self,
        call: impl FnOnce(Arc<Manager>) -> F + Send + 'static,
    ) -> bool {
        self.start(call).recv().unwrap().unwrap()
    }

    fn is_free(&self, name: &'static str) -> bool {
        let inspect =
            self.start(move |manager| async move { manager.inspect(Strategy::Local, name).await.unwrap() });
        inspect.recv().unwrap().is_none()
    }
}

#[test]
fn a_lease_is_lost_at_once_and_then_free_for_others() {
    let stage = Stage::new();
    let id = stage.acquire("r", 10_000);
    assert_eq!(stage.manager.watch(id), Ok(true));
    let ending = stage.manager.lose(id, "for a test");
    assert_eq!(stage.manager.remaining(id), Duration::ZERO, "before its backend knows");
    assert!(stage.notified.lock()[0].1.contains("the lease is lost: for a test"));
    assert!(!stage.is_free("r"));
    assert!(stage.end(|_| ending));
    assert!(stage.is_free("r"));
    let next = stage.acquire("r", 10_000);
    assert!(!stage.end(move |manager| async move { manager.lose(id, "again").await }));
    assert!(!stage.is_free("r"), "the lease of another owner is not touched");
    assert!(!stage.manager.remaining(next).is_zero());
    assert_eq!(stage.notified.lock().len(), 1);
}

#[test]
fn a_lease_expires_for_its_holder_before_others_can_have_it() {
    let stage = Stage::new();
    let id = stage.acquire("r", 10_000);
    let expire = |manager: Arc<Manager>| async move { manager.expire(Strategy::Local, "r").await };
    assert!(stage.end(expire));
    assert!(stage.is_free("r"));
    assert_eq!(stage.manager.remaining(id), Duration::ZERO);
    let end = stage.manager.lease_end(id).unwrap().message(stage.clock.clock().boot());
    assert!(
        end.contains("the lease ended 0 ms before this was reported: it was not extended in time"),
        "{end}"
    );
    assert_eq!(stage.extend(id, 10_000).recv().unwrap().unwrap_err().code(), "LOCK_LOST");
    assert!(!stage.end(expire), "it is free");
}

#[test]
fn a_loss_counts_once_with_its_cause() {
    let stage = Stage::new();
    let release = |id| stage.end(move |manager| async move { manager.release(id).unwrap().await });
    // Found before the release, which then finds it missing.
    let id = stage.acquire("found", 10_000);
    assert!(stage.end(move |manager| async move { manager.lose(id, "for a test").await }));
    assert!(!release(id));
    // Found by the release alone.
    let id = stage.acquire("taken", 10_000);
    assert!(stage.end(|manager| async move { manager.force_release(Strategy::Local, "taken").await }));
    assert!(!release(id));
    let id = stage.acquire("expired", 10_000);
    stage.clock.advance(ms(9_900));
    let _ = stage.extend(id, 10_000).recv().unwrap();
    assert!(release(id), "its row is still there: what is left is the drift");
    let Stats { lost, lost_taken, lost_expired, released, .. } = stage.manager.stats();
    assert_eq!((lost, lost_taken, lost_expired, released), (3, 2, 1, 1));
    assert_eq!(stage.manager.holds().count, 3, "each lease once");
}

#[test]
fn a_lease_of_which_a_loss_was_told_is_not_released() {
    let stage = Stage::new();
    let ids = ["later", "at once"].map(|name| stage.acquire(name, 10_000));
    for id in ids {
        stage.manager.mark_lost(&stage.held(id), LossCause::File, "its file was replaced");
    }
    // Its row is there all the same.
    assert!(!stage.is_free("later") && !stage.is_free("at once"));
    assert!(!stage.end(move |manager| async move { manager.release(ids[0]).unwrap().await }));
    assert_eq!(stage.manager.release_sync(ids[1]), Ok(false));
    assert!(stage.is_free("later") && stage.is_free("at once"));
    let Stats { lost, released, .. } = stage.manager.stats();
    assert_eq!((lost, released), (2, 0));
}

/// Writes down what it wants to hear of.
struct Record(Arc<Mutex<Vec<String>>>, u32);

impl Observer for Record {
    fn wants(&self, topic: Topic) -> bool {
        self.1 & topic.bit() != 0
    }

    fn notify(&self, event: Event) {
        self.0.lock().push(match event {
            Event::Lost { lease, cause, .. } => format!("{} {}", lease.resources.first(), cause.name()),
            Event::Renewed { lease, result, .. } => format!("{} {result:?}", lease.resources.first()),
            Event::Connection { .. } => "a connection".to_owned(),
        });
    }
}

#[test]
fn an_observer_hears_of_each_loss_once_and_of_an_expiry_in_time() {
    let stage = Stage::in_real_time();
    let told = Arc::new(Mutex::new(Vec::new()));
    stage.manager.set_observer(Box::new(Record(Arc::clone(&told), Topic::Losses.bit())));
    stage.acquire("expires", 100);
    let id = stage.acquire("lost", 60_000);
    stage.acquire("closed", 60_000);
    assert!(stage.end(move |manager| async move { manager.lose(id, "for a test").await }));
    assert!(!stage.end(move |manager| async move { manager.release(id).unwrap().await }));
    for _ in 0..500 {
        if told.lock().len() == 2 {
            break;
        }
        std::thread::sleep(ms(10));
    }
    let (done, closed) = mpsc::channel();
    stage.manager.close(Duration::ZERO, move |_| done.send(()).unwrap());
    closed.recv().unwrap();
    assert_eq!(*told.lock(), ["lost taken", "expires expired"], "closing is no loss");
    let Stats { lost, lost_expired, lost_taken, .. } = stage.manager.stats();
    assert_eq!((lost, lost_expired, lost_taken), (2, 1, 1));
    assert_eq!(stage.manager.holds().count, 3, "each lease once, also the one that closing ended");
}

#[test]
fn what_closing_finds_gone_was_lost_before() {
    let stage = Stage::in_real_time();
    stage.acquire("r", 60_000);
    assert!(stage.end(|manager| async move { manager.force_release(Strategy::Local, "r").await }));
    let (done, closed) = mpsc::channel();
    stage.manager.close(Duration::ZERO, move |_| done.send(()).unwrap());
    closed.recv().unwrap();
    let Stats { lost, lost_taken, .. } = stage.manager.stats();
    assert_eq!((lost, lost_taken), (1, 1));
}

#[test]
fn a_lease_that_ends_on_its_way_to_its_holder_is_no_loss() {
    let stage = Stage::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    stage.manager.set_observer(Box::new(Record(Arc::clone(&told), Topic::Losses.bit())));
    let granted = |name| match stage.manager.acquire_sync(Strategy::Local, &wanted(name, 10_000)) {
        Ok(Acquired::Granted { held, .. }) => held,
        other => panic!("not granted: {other:?}"),
    };
    let (late, expired, lost) = (granted("late"), granted("expired"), granted("lost"));
    stage.manager.mark_lost(&lost, LossCause::Taken, "on purpose");
    assert!(!lost.deliver(stage.clock.clock().boot()), "it is known to be lost");
    stage.clock.advance(ms(10_000));
    stage.manager.mark_expired(&expired);
    for held in [late, expired, lost] {
        assert!(!held.deliver(stage.clock.clock().boot()));
        let _ = stage.manager.release_sync(held.id).unwrap();
    }
    assert_eq!(stage.manager.stats().lost, 0);
    assert_eq!(stage.manager.holds().count, 0);
    assert!(told.lock().is_empty());
}

#[test]
fn an_observer_that_wants_nothing_hears_nothing() {
    let stage = Stage::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    stage.manager.set_observer(Box::new(Record(Arc::clone(&told), 0)));
    let id = stage.acquire("r", 10_000);
    assert!(stage.end(move |manager| async move { manager.lose(id, "for a test").await }));
    assert!(told.lock().is_empty());
    assert_eq!(stage.manager.stats().lost, 1);
}
