//! What requests whose replicas lag do to others.

use super::faults::shortfall;
use super::*;
use crate::backend::redis::tests::servers::server::{Server, available};

/// Starts a call on the backend's thread, and reports how long it took.
fn timed<T: Send + 'static>(
    call: impl Future<Output = T> + Send + 'static,
) -> std::thread::JoinHandle<(T, Duration)> {
    let start = Instant::now();
    std::thread::spawn(move || {
        let outcome = on_io(call);
        (outcome, start.elapsed())
    })
}

#[test]
fn requests_that_stall_keep_no_others_from_their_workers() {
    if !available() {
        return;
    }
    let (primary, replicas) = Server::with_replicas(2);
    let backend = backend(&primary.url(), 2);
    let leases: Vec<_> =
        (0..8).map(|number| request(one(&format!("s{number}")), 60_000, acks(2, 1_000))).collect();
    for outcome in acquire_together(&backend, &leases) {
        granted(outcome);
    }
    let renewed =
        [acks(0, 0), acks(1, 500)].map(|acks| request(one(&format!("k{}", acks.required)), 1_000, acks));
    for lease in &renewed {
        granted(acquire(&backend, lease));
    }
    replicas[0].pause();
    let mut stalled = Vec::new();
    for (number, lease) in leases.into_iter().enumerate() {
        // Four classes, and others that differ only a little.
        let stalls = acks(2, (2_000 << (number / 2)) + (number as u32 & 1));
        let (extending, acquiring) = (Arc::clone(&backend), Arc::clone(&backend));
        let Request { resources, owner, ttl, .. } = lease;
        let other = request(one(&format!("t{number}")), 60_000, stalls);
        stalled.push(timed(async move { extending.extend(&resources, owner, ttl, stalls).await.map(drop) }));
        stalled.push(timed(async move { acquiring.acquire(&other).await.map(drop) }));
    }
    // Each is one round trip, even on a busy machine.
    for lease in renewed {
        let (extending, quick) = (Arc::clone(&backend), Arc::clone(&backend));
        let other = request(one(&format!("q{}", lease.acks.required)), 1_000, lease.acks);
        let extension = timed(async move {
            extending.extend(&lease.resources, lease.owner, lease.ttl, lease.acks).await.map(drop)
        });
        let attempt = timed(async move { quick.acquire(&other).await.map(drop) });
        for call in [extension, attempt] {
            let (outcome, elapsed) = call.join().unwrap();
            outcome.unwrap();
            assert!(elapsed < Duration::from_millis(950), "within the lease: {elapsed:?}");
        }
    }
    assert!(stalled.iter().any(|call| !call.is_finished()), "they still stall");
    replicas[0].resume();
    for call in stalled {
        let _ = call.join().unwrap();
    }
}

#[test]
fn each_request_of_a_batch_has_its_own_time_for_acknowledgements() {
    if !available() {
        return;
    }
    let (primary, replicas) = Server::with_replicas(1);
    let backend = backend(&primary.url(), 1);
    granted(acquire(&backend, &request(one("warm"), 10_000, acks(1, 1_000))));
    replicas[0].pause();
    // Together, so that they share a WAIT: the replica is back between the end of one and that of the other.
    let calls = [acks(1, 1_030), acks(1, 2_040)]
        .map(|acks| request(one(&format!("c{}", acks.timeout_ms)), 60_000, acks));
    let both = Arc::clone(&backend);
    let call = timed(async move { join_all(calls.iter().map(|request| both.acquire(request))).await });
    let start = Instant::now();
    eventually("the first was undone", || {
        // In this order: both are written in one step, which may come between the two questions.
        primary.exists(&fence_key("c1030")) && !primary.exists(&lock_key("c1030"))
    });
    assert!(start.elapsed() < Duration::from_millis(1_900), "not when the other one's time is over");
    replicas[0].resume();
    let [first, second] = <[_; 2]>::try_from(call.join().unwrap().0).unwrap();
    assert_eq!(shortfall(first).received, 0);
    granted(second);
}
