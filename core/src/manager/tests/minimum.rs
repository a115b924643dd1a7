//! Minimums: when they count.

use super::*;

impl Stage {
    fn with_minimum(&self, name: &str, ttl_ms: u32, min_ms: u64) -> LeaseId {
        self.take(Wanted { min_hold: ms(min_ms), ..wanted(name, ttl_ms) })
    }

    fn let_go(&self, id: LeaseId) {
        let release = self.manager.release(id).expect("it is held");
        assert!(self.start(move |_| release).recv().unwrap().unwrap());
    }

    /// For how much longer it is held.
    fn left(&self, name: &'static str) -> Option<Duration> {
        let found = self.start(move |manager| async move { manager.inspect(Strategy::Local, name).await });
        found.recv().unwrap().unwrap().map(|found| found.info.remaining)
    }
}

#[test]
fn a_minimum_stays_only_of_a_lease_that_a_holder_has_taken() {
    let stage = Stage::new();
    let id = stage.with_minimum("r", 10_000, 30_000);
    assert_eq!(stage.left("r"), Some(ms(30_000)));
    assert_eq!(stage.manager.remaining(id), ms(9_898), "the deadline is that of the TTL");
    stage.let_go(id);
    assert_eq!(stage.left("r"), None, "its caller never got it");

    let id = stage.with_minimum("r", 10_000, 30_000);
    stage.manager.hold(id);
    stage.clock.advance(ms(5_000));
    stage.let_go(id);
    assert_eq!(stage.left("r"), Some(ms(25_000)));
    stage.clock.advance(ms(25_000));
    assert_eq!(stage.left("r"), None);

    let id = stage.with_minimum("r", 60_000, 30_000);
    stage.manager.hold(id);
    stage.clock.advance(ms(30_000));
    stage.let_go(id);
    assert_eq!(stage.left("r"), None, "nothing is left of it");
}

#[test]
fn a_minimum_stays_after_the_deadline_and_after_a_synchronous_release() {
    let stage = Stage::new();
    let id = stage.with_minimum("r", 1_000, 30_000);
    stage.manager.hold(id);
    stage.clock.advance(ms(2_000));
    assert_eq!(stage.manager.remaining(id), Duration::ZERO);
    let release = stage.manager.release(id).expect("it is known");
    assert_eq!(stage.start(move |_| release).recv().unwrap(), Ok(false), "its holder had lost it");
    assert_eq!(stage.left("r"), Some(ms(28_000)));
    let id = stage.with_minimum("s", 10_000, 30_000);
    stage.manager.hold(id);
    assert!(stage.manager.release_sync(id).unwrap());
    assert_eq!(stage.left("s"), Some(ms(30_000)));
}

#[test]
fn a_minimum_outlasts_its_manager() {
    let stage = Stage::new();
    let (taken, lost) =
        (stage.with_minimum("taken", 10_000, 30_000), stage.with_minimum("lost", 10_000, 30_000));
    stage.manager.hold(taken);
    assert_ne!(taken, lost);
    let (done, closed) = mpsc::channel();
    stage.manager.close(Duration::ZERO, move |_| {
        let _ = done.send(());
    });
    closed.recv_timeout(Duration::from_secs(10)).unwrap();
    let rows = Connection::open(stage.directory.path().join("locks.sqlite")).unwrap();
    let held = "SELECT group_concat(resource) FROM leases WHERE owner IS NOT NULL";
    let held: String = rows.query_row(held, [], |row| row.get(0)).unwrap();
    assert_eq!(held, "taken");
}
