//! Leases that change hands, and what else happens to them at that moment.

use super::*;

impl Stage {
    fn hand_over(&self, id: LeaseId) -> mpsc::Receiver<Result<Ttl>> {
        self.start(move |manager| async move { manager.hand_over(id).await })
    }

    fn adopt(&self, name: &str, from: Owner) -> Result<Acquired> {
        let wanted = wanted(name, 30_000);
        self.start(move |manager| async move { manager.adopt(Strategy::Local, &wanted, from).await })
            .recv()
            .unwrap()
    }

    /// Whether the row of a resource says which process holds it.
    fn names_a_process(&self, resource: &str) -> bool {
        let connection = Connection::open(self.directory.path().join("locks.sqlite")).unwrap();
        let sql = "SELECT holder FROM leases WHERE resource = ?1 AND owner IS NOT NULL";
        let holder: Vec<u8> = connection.query_row(sql, [resource], |row| row.get(0)).unwrap();
        holder[24..].iter().any(|byte| *byte != 0)
    }
}

#[test]
fn a_lease_that_was_handed_over_belongs_to_no_process_until_it_is_adopted() {
    let stage = Stage::new();
    let id = stage.acquire("r", 30_000);
    let owner = stage.held(id).owner;
    assert!(stage.names_a_process("r"));
    assert_eq!(stage.hand_over(id).recv().unwrap(), Ok(Ttl::from_millis(30_000).unwrap()));
    assert!(!stage.names_a_process("r"));
    assert_eq!(stage.manager.remaining(id), Duration::ZERO);
    assert!(stage.manager.release(id).is_none());
    assert_eq!(stage.hand_over(id).recv().unwrap().unwrap_err().code(), "LOCK_LOST");
    assert!(stage.notified.lock().is_empty());

    let Ok(Acquired::Granted { held, .. }) = stage.adopt("r", owner) else { panic!("not adopted") };
    assert!(stage.names_a_process("r"));
    assert_ne!(held.owner, owner);
    assert_eq!(stage.adopt("r", owner).unwrap_err().code(), "LOCK_LOST");
    assert!(held.is_active());
}

#[test]
fn an_extension_that_comes_meanwhile_does_not_take_the_lease_back() {
    let stage = Stage::new();
    let id = stage.acquire("r", 30_000);
    let other = stage.other_program();
    let handed_over = stage.hand_over(id);
    std::thread::sleep(ms(50));
    let extended = stage.extend(id, 60_000);
    std::thread::sleep(ms(50));
    drop(other);
    assert!(handed_over.recv().unwrap().is_ok());
    assert_eq!(extended.recv().unwrap().unwrap_err().code(), "LOCK_LOST");
    assert!(!stage.names_a_process("r"));
}

#[test]
fn what_cannot_be_handed_over_is_held_as_before() {
    let stage = Stage::new();
    let id = stage.acquire("r", 30_000);
    let other = stage.other_program();
    let error = stage.hand_over(id).recv().unwrap().unwrap_err();
    assert_eq!(error.code(), "BACKEND_UNAVAILABLE");
    assert!(error.to_string().ends_with("The lease was not handed over, and is held as before"), "{error}");
    drop(other);
    assert!(stage.held(id).is_active() && stage.names_a_process("r"));
    assert_eq!(stage.extend(id, 60_000).recv().unwrap(), Ok(()));
    assert!(stage.hand_over(id).recv().unwrap().is_ok());
}

#[test]
fn a_release_that_comes_meanwhile_wins() {
    let stage = Stage::new();
    let id = stage.acquire("r", 30_000);
    let owner = stage.held(id).owner;
    let other = stage.other_program();
    let handed_over = stage.hand_over(id);
    std::thread::sleep(ms(50));
    let released = stage.start(move |manager| async move { manager.release(id).unwrap().await });
    std::thread::sleep(ms(50));
    drop(other);
    assert_eq!(released.recv().unwrap(), Ok(true));
    assert_eq!(handed_over.recv().unwrap().unwrap_err().code(), "LOCK_LOST");
    assert_eq!(stage.adopt("r", owner).unwrap_err().code(), "LOCK_LOST");
}

#[test]
fn a_lease_that_has_ended_is_neither_handed_over_nor_adopted() {
    let stage = Stage::new();
    let (late, given) = (stage.acquire("late", 1_000), stage.acquire("given", 30_000));
    let owner = stage.held(given).owner;
    assert!(stage.hand_over(given).recv().unwrap().is_ok());
    stage.clock.advance(ms(1_000));
    assert_eq!(stage.hand_over(late).recv().unwrap().unwrap_err().code(), "LOCK_LOST");
    stage.clock.advance(ms(30_000));
    assert_eq!(stage.adopt("given", owner).unwrap_err().code(), "LOCK_LOST");
}

#[test]
fn a_wall_clock_that_is_set_changes_neither_the_end_nor_the_order_of_tokens() {
    let stage = Stage::new();
    let wanted = Wanted { min_token: 1 << 51, ..wanted("r", 30_000) };
    let id = stage.take(wanted);
    let owner = stage.held(id).owner;
    assert!(stage.hand_over(id).recv().unwrap().is_ok());
    stage.clock.step_wall(-3_600_000_000);
    let Ok(Acquired::Granted { token, .. }) = stage.adopt("r", owner) else { panic!("not adopted") };
    assert_eq!(token, (1 << 51) + 2);
}
