//! A manager with a lock file and a fake clock.

mod close;
mod failover;
mod hand_over;
mod loss;
mod minimum;
mod renewal;

use std::sync::mpsc;

use rusqlite::Connection;

use super::*;
use crate::backend::contract::{Attempt, Grant};
use crate::backend::sqlite::{Config, Durability, SqliteBackend};
use crate::lease::{AckPolicy, Mode, Owner, Resources, Ttl, token};
use crate::runtime::clock::fake::FakeClock;

struct Stage {
    directory: tempfile::TempDir,
    clock: Arc<FakeClock>,
    manager: Arc<Manager>,
    notified: Arc<Mutex<Vec<(LeaseId, String)>>>,
    heartbeat: Arc<FakeHeartbeat>,
}

/// A holder whose signs of life the test sets.
#[derive(Default)]
struct FakeHeartbeat {
    beat: AtomicU64,
    asked: AtomicU64,
}

impl FakeHeartbeat {
    fn set(&self, at: BootInstant) {
        self.beat.store(at.as_micros(), Ordering::SeqCst);
    }
}

impl Heartbeat for FakeHeartbeat {
    fn last(&self) -> BootInstant {
        BootInstant::from_micros(self.beat.load(Ordering::SeqCst))
    }

    fn request(&self) {
        self.asked.fetch_add(1, Ordering::SeqCst);
    }
}

impl Stage {
    fn new() -> Self {
        let clock = FakeClock::new();
        Self::at(clock.clock(), clock)
    }

    /// With the real clock.
    fn in_real_time() -> Self {
        Self::at(Clock::System, FakeClock::new())
    }

    fn at(time: Clock, clock: Arc<FakeClock>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&directory);
        let notified = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&notified);
        let reader = time.clone();
        let listener =
            Box::new(move |lease, end: LeaseEnd| record.lock().push((lease, end.message(reader.boot()))));
        let local = Backend::Sqlite(SqliteBackend::new(config, time.clone()));
        let heartbeat = Arc::new(FakeHeartbeat::default());
        let manager = Manager::new(
            [(Strategy::Local, local)],
            Holder::named("test"),
            time,
            listener,
            Arc::clone(&heartbeat) as Arc<dyn Heartbeat>,
        );
        Self { directory, clock, manager, notified, heartbeat }
    }

    /// Starts a call on the backend's thread.
    fn start<T: Send + 'static, F: Future<Output = T> + Send>(
        &self,
        call: impl FnOnce(Arc<Manager>) -> F + Send + 'static,
    ) -> mpsc::Receiver<T> {
        let (done, answer) = mpsc::channel();
        let manager = Arc::clone(&self.manager);
        let executor = self.manager.used_executor(Strategy::Local).unwrap();
        executor.spawn(async move {
            let _ = done.send(call(manager).await);
        });
        answer
    }

    fn acquire(&self, name: &str, ttl_ms: u32) -> LeaseId {
        self.take(wanted(name, ttl_ms))
    }

    fn take(&self, wanted: Wanted) -> LeaseId {
        let call =
            self.start(move |manager| async move { manager.acquire(Strategy::Local, wanted, None).await });
        match call.recv().unwrap() {
            Ok(Acquired::Granted { id, held, .. }) => {
                // What is delivered is renewed only once it is taken.
                if held.renewal().is_none() {
                    assert!(held.deliver(self.manager.clock.boot()), "it came in time");
                }
                id
            }
            other => panic!("not granted: {other:?}"),
        }
    }

    fn extend(&self, id: LeaseId, ttl_ms: u32) -> mpsc::Receiver<Result<()>> {
        let ttl = Some(Ttl::from_millis(ttl_ms).unwrap());
        self.start(move |manager| async move { manager.extend(id, ttl).await })
    }

    fn held(&self, id: LeaseId) -> Arc<HeldLease> {
        self.manager.find(id).unwrap()
    }

    /// Keeps the file's write lock until it is dropped.
    fn other_program(&self) -> Connection {
        let connection = Connection::open(self.directory.path().join("locks.sqlite")).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        connection
    }
}

fn config(directory: &tempfile::TempDir) -> Config {
    Config {
        path: directory.path().join("locks.sqlite"),
        durability: Durability::Normal,
        allow_network_filesystem: false,
        mode: None,
        is_relative: false,
    }
}

