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
    assert!(end.contains("the lease ended 0 ms ago: it was not extended in time"), "{end}");
    assert_eq!(stage.extend(id, 10_000).recv().unwrap().unwrap_err().code(), "LOCK_LOST");
    assert!(!stage.end(expire), "it is free");
}
