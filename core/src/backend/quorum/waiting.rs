//! Where waiters are queued. One that is not fair waits at the home of what it wants, where contenders meet
//! anyway. Fair ones are queued on all nodes, each at a place that it brings: if the nodes decided about it
//! by their own clocks, they would have different orders, and no waiter would be first at a majority.

use futures_util::future::join_all;

use super::QuorumBackend;
use super::members::Standing;
use crate::backend::waiter::Waiter;
use crate::error::Result;
use crate::lease::Resources;

impl QuorumBackend {
    /// Has a waiter woken from now on.
    pub(super) async fn start_waiting(&self, resources: &Resources, waiter: &Waiter) -> Result<()> {
        let standings = self.members.assembled().await?;
        let at = if waiter.is_fair() { Some(self.members.now_us().unwrap_or(0)) } else { None };
        self.places.enter(waiter, at);
        let joined = self.wait_at(resources, waiter, &standings).await;
        if joined.is_err() {
            self.places.leave(waiter);
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
        let joined = join_all(joins).await;
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
