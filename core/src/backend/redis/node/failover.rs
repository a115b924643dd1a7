//! Notices that another server may have taken over, and which leases it has.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::Value;

use super::inspect::refused;
use super::{Neighbours, NodeResult};
use crate::backend::contract::{FailoverListener, Outage};
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::lease_args::LeaseArgs;
use crate::backend::redis::protocol::operation::Operation;
use crate::backend::redis::protocol::scripts::HELD;
use crate::error::{Error, Result};
use crate::lease::Resources;

/// Tells a listener of the outages of one node, one at a time.
pub(super) struct FailoverWatch {
    context: NodeContext,
    neighbours: Option<Weak<dyn Neighbours>>,
    listener: OnceLock<FailoverListener>,
    /// How often the server came into doubt.
    doubts: AtomicU64,
    /// The generation whose server has been reported.
    known: AtomicU64,
    /// There is an outage that the listener knows of.
    told: AtomicBool,
}

struct NodeOutage {
    watch: Arc<FailoverWatch>,
    /// When it began.
    doubts: u64,
    generation: u64,
}

impl FailoverWatch {
    pub fn new(context: NodeContext, neighbours: Option<Weak<dyn Neighbours>>) -> Self {
        Self {
            context,
            neighbours,
            listener: OnceLock::new(),
            doubts: AtomicU64::new(0),
            known: AtomicU64::new(0),
            told: AtomicBool::new(false),
        }
    }

    /// Sets the listener, once.
    pub fn listen(self: &Arc<Self>, listener: FailoverListener) {
        let _ = self.listener.set(listener);
        let watch = Arc::downgrade(self);
        self.context.connector.route().on_doubt(Box::new(move || {
            if let Some(watch) = watch.upgrade() {
                watch.doubts.fetch_add(1, Ordering::SeqCst);
                watch.tell();
            }
        }));
    }

    fn tell(self: &Arc<Self>) {
        let Some(listener) = self.listener.get() else { return };
        if !self.told.swap(true, Ordering::SeqCst) {
            listener(Arc::new(NodeOutage {
                watch: Arc::clone(self),
                doubts: self.doubts.load(Ordering::SeqCst),
                generation: self.context.connector.route().generation(),
            }));
        }
    }
}

impl Outage for NodeOutage {
    fn concerns(&self, resources: &Resources) -> bool {
        let neighbours = self.watch.neighbours.as_ref().map(Weak::upgrade);
        let route = self.watch.context.connector.route();
        neighbours.is_none_or(|nodes| nodes.is_some_and(|nodes| nodes.owns(route, resources)))
    }

    fn is_failover(&self) -> BoxFuture<'_, Result<bool>> {
        let FailoverWatch { context, known, .. } = &*self.watch;
        async move {
            context.shared.get().await?;
            // Connecting has found out whether it is the same server.
            let generation = context.connector.route().generation();
            Ok(known.fetch_max(generation, Ordering::SeqCst) < generation)
        }
        .boxed()
    }
}

impl Drop for NodeOutage {
    fn drop(&mut self) {
        let watch = &self.watch;
        // The listener has no lease from before.
        watch.known.fetch_max(self.generation, Ordering::SeqCst);
        watch.told.store(false, Ordering::SeqCst);
        if watch.doubts.load(Ordering::SeqCst) != self.doubts {
            watch.tell();
        }
    }
}

/// Whether each of these leases is on the server, which must be the same from now to the reply.
pub(super) async fn find_held(context: &NodeContext, leases: &[LeaseArgs]) -> NodeResult<Vec<bool>> {
    let route = context.connector.route();
    let generation = route.generation();
    let call = context.shared.run_script(&HELD, |packer, out| {
        HELD.pack(&context.settings.keys, leases.iter(), packer, out);
    });
    let reply = call.await.map_err(|error| context.query_failed(error))?;
    let Value::Array(items) = reply else {
        if matches!(&reply, Value::ServerError(error) if error.code() == "CROSSSLOT") {
            context.by_slot.store(true, Ordering::Relaxed);
        }
        return Err(refused(context.reply_context(Operation::Query), &reply));
    };
    if route.generation() != generation {
        let why = format!("redis at {route}: another server took over meanwhile; ask again");
        return Err(Error::unavailable(why).into());
    }
    // Anything else does not say that it is lost.
    Ok(items.iter().map(|item| *item != Value::Int(0)).collect())
}
