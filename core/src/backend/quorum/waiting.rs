//! Where waiters are queued. One that is not fair waits at the home of what it wants, where contenders meet
//! anyway. Fair ones are queued on all nodes, each at a place that it brings: if the nodes decided about it
//! by their own clocks, they would have different orders, and no waiter would be first at a majority.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::QuorumBackend;
use super::attempt::too_few_vote;
use super::members::Standing;
use crate::backend::waiter::Waiter;
use crate::error::Result;
use crate::lease::Resources;

/// How long the nodes at which a waiter waits are waited for.
const JOIN_LIMIT: Duration = Duration::from_millis(250);

impl QuorumBackend {
    /// Has a waiter woken from now on.
    pub(super) async fn start_waiting(&self, resources: &Resources, waiter: &Waiter) -> Result<()> {
        let standings = self.members.assembled().await?;
        let now_us = self.members.now_us();
        if waiter.is_fair() && now_us.is_none() {
            return Err(too_few_vote(&self.members, &standings, self.clock.boot()));
        }
        self.places.enter(waiter, now_us.filter(|_| waiter.is_fair()));
        let joined = self.wait_at(resources, waiter, &standings).await;
        if joined.is_err() {
            self.stop_waiting(resources, waiter).await;
        }
        joined
    }

    /// Has it woken by the nodes that matter now: its home, or all of them.
    pub(super) async fn wait_at(
        &self,
        resources: &Resources,
        waiter: &Waiter,
        standings: &[Standing],
    ) -> Result<()> {
        let nodes: Vec<_> = if waiter.is_fair() {
            (0..standings.len()).filter(|&node| standings[node].is_connected()).collect()
        } else {
            self.members.home(resources.first(), standings).into_iter().collect()
        };
        let joins = nodes.into_iter().filter(|&node| self.places.add(waiter, node)).map(|node| async move {
            self.members.all()[node].voter.wait_queue().join(resources, waiter).await
        });
        // A node that hangs wakes it once it answers again.
        let Ok(joined) = timeout(JOIN_LIMIT, join_all(joins)).await else { return Ok(()) };
        // One node that refuses subscriptions does not keep a fair waiter from being woken by the others.
        let refused = joined.iter().filter(|joined| joined.is_err()).count();
        match joined.into_iter().find(Result::is_err) {
            Some(error) if !waiter.is_fair() || refused >= self.members.need() => error,
            _ => Ok(()),
        }
    }

    /// Ends a wait, on all nodes where it waited.
    pub(super) async fn stop_waiting(&self, resources: &Resources, waiter: &Waiter) {
        let nodes = self.places.leave(waiter);
        let leaves = nodes.iter().map(|&node| {
            let queue = self.members.all()[node].voter.wait_queue();
            queue.leave(resources, waiter)
        });
        join_all(leaves).await;
    }
}
