//! The backend against real servers.

mod attempts;
mod capabilities;
mod damaged_replies;
mod failovers;
mod faults;
mod logins;
mod minimum;
mod outages;
pub(crate) mod random;
mod refusals;
pub(crate) mod servers;
mod stalls;
mod strangers;
mod tls;
mod wait_queue;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{Config, Location, Options, RedisBackend};
use crate::backend::contract::{Attempt, Busy, Grant, LockBackend, Request};
use crate::error::{Error, Result};
use crate::lease::{AckPolicy, Mode, Owner, Resources, Ttl};
use crate::runtime::clock::Clock;
use crate::runtime::executor::Executor;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// Runs a future on the backend's thread, and returns its result or resumes its panic.
pub(crate) fn on_io<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let (done, wait) = std::sync::mpsc::channel();
    Executor::io().unwrap().spawn(async move {
        let _ = done.send(tokio::spawn(future).await);
    });
    match wait.recv().expect("the I/O thread is alive") {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn options(url: &str, replicas: u32) -> Options {
    Options { replicas, ..Options::new(Location::Url(url.to_owned())) }
}

fn backend(url: &str, replicas: u32) -> Arc<RedisBackend> {
    backend_with(options(url, replicas))
}

fn backend_with(options: Options) -> Arc<RedisBackend> {
    Arc::new(RedisBackend::new(Config::new(options).unwrap(), Clock::System))
}

fn ttl(ms: u32) -> Ttl {
    Ttl::from_millis(ms).unwrap()
}

fn one(name: &str) -> Resources {
    Resources::one(name).unwrap()
}

fn acks(required: u32, timeout_ms: u32) -> AckPolicy {
    AckPolicy { required, timeout_ms, fsync: false }
}

fn request(resources: Resources, ttl_ms: u32, acks: AckPolicy) -> Request {
    Request {
        resources,
        owner: Owner::random(),
        ttl: ttl(ttl_ms),
        min_hold: Duration::ZERO,
        mode: Mode::Exclusive,
        min_token: 0,
        acks,
        waiter: None,
    }
}

/// One attempt, from the test's thread.
fn acquire(backend: &Arc<RedisBackend>, request: &Request) -> Result<Attempt> {
    let (backend, request) = (Arc::clone(backend), request.clone());
    on_io(async move { backend.acquire(&request).await })
}

/// Attempts of one moment, which share a call.
fn acquire_together(backend: &Arc<RedisBackend>, requests: &[Request]) -> Vec<Result<Attempt>> {
    let (backend, requests) = (Arc::clone(backend), requests.to_vec());
    on_io(async move { join_all(requests.iter().map(|request| backend.acquire(request))).await })
}

fn granted(outcome: Result<Attempt>) -> Grant {
    match outcome {
        Ok(Attempt::Granted(grant)) => grant,
        other => panic!("not granted: {other:?}"),
    }
}

fn release(backend: &Arc<RedisBackend>, request: &Request) -> Result<bool> {
    let (backend, request) = (Arc::clone(backend), request.clone());
    on_io(async move { backend.release(&request.resources, request.owner, request.ttl, None).await })
}

/// Waits until something holds; fails if it never does.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The name of a resource's lock key.
fn lock_key(resource: &str) -> String {
    format!("fencelock:{{{resource}}}:lock")
}

fn fence_key(resource: &str) -> String {
    format!("fencelock:{{{resource}}}:fence")
}

fn code(error: &Error) -> &'static str {
    error.code()
}
