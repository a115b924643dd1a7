//! The waiters of this process for leases of one node: wakes them in turn, and sends their heartbeat.
//!
//! The queues themselves are on the server (see `wait_queue.lua`): acquiring adds a waiter, a release wakes
//! the first one. Here is the client's part: one connection that subscribes to a channel of this process
//! while there are waiters ([`subscriber`]), in a cluster also to one for each resource ([`sharded`]), and
//! one heartbeat a second for all, which also finds the wake-ups that were lost ([`heartbeat`]).

mod channels;
mod heartbeat;
mod sharded;
mod subscriber;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;

use self::channels::Channels;
use super::{NodeError, NodeResult};
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::operation::Operation;
use crate::backend::redis::protocol::replies::expected::ScriptReply;
use crate::backend::redis::protocol::scripts::{JOIN_QUEUE, LEAVE_QUEUE};
use crate::backend::waiter::Waiter;
use crate::error::{Error, Result};
use crate::lease::Resources;
use crate::runtime::sync::Mutex;

/// The shortest pause between two heartbeats that messages ask for, and between two wake-ups of all waiters
/// because messages were lost. Any client may publish on our channel, and a flood of its messages must not
/// become a flood of scripts.
const FLOOD_PAUSE: Duration = Duration::from_millis(20);

/// The waiters of one node.
pub(crate) struct WaitQueue {
    context: NodeContext,
    state: Mutex<State>,
    /// `subscription` or `closed` changed. Tasks that wait for it continue in the order in which they
    /// started.
    changed: Notify,
    /// Each resource gets a heartbeat call of its own.
    separately: AtomicBool,
}

#[derive(Default)]
struct State {
    waiters: HashMap<u64, QueuedWaiter>,
    /// Whether the subscriber task runs.
    subscriber_running: bool,
    subscription: Subscription,
    channels: Channels,
    closed: bool,
}

struct QueuedWaiter {
    resources: Resources,
    waiter: Waiter,
    /// The sharded channels by which it is woken.
    channels: Box<[Arc<str>]>,
    /// Whether it is in the server's queues, as far as we know.
    on_server: bool,
}

#[derive(Clone, Default)]
enum Subscription {
    /// An attempt to subscribe is on its way.
    #[default]
    Pending,
    Active,
    /// The server cannot be reached now, or has no room for another client. Waiters are woken at every
    /// attempt to subscribe, and find out by their own attempts.
    Away,
    /// This server or user cannot subscribe at all.
    Refused(Error),
}

impl WaitQueue {
    pub fn new(context: NodeContext) -> Self {
        let separately = AtomicBool::new(false);
        Self { context, state: Mutex::default(), changed: Notify::new(), separately }
    }

    /// Registers a waiter and waits for the subscription, or for an attempt to subscribe that failed in a way
    /// that may pass.
    pub async fn join(self: &Arc<Self>, resources: &Resources, waiter: &Waiter) -> Result<()> {
        {
            let channels = self.channels_of(resources);
            let mut state = self.state.lock();
            if state.closed {
                return Err(Error::Closed);
            }
            channels.iter().for_each(|channel| state.channels.want(channel));
            let (resources, waiter) = (resources.clone(), waiter.clone());
            let queued = QueuedWaiter { resources, waiter, channels, on_server: false };
            state.waiters.insert(queued.waiter.number(), queued);
            if !std::mem::replace(&mut state.subscriber_running, true) {
                state.subscription = Subscription::Pending;
                tokio::spawn(Arc::clone(self).run_subscriber());
            }
        }
        loop {
            let mut changed = pin!(self.changed.notified());
            // Enabled before the check, so that no change in between is missed.
            changed.as_mut().enable();
            let (subscription, sharded) = {
                let state = self.state.lock();
                (state.subscription.clone(), state.channels.work())
            };
            match subscription {
                Subscription::Pending => changed.await,
                Subscription::Active | Subscription::Away => {
                    waiter.set_sharded(sharded);
                    return Ok(());
                }
                Subscription::Refused(error) => {
                    self.state.lock().waiters.remove(&waiter.number());
                    return Err(error);
                }
            }
        }
    }

