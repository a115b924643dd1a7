//! Where waiters are queued. One that is not fair waits at the home of what it wants, where contenders meet
//! anyway; if a majority without its home has the lease, it waits at one of those, too. Fair ones are queued
//! on all nodes, each at a place that it brings: if the nodes decided about it by their own clocks, they
//! would have different orders, and no waiter would be first at a majority.

use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::{sleep, timeout};

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
        // If the vote was split, the owner that has the home node asks the others again in a moment. Who gave
        // way and came back sooner would take those from it, and split the vote again.
        let home = self.members.home(resources.first(), &standings).filter(|_| !waiter.is_fair());
        let round_trip = home.and_then(|home| self.members.all()[home].round_trip());
        let (joined, ()) =
            join(self.wait_at(resources, waiter, &standings), sleep(round_trip.unwrap_or_default())).await;
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
            let home = self.members.home(resources.first(), standings);
            home.into_iter().chain(self.places.also_at(waiter)).collect()
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
