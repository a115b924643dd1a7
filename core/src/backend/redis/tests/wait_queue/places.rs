//! Who keeps a place in the queue: when the server refuses writes, a grant does not count, or a backend is
//! closed.

use super::*;

#[test]
fn a_server_out_of_memory_keeps_the_places_of_waiters_and_says_who_holds_what() {
    if !available() {
        return;
    }
    let (server, process, mut subscriber) = one_process();
    on_io(async move {
        let held = process.hold("r").await;
        process.hold("other").await;
        let (first, second) = (Waiter::new(true), Waiter::new(true));
        process.join(&one("r"), &first).await;
        server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
        for name in ["other", "free"] {
            let attempt = LeaseArgs::acquire(&request(one(name), 500, acks(0, 0)));
            match process.attempt(&attempt).await {
                Value::Int(reply) => assert!(name == "other" && reply < 0, "{reply}"),
                Value::ServerError(error) => assert_eq!((name, error.code()), ("free", "OOM")),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(process.join(&one("r"), &second).await, Value::Int(..=0)));
        let alive = || server.run::<u64>(&["ZSCORE", "fencelock:{r}:line", &process.name()]);
        let before = alive();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(process.heartbeat(&["r"]).await, Value::Int(-1));
        assert!(alive() > before, "it counts as alive for longer");
        process.release(&held).await;
        assert_eq!(subscriber.take(), [first.number()]);
    });
}

#[test]
fn a_lock_that_is_not_ours_is_an_error_and_not_a_holder() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let backend = backend(&server.url(), 0);
    server.run::<()>(&["RPUSH", &lock_key("list"), "x"]);
    server.run::<()>(&["SET", &lock_key("text"), "x"]);
    for (name, words) in [("list", "another type"), ("text", "has no TTL")] {
        for resources in [one(name), Resources::many(vec!["other".into(), name.into()]).unwrap()] {
            let error = acquire(&backend, &request(resources, 10_000, acks(0, 0))).unwrap_err();
            assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.to_string().contains("nothing was granted"), "{error}");
        }
    }
    assert!(!server.exists(&lock_key("other")));
    assert_eq!(backend.pending_cleanups(), 0);
}

/// One attempt of a waiter that has joined.
fn attempt_waiting(backend: &Arc<RedisBackend>, acks: AckPolicy, waiter: &Waiter) -> Result<Attempt> {
    acquire(backend, &Request { waiter: Some(waiter.clone()), ..request(one("r"), 60_000, acks) })
}

pub(super) fn join(backend: &Arc<RedisBackend>, fair: bool) -> Waiter {
    let (backend, waiter) = (Arc::clone(backend), Waiter::new(fair));
    let joining = waiter.clone();
    on_io(async move { backend.join_queue(&one("r"), &joining).await }).unwrap();
    waiter
}

#[test]
fn a_waiter_whose_grant_did_not_count_is_still_woken() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let backend = backend(&server.url(), 1);
    for fair in [false, true] {
        let waiter = join(&backend, fair);
        let error = attempt_waiting(&backend, acks(1, 20), &waiter).unwrap_err();
        assert_eq!(code(&error), "INSUFFICIENT_REPLICAS");
        let holder = request(one("r"), 60_000, acks(0, 0));
        granted(acquire(&backend, &holder));
        assert!(matches!(attempt_waiting(&backend, acks(0, 0), &waiter), Ok(Attempt::Busy(_))));
        let woken = waiter.clone();
        // What woke it before the release.
        on_io(async move { tokio::time::timeout(Duration::from_millis(1), woken.woken()).await }).ok();
        assert!(release(&backend, &holder).unwrap());
        let woken = waiter.clone();
        on_io(async move { tokio::time::timeout(LONG, woken.woken()).await }).expect("woken by the release");
        granted(attempt_waiting(&backend, acks(0, 0), &waiter));
        server.run::<()>(&["FLUSHALL"]);
    }
}

#[test]
fn waiters_of_a_closed_backend_leave_the_queues() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let [holding, closing, waiting] = [(); 3].map(|()| backend(&server.url(), 0));
    let holder = request(one("r"), 60_000, acks(0, 0));
    granted(acquire(&holding, &holder));
    let [first, second] = [&closing, &waiting].map(|backend| {
        let waiter = join(backend, true);
        assert!(matches!(attempt_waiting(backend, acks(0, 0), &waiter), Ok(Attempt::Busy(_))));
        waiter
    });
    on_io(async move {
        closing.close().await;
        closing.leave_queue(&one("r"), &first).await;
    });
    // As if the lease had expired: no release looks after the queue.
    server.run::<()>(&["DEL", &lock_key("r")]);
    // At once, not when the other process counts as dead.
    granted(attempt_waiting(&waiting, acks(0, 0), &second));
}