fn wanted(name: &str, ttl_ms: u32) -> Wanted {
    Wanted {
        resources: Resources::one(name).unwrap(),
        mode: Mode::Exclusive,
        owner: Owner::random(),
        ttl: Ttl::from_millis(ttl_ms).unwrap(),
        min_hold: Duration::ZERO,
        min_token: 0,
        acks: AckPolicy::default(),
        wait: Duration::ZERO,
        fair: false,
        renew: None,
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_lease_counts_until_its_deadline_and_is_never_revived() {
    let stage = Stage::new();
    let id = stage.acquire("r", 10_000);
    assert_eq!(stage.manager.remaining(id), ms(9_898), "1 % and 2 ms less than the TTL");
    stage.clock.advance(ms(9_898));
    assert_eq!(stage.manager.remaining(id), Duration::ZERO);
    // The row would still allow it: what is left of the lease is the drift.
    assert_eq!(stage.extend(id, 10_000).recv().unwrap().unwrap_err().code(), "LOCK_LOST");
    assert_eq!(stage.manager.remaining(id), Duration::ZERO);
    assert_eq!(stage.manager.stats().lost, 1);
}

#[test]
fn an_extension_acknowledged_after_the_deadline_does_not_count() {
    let stage = Stage::new();
    let id = stage.acquire("r", 10_000);
    let in_the_way = stage.other_program();
    let extension = stage.extend(id, 60_000);
    std::thread::sleep(ms(20));
    // Past the deadline, and within the TTL: the file accepts the extension, but the holder was notified of
    // the loss.
    stage.clock.advance(ms(9_950));
    drop(in_the_way);
    assert_eq!(extension.recv().unwrap().unwrap_err().code(), "LOCK_LOST");
    assert_eq!(stage.manager.remaining(id), Duration::ZERO);
    let next = stage.acquire("r", 10_000);
    assert_ne!(next, id, "it was released");
}

#[test]
fn a_holder_is_notified_a_margin_before_its_current_deadline() {
    let stage = Stage::new();
    let id = stage.acquire("r", 100);
    assert!(stage.manager.watch(id).unwrap());
    let held = stage.held(id);
    let until = |held: &HeldLease| held.warning().until(held.deadline());
    assert_eq!(until(&held), ms(10));
    stage.extend(id, 3_000).recv().unwrap().unwrap();
    assert_eq!(until(&held), ms(300), "of the TTL that set the deadline");
    stage.extend(id, 1_000).recv().unwrap().unwrap();
    assert_eq!(until(&held), ms(300), "an extension never shortens");
    assert_eq!(stage.manager.warn_if_due(&held), Some(held.warning()), "not yet");
    stage.clock.advance(ms(2_700));
    assert_eq!(stage.manager.warn_if_due(&held), None);
    let messages = stage.notified.lock().clone();
    assert!(
        messages
            .iter()
            .any(|(lease, message)| *lease == id && message.contains(" ms after this was reported"))
    );
    assert!(stage.manager.remaining(id) > Duration::ZERO, "notified before it ends");
    assert!(!stage.manager.watch(id).unwrap(), "too late to be notified");
}

#[test]
fn holders_are_notified_when_their_lock_file_was_deleted() {
    let stage = Stage::in_real_time();
    let (watched, silent) = (stage.acquire("a", 60_000), stage.acquire("b", 60_000));
    assert!(stage.manager.watch(watched).unwrap());
    std::fs::remove_file(stage.directory.path().join("locks.sqlite")).unwrap();
    assert!(stage.manager.remaining(watched) > ms(50_000), "not checked yet");
    let after = stage.acquire("c", 60_000);
    for lost in [watched, silent] {
        assert_eq!(stage.manager.remaining(lost), Duration::ZERO);
    }
    assert!(stage.manager.remaining(after) > ms(50_000));
    let messages = stage.notified.lock().clone();
    let [(lease, message)] = &messages[..] else { panic!("{messages:?}") };
    assert!(*lease == watched && message.contains("deleted or replaced"), "{message}");
    assert_eq!(stage.manager.forget(silent), None, "no warning about a lost lease");
    assert_eq!(stage.manager.forget(after).as_deref(), Some("c"));
}

#[test]
fn a_grant_that_arrives_past_its_deadline_does_not_count() {
    let clock = FakeClock::new();
    let asked = wanted("r", 1_000).first();
    let grant = Grant { token: 1, sent: clock.clock().boot(), acks: None };
    let granted = Attempt::Granted(grant);
    clock.advance(ms(987));
    acquire::check(&granted, &clock.clock(), &asked).unwrap();
    clock.advance(ms(1));
    let late = acquire::check(&granted, &clock.clock(), &asked).unwrap_err();
    assert_eq!(late.code(), "LOCK_LOST");
    assert!(late.to_string().contains("988 ms"), "{late}");
}

#[test]
fn a_token_that_is_not_above_the_high_water_mark_or_too_high_does_not_count() {
    let clock = FakeClock::new();
    let asked = Wanted { min_token: 41, ..wanted("r", 1_000) }.first();
    let check = |token| {
        let grant = Grant { token, sent: clock.clock().boot(), acks: None };
        acquire::check(&Attempt::Granted(grant), &clock.clock(), &asked)
    };
    for token in [42, token::TOKEN_LIMIT - 1] {
        check(token).unwrap();
    }
    for token in [0, 41, token::TOKEN_LIMIT, u64::MAX] {
        let error = check(token).unwrap_err();
        assert_eq!(error.code(), "BACKEND_UNAVAILABLE");
        assert!(error.to_string().contains(&format!("the token {token}, ")), "{error}");
    }
}

#[test]
fn the_futures_of_common_calls_are_small() {
    // They are made, moved and freed for every call. Rare paths are boxed to keep them small.
    let stage = Stage::new();
    let acquire = stage.manager.acquire(Strategy::Local, wanted("r", 1_000), None);
    assert!(size_of_val(&acquire) <= 768, "{}", size_of_val(&acquire));
    let lease = stage.manager.acquire_sync(Strategy::Local, &wanted("held", 1_000)).unwrap();
    let Acquired::Granted { id, .. } = lease else { panic!("not granted: {lease:?}") };
    let release = stage.manager.release(id).expect("it is held");
    assert!(size_of_val(&release) <= 768, "{}", size_of_val(&release));
}
