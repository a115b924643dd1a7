//! The quorum against real servers.

mod clocks;
mod grants;
mod late;
mod minimum;
mod restarts;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use super::{Config, Options, QuorumBackend};
use crate::backend::contract::{Attempt, Grant, LockBackend, Request};
use crate::backend::redis::tests::on_io;
use crate::backend::redis::tests::servers::server::Server;
use crate::backend::redis::{Location, Options as NodeOptions};
use crate::error::Result;
use crate::lease::{AckPolicy, Mode, Owner, Resources, Ttl};
use crate::runtime::clock::Clock;

fn servers(count: usize) -> Vec<Server> {
    (0..count).map(|_| Server::start(&[])).collect()
}

fn options(urls: Vec<String>) -> Options {
    let node = |url| NodeOptions { replicas: 0, ..NodeOptions::new(Location::Url(url)) };
    Options { nodes: urls.into_iter().map(node).collect(), max_ttl_ms: 10_000, restart_delay_ms: Some(0) }
}

fn backend_with(options: Options) -> Arc<QuorumBackend> {
    let config = Config::new(options, &Clock::System).unwrap();
    Arc::new(QuorumBackend::new(config, Clock::System))
}

fn backend(servers: &[Server]) -> Arc<QuorumBackend> {
    backend_with(options(servers.iter().map(Server::url).collect()))
}

fn request(name: &str, ttl_ms: u32) -> Request {
    Request {
        resources: Resources::one(name).unwrap(),
        mode: Mode::Exclusive,
        owner: Owner::random(),
        ttl: Ttl::from_millis(ttl_ms).unwrap(),
        min_hold: Duration::ZERO,
        min_token: 0,
        acks: AckPolicy::default(),
        waiter: None,
    }
}

fn acquire(backend: &Arc<QuorumBackend>, request: &Request) -> Result<Attempt> {
    let (backend, request) = (Arc::clone(backend), request.clone());
    on_io(async move { backend.acquire(&request).await })
}

fn granted(outcome: Result<Attempt>) -> Grant {
    match outcome {
        Ok(Attempt::Granted(grant)) => grant,
        other => panic!("not granted: {other:?}"),
    }
}

fn release(backend: &Arc<QuorumBackend>, request: &Request) -> Result<bool> {
    let (backend, request) = (Arc::clone(backend), request.clone());
    on_io(async move { backend.release(&request.resources, request.owner, request.ttl, None).await })
}

fn extend(backend: &Arc<QuorumBackend>, request: &Request) -> Result<()> {
    let (backend, request) = (Arc::clone(backend), request.clone());
    let acks = AckPolicy::default();
    on_io(async move { backend.extend(&request.resources, request.owner, request.ttl, acks).await }).map(drop)
}

fn lock_key(name: &str) -> String {
    format!("fencelock:{{{name}}}:lock")
}

fn fence_key(name: &str) -> String {
    format!("fencelock:{{{name}}}:fence")
}

/// On how many of these servers the resource is locked.
fn locked(servers: &[Server], name: &str) -> usize {
    servers.iter().filter(|server| server.exists(&lock_key(name))).count()
}

/// Far longer than a message takes.
const MOMENT: Duration = Duration::from_millis(300);
