//! The way of a request whose node did not serve it: nothing was written, so it is sent again, to the node
//! that has the slot, or after a pause.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::nodes::Nodes;
use crate::backend::redis::config::slot::slot_of;
use crate::backend::redis::node::{Node, NodeError, NodeResult};
use crate::backend::redis::protocol::replies::redirect::{Elsewhere, Redirect};
use crate::error::{Error, Result};
use crate::lease::Resources;
use crate::runtime::backoff::Backoff;

/// How often one request follows redirects.
const MAX_HOPS: u32 = 5;
/// While a slot is moving.
const MOVING: Backoff = Backoff::exact(Duration::from_millis(10), Duration::from_millis(100));
/// While the cluster serves nothing.
const DOWN: Duration = Duration::from_millis(50);

/// What to do while the slot of a request is moving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnMigration {
    /// Wait for the end: new keys are on neither side.
    Wait,
    /// Ask the node that the slot is moving to.
    Ask,
    /// Give it back: there is another way.
    Stop,
}

/// The way of one request so far.
pub(crate) struct Detour {
    on_migration: OnMigration,
    until: Instant,
    hops: u32,
    reconnected: bool,
    pause: Backoff,
}

/// Where to send a request again.
pub(crate) enum NextStop {
    Node(Arc<Node>),
    /// The slot is moving to this node, which serves it only to those who ask.
    Asking(Arc<Node>),
    /// Nowhere: the slot is moving, and that is given back.
    Moving,
}

impl Detour {
    /// Of a request that may take this much more time.
    pub fn new(on_migration: OnMigration, time: Duration) -> Self {
        let until = Instant::now() + time;
        Self { on_migration, until, hops: 0, reconnected: false, pause: MOVING }
    }
}

impl Nodes {
    /// Makes a request of the node that has the slot of these resources. `call` is told whether the slot is
    /// moving to it. `None`: the slot is moving, which is given back with [`OnMigration::Stop`] only.
    pub async fn request<T, F>(
        self: &Arc<Self>,
        resources: &Resources,
        on_migration: OnMigration,
        call: impl Fn(Arc<Node>, bool) -> F,
    ) -> Result<Option<T>>
    where
        F: Future<Output = NodeResult<T>>,
    {
        let mut detour = Detour::new(on_migration, self.settings.command_timeout);
        let (mut node, mut asking) = (self.find(slot_of(resources.first())).await?, false);
        loop {
            let elsewhere = match call(Arc::clone(&node), asking).await {
                Ok(done) => return Ok(Some(done)),
                Err(NodeError::Failed(error)) => return Err(error),
                Err(NodeError::Elsewhere(elsewhere)) => elsewhere,
            };
            (node, asking) = match self.redirected(resources, &node, *elsewhere, &mut detour).await? {
                NextStop::Node(node) => (node, false),
                NextStop::Asking(node) => (node, true),
                NextStop::Moving => return Ok(None),
            };
        }
    }

    /// As [`Self::request`], with a single key: while its slot is moving, the node that it leaves has the
    /// key, or says which node to ask.
    pub async fn request_key<T, F>(
        self: &Arc<Self>,
        resources: &Resources,
        call: impl Fn(Arc<Node>, bool) -> F,
    ) -> Result<T>
    where
        F: Future<Output = NodeResult<T>>,
    {
        let done = self.request(resources, OnMigration::Ask, call).await?;
        Ok(done.expect("only OnMigration::Stop gives it back"))
    }

    /// Where to send a request that this node did not serve. Pauses if there is nowhere better now.
    pub async fn redirected(
        self: &Arc<Self>,
        resources: &Resources,
        node: &Arc<Node>,
        elsewhere: Elsewhere,
        detour: &mut Detour,
    ) -> Result<NextStop> {
        let slot = slot_of(resources.first());
        let asked = self.shard_of(node);
        let target = |target| {
            asked.as_ref().map(|shard| shard.target(target)).ok_or_else(|| {
                elsewhere.clone().into_error("the node that was asked has left the cluster", "try again")
            })
        };
        match &elsewhere.redirect {
            Redirect::Moved(moved) => {
                let (host, port, own) = target(moved)?;
                detour.hops += 1;
                if detour.hops > MAX_HOPS || (own && detour.reconnected) {
                    let what = format!("the nodes of the cluster keep redirecting slot {slot}");
                    return Err(elsewhere.into_error(&what, "check CLUSTER SLOTS of each node"));
                }
                if own {
                    // As behind a proxy whose server was replaced.
                    detour.reconnected = true;
                    asked.inspect(|shard| shard.reconnect());
                } else {
                    self.discovery.moved(moved.slot, &host, port);
                }
                self.discovery.request();
            }
            Redirect::Ask(_) | Redirect::TryAgain if detour.on_migration == OnMigration::Stop => {
                return Ok(NextStop::Moving);
            }
            Redirect::Ask(ask) if detour.on_migration == OnMigration::Ask && detour.hops < MAX_HOPS => {
                let (host, port, _) = target(ask)?;
                detour.hops += 1;
                return Ok(NextStop::Asking(Arc::clone(&self.at(&host, port).node)));
            }
            Redirect::Ask(_) | Redirect::TryAgain => {
                detour.hops = 0;
                let pause = detour.pause.next_pause();
                if Instant::now() + pause > detour.until {
                    let what = format!("slot {slot} is being moved to another node");
                    return Err(elsewhere.into_error(&what, "try again when it has moved"));
                }
                sleep(pause).await;
            }
            Redirect::Down => {
                if Instant::now() + DOWN > detour.until {
                    return Err(elsewhere.into_error("the Redis Cluster is down", "check CLUSTER INFO"));
                }
                self.discovery.request();
                sleep(DOWN).await;
            }
        }
        self.find(slot).await.map(NextStop::Node)
    }

    /// The node that has this slot, as soon as one is known.
    pub async fn find(self: &Arc<Self>, slot: u16) -> Result<Arc<Node>> {
        match self.owner(slot) {
            Some(node) => Ok(node),
            None => Box::pin(self.look_up(slot)).await,
        }
    }

    async fn look_up(self: &Arc<Self>, slot: u16) -> Result<Arc<Node>> {
        let until = Instant::now() + self.settings.command_timeout;
        loop {
            self.discovery.refreshed().await.map_err(|error| match self.discovery.map() {
                Some(_) => error.of_failover(),
                None => error,
            })?;
            if let Some(node) = self.owner(slot) {
                return Ok(node);
            }
            if Instant::now() + DOWN > until {
                return Err(Error::untouched(format!(
                    "no primary of the Redis Cluster serves slot {slot}; check CLUSTER INFO"
                ))
                .of_failover());
            }
            sleep(DOWN).await;
        }
    }
}
