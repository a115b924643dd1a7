//! A primary of the cluster, and the way to it. It stays the same when a replica takes over.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::discovery::Discovery;
use super::map::{MapShard, Member};
use crate::backend::redis::config::endpoint::{Endpoint, ServerKind};
use crate::backend::redis::connection::route::{AnnouncedReplica, Locate, Route};
use crate::backend::redis::node::Node;
use crate::backend::redis::protocol::replies::redirect::{Redirect, RedirectTarget};
use crate::error::Result;
use crate::runtime::sync::Mutex;

/// A primary with its replicas.
pub(crate) struct Shard {
    pub node: Arc<Node>,
    route: Arc<Route>,
    place: Arc<ShardPlace>,
}

/// Where its primary is now.
pub(crate) struct ShardPlace {
    discovery: Arc<Discovery>,
    current: Mutex<MapShard>,
}

impl ShardPlace {
    fn endpoint(&self) -> Result<Arc<Endpoint>> {
        let primary = self.current.lock().primary.clone();
        self.discovery.endpoint(&primary, ServerKind::ClusterPrimary)
    }

    /// The announced address that a redirect of this primary names.
    fn target(&self, target: &RedirectTarget) -> (String, u16) {
        let host = target.host.clone().unwrap_or_else(|| self.current.lock().primary.host.clone());
        (host, target.port)
    }
}

impl Locate for ShardPlace {
    fn locate(&self) -> BoxFuture<'_, Result<Arc<Endpoint>>> {
        Box::pin(std::future::ready(self.endpoint()))
    }

    fn doubt(&self, _why: &str) {
        self.discovery.request();
    }

    /// Those of the map, which has the names by which clients reach them.
    fn replicas(&self, _told: &[(String, u16)]) -> Vec<AnnouncedReplica> {
        let replicas = self.current.lock().replicas.clone();
        let endpoint = |replica: &Member| self.discovery.endpoint(replica, ServerKind::Replica);
        replicas.iter().map(|it| ((it.host.clone(), it.port), endpoint(it))).collect()
    }

    fn redirected(&self, redirect: &Redirect) {
        if let Redirect::Moved(target) = redirect {
            let (host, port) = self.target(target);
            self.discovery.moved(target.slot, &host, port);
        }
        self.discovery.request();
    }
}

impl fmt::Display for ShardPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.endpoint() {
            Ok(endpoint) => endpoint.address.fmt(f),
            Err(_) => f.write_str(&self.current.lock().primary.host),
        }
    }
}

impl Shard {
    /// `node` makes the node that uses this route.
    pub fn new(discovery: &Arc<Discovery>, current: MapShard, node: impl FnOnce(Arc<Route>) -> Node) -> Self {
        let place = Arc::new(ShardPlace { discovery: Arc::clone(discovery), current: Mutex::new(current) });
        let route = Arc::new(Route::new(Arc::clone(&place) as Arc<dyn Locate>));
        Self { node: Arc::new(node(Arc::clone(&route))), route, place }
    }

    /// Its primary and replicas, as they were announced last.
    pub fn current(&self) -> MapShard {
        self.place.current.lock().clone()
    }

    /// Its primary and replicas now. If the primary is at another address, the connections to the old one
    /// end: at once, unless it is known to `answer`.
    pub fn update(&self, now: &MapShard, answers: bool) {
        const WHY: &str = "another server is the primary now";
        let old = std::mem::replace(&mut *self.place.current.lock(), now.clone());
        match old.primary.is_at(&now.primary.host, now.primary.port) {
            true => {}
            false if answers => self.route.succeed(WHY),
            false => self.route.replace(WHY),
        }
    }

    /// The announced address that a redirect of this primary names, and whether it is its own.
    pub fn target(&self, target: &RedirectTarget) -> (String, u16, bool) {
        let (host, port) = self.place.target(target);
        let own = self.place.current.lock().primary.is_at(&host, port);
        (host, port, own)
    }

    /// It redirected to itself, so its connections lead somewhere else.
    pub fn reconnect(&self) {
        self.route.succeed("it redirects to its own address");
    }
}
