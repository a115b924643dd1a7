//! A Redis Cluster of three primaries.

mod moving;
mod operations;
mod takeover;
mod waiting;

use crate::backend::contract::Info;
use crate::backend::redis::config::slot::slot_of;
use crate::backend::redis::tests::servers::clusters::ClusterServers;
use crate::backend::redis::tests::servers::server::{Server, available, free_port};
use crate::backend::redis::tests::*;
use crate::backend::waiter::Waiter;

fn cluster_options(cluster: &ClusterServers, replicas: u32) -> Options {
    Options { location: Location::Cluster(cluster.urls()), ..options("", replicas) }
}

fn cluster_backend(cluster: &ClusterServers, replicas: u32) -> Arc<RedisBackend> {
    backend_with(cluster_options(cluster, replicas))
}

fn several(names: &[&str]) -> Resources {
    Resources::many(names.iter().map(ToString::to_string).collect()).unwrap()
}

fn inspect(backend: &Arc<RedisBackend>, name: &'static str) -> Result<Option<Info>> {
    let backend = Arc::clone(backend);
    on_io(async move { backend.inspect(name).await })
}

fn extend(backend: &Arc<RedisBackend>, lease: &Request) -> Result<()> {
    let (backend, lease) = (Arc::clone(backend), lease.clone());
    on_io(async move { backend.extend(&lease.resources, lease.owner, lease.ttl, lease.acks).await.map(drop) })
}

fn force_release(backend: &Arc<RedisBackend>, name: &'static str) -> Result<bool> {
    let backend = Arc::clone(backend);
    on_io(async move { backend.force_release(name).await })
}

/// How often each of these commands failed for this reason, on all nodes.
pub fn errors(cluster: &ClusterServers, code: &str) -> usize {
    let line = format!("errorstat_{code}:count=");
    let count =
        |info: String| info.lines().find_map(|it| it.strip_prefix(&line)?.trim().parse().ok()).unwrap_or(0);
    cluster.nodes.iter().map(|node| count(node.info("errorstats"))).sum()
}