    /// Adds a waiter to the server's queues, unless it is there already or its resources are free. Returns
    /// how long they are held, as an acquire does; `None`: the waiter may attempt. An attempt would add it
    /// too, but with a WAIT for which the replicas are asked in vain.
    pub async fn enqueue_if_held(&self, resources: &Resources, waiter: &Waiter) -> Option<i64> {
        if self.state.lock().waiters.get(&waiter.number()).is_none_or(|queued| queued.on_server) {
            return None;
        }
        let keys = &self.context.settings.keys;
        let entry = keys.waiter(waiter);
        let names = resources.as_slice().iter().map(AsRef::as_ref);
        let call = self.context.shared.run_script(&JOIN_QUEUE, |packer, out| {
            JOIN_QUEUE.pack_queues(keys, &names, Some(&entry), ScriptReply::Number, packer, out);
        });
        match call.await {
            Ok(Value::Int(reply)) if reply <= 0 => {
                if let Some(queued) = self.state.lock().waiters.get_mut(&waiter.number()) {
                    queued.on_server = true;
                }
                Some(reply)
            }
            // The attempt finds out what is wrong.
            _ => None,
        }
    }

    /// The waiter's lease was written, which removed it from the server's queues. If the lease does not
    /// count, it still waits, and may be queued again.
    pub fn written(&self, waiter: &Waiter, counts: bool) {
        let waiters = &mut self.state.lock().waiters;
        if counts {
            waiters.remove(&waiter.number());
        } else if let Some(queued) = waiters.get_mut(&waiter.number()) {
            queued.on_server = false;
        }
    }

    /// Ends a wait.
    pub async fn leave(&self, resources: &Resources, waiter: &Waiter) {
        if self.forget(waiter) {
            // An entry that cannot be removed now is soon taken for dead, or found by a heartbeat.
            let _ = self.remove(resources, waiter).await;
        }
    }

    /// The waiter does not wait here any more; its entries stay in the server's queues. Returns whether it
    /// did.
    pub fn forget(&self, waiter: &Waiter) -> bool {
        self.state.lock().waiters.remove(&waiter.number()).is_some()
    }

    /// Removes the entries of a waiter from the server's queues.
    pub async fn remove(&self, resources: &Resources, waiter: &Waiter) -> NodeResult<()> {
        let entry = self.context.settings.keys.waiter(waiter);
        self.remove_entry(resources.as_slice().iter().map(AsRef::as_ref), &entry).await
    }

    /// Wakes all waiters and ends the subscription. Each waiter leaves the server's queues by
    /// [`Self::leave`].
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.wake_all();
        self.changed.notify_waiters();
    }

    async fn remove_entry<'a>(
        &self,
        names: impl ExactSizeIterator<Item = &'a str> + Clone,
        entry: &str,
    ) -> NodeResult<()> {
        let keys = &self.context.settings.keys;
        let call = self.context.shared.run_script(&LEAVE_QUEUE, |packer, out| {
            LEAVE_QUEUE.pack_queues(keys, &names, Some(entry), ScriptReply::Number, packer, out);
        });
        let reply = call.await.map_err(|error| self.context.query_failed(error))?;
        if let Value::ServerError(error) = &reply
            && let Some(elsewhere) = self.context.reply_context(Operation::Query).elsewhere(error)
        {
            return Err(NodeError::Elsewhere(elsewhere));
        }
        Ok(())
    }

    fn wake(&self, number: u64) -> bool {
        let state = self.state.lock();
        state.waiters.get(&number).map(|queued| queued.waiter.wake()).is_some()
    }

    /// In the order in which they came. The server may have forgotten that order, and the waiter that tries
    /// first is then the first in its queue.
    fn wake_all(&self) {
        let state = self.state.lock();
        let mut waiters: Vec<_> = state.waiters.values().map(|queued| &queued.waiter).collect();
        waiters.sort_unstable_by_key(|waiter| waiter.number());
        waiters.into_iter().for_each(Waiter::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::redis::tests::on_io;
    use crate::backend::redis::tests::servers::server::{Server, available};

    #[test]
    fn all_are_woken_in_the_order_in_which_they_came() {
        if !available() {
            return;
        }
        let server = Server::start(&[]);
        let queue = Arc::new(WaitQueue::new(NodeContext::of_server(&server.url())));
        let order = on_io(async move {
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            for place in 0..50 {
                let (waiter, tell) = (Waiter::new(true), tell.clone());
                queue.join(&Resources::one("r").unwrap(), &waiter).await.unwrap();
                if place == 0 {
                    // Its subscription wakes it.
                    waiter.woken().await;
                }
                tokio::spawn(async move {
                    waiter.woken().await;
                    tell.send(place).unwrap();
                });
            }
            drop(tell);
            tokio::task::yield_now().await;
            queue.close();
            let mut order = Vec::new();
            while let Some(place) = told.recv().await {
                order.push(place);
            }
            order
        });
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }
}
