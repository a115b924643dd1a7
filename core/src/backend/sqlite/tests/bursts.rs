//! Many calls at once, and what else happens meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};

use super::{TestDir, request};
use crate::backend::Waiter;
use crate::backend::contract::{Attempt, LockBackend};
use crate::backend::sqlite::waiters::local_waiters::LocalWaiters;
use crate::lease::{AckPolicy, Resources, Ttl};

const LONG: Duration = Duration::from_secs(30);

/// How many of `calls` had ended when the extension, which was asked for after all of them, had.
fn ended_before_an_extension(calls: usize, are_releases: bool) -> usize {
    let dir = TestDir::new();
    let process = dir.process();
    let held = process.acquire(&["held"], 60_000);
    let leases: Vec<_> = if are_releases {
        let attempts = process.call(move |backend| async move {
            let requests: Vec<_> =
                (0..calls).map(|number| request(&[&format!("r{number}")], 60_000)).collect();
            let acquired = join_all(requests.iter().map(|request| backend.acquire(request))).await;
            assert!(acquired.iter().all(|attempt| matches!(attempt, Ok(Attempt::Granted(_)))));
            Ok(requests)
        });
        attempts.unwrap()
    } else {
        (0..calls).map(|number| request(&[&format!("r{number}")], 60_000)).collect()
    };
    let ended = Arc::new(AtomicUsize::new(0));
    let work = process.start(move |backend| async move {
        let burst = join_all(leases.iter().map(|request| {
            let (backend, ended) = (&backend, &ended);
            async move {
                if are_releases {
                    assert!(
                        backend.release(&request.resources, request.owner, request.ttl, None).await.unwrap()
                    );
                } else {
                    assert!(matches!(backend.acquire(request).await, Ok(Attempt::Granted(_))));
                }
                ended.fetch_add(1, Ordering::SeqCst);
            }
        }));
        let extension = async {
            let ttl = Ttl::from_millis(60_000).unwrap();
            backend.extend(&held.resources, held.owner, ttl, AckPolicy::default()).await.unwrap();
            ended.load(Ordering::SeqCst)
        };
        join(burst, extension).await.1
    });
    work.unwrap().recv_timeout(LONG).unwrap()
}

#[test]
fn an_extension_is_in_the_next_transaction_however_many_calls_came_before_it() {
    let transaction = 256;
    assert!(ended_before_an_extension(2_000, false) <= transaction, "acquires");
    assert!(ended_before_an_extension(2_000, true) <= transaction, "releases");
}

#[test]
fn a_release_does_not_wait_for_a_burst_of_acquires() {
    let dir = TestDir::new();
    let process = dir.process();
    let held = process.acquire(&["held"], 60_000);
    let work = process.start(move |backend| async move {
        let ended = AtomicUsize::new(0);
        let requests: Vec<_> = (0..2_000).map(|number| request(&[&format!("r{number}")], 60_000)).collect();
        let burst = join_all(requests.iter().map(|request| async {
            backend.acquire(request).await.unwrap();
            ended.fetch_add(1, Ordering::SeqCst);
        }));
        let release = async {
            let ttl = Ttl::from_millis(60_000).unwrap();
            assert!(backend.release(&held.resources, held.owner, ttl, None).await.unwrap());
            ended.load(Ordering::SeqCst)
        };
        join(burst, release).await.1
    });
    let ended = work.unwrap().recv_timeout(LONG).unwrap();
    assert!(ended <= 256, "{ended}");
}

#[test]
fn what_a_waiter_costs_does_not_grow_with_the_number_of_waiters() {
    let waiters = LocalWaiters::default();
    let resources = Resources::one("r").unwrap();
    let all: Vec<_> = (0..30_000).map(|_| Waiter::new(true)).collect();
    let since = Instant::now();
    for waiter in &all {
        waiters.add(waiter, &resources);
        waiters.record_queued(waiter);
    }
    assert!(waiters.may_be_queued());
    // Those that came last leave first.
    for waiter in all.iter().rev() {
        assert_eq!(waiters.remove(waiter), Some(true));
    }
    assert!(!waiters.may_be_queued() && waiters.stop_polling_if_empty());
    // Going through all the others for each of them takes ten times as long and more.
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
}

#[test]
fn a_lock_is_handed_over_while_thousands_wait_for_others() {
    let dir = TestDir::new();
    let process = dir.process();
    let names: Vec<_> = (0..3_000).map(|number| format!("r{number}")).collect();
    let every: Vec<_> = names.iter().map(String::as_str).collect();
    let held = process.acquire(&every, 60_000);
    let waiters: Vec<_> =
        names.iter().map(|name| (Resources::one(name.as_str()).unwrap(), Waiter::new(false))).collect();
    let last = waiters.last().unwrap().1.clone();
    let joined = process.call(move |backend| async move {
        for (resources, waiter) in &waiters {
            backend.join_queue(resources, waiter).await?;
        }
        Ok(())
    });
    joined.unwrap();
    let woken = process.start(move |_| async move { last.woken().await }).unwrap();
    assert!(woken.recv_timeout(Duration::from_millis(100)).is_err(), "all of them are held");
    let (name, other) = (Resources::one("r2999").unwrap(), Resources::one("r0").unwrap());
    let ended = process.call(move |backend| async move {
        // Part of a lease may be released, because owners are compared by resource.
        let ttl = Ttl::from_millis(60_000).unwrap();
        assert!(backend.release(&name, held.owner, ttl, None).await?);
        backend.acquire(&super::Request { resources: other, ..request(&["x"], 1000) }).await
    });
    assert!(matches!(ended.unwrap(), Attempt::Busy(busy) if busy.remaining.is_some()));
    woken.recv_timeout(LONG).unwrap();
}
