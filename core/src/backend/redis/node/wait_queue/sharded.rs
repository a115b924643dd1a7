//! The sharded channels of a cluster's waiters. A message on one of them stays in the shard, where PUBLISH
//! goes to every node of the cluster. Each is in the slot of its resources, and its subscription ends with a
//! message when that slot moves to another node, so the waiters follow it at once.
//!
//! Waiters never depend on them: a release that finds no subscriber here uses the channel of the process.

use std::sync::Arc;

use redis::Value;

use super::channels::{BATCH, Support};
use super::{QueuedWaiter, State, WaitQueue};
use crate::backend::redis::connection::Connection;
use crate::backend::redis::protocol::replies::expected::ExpectedReply;
use crate::lease::Resources;

impl WaitQueue {
    /// The channels for these resources, in a cluster.
    pub(super) fn channels_of(&self, resources: &Resources) -> Box<[Arc<str>]> {
        if !self.context.of_cluster {
            return Box::default();
        }
        let keys = &self.context.settings.keys;
        let mut channels: Vec<Arc<str>> =
            resources.as_slice().iter().map(|name| keys.sharded_channel(name).into()).collect();
        channels.sort_unstable();
        channels.dedup();
        channels.into()
    }

    /// Subscribes on a new connection, and learns whether that works.
    pub(super) async fn begin_channels(&self, connection: &Connection) {
        {
            let mut state = self.state.lock();
            let State { waiters, channels, .. } = &mut *state;
            channels.restart(Support::Unknown);
            waiters.values().flat_map(|queued| &queued.channels).for_each(|channel| channels.want(channel));
        }
        self.subscribe_wanted(connection).await;
    }

    /// The connection is gone.
    pub(super) fn end_channels(&self) {
        self.state.lock().channels.restart(Support::Away);
    }

    /// Subscribes to the channels of new waiters, for as long as that works.
    pub(super) async fn follow_channels(&self, connection: &Connection) {
        let changed = Arc::clone(&self.state.lock().channels.changed);
        loop {
            changed.notified().await;
            while self.subscribe_wanted(connection).await {}
            self.unsubscribe_unused(connection);
        }
    }

    /// Subscribes to some channels. Returns whether there may be more to do.
    async fn subscribe_wanted(&self, connection: &Connection) -> bool {
        let wanted = self.state.lock().channels.take_wanted();
        if wanted.is_empty() {
            return false;
        }
        let sent = connection.send([wanted.len()], self.context.settings.command_timeout, |packer, out| {
            for channel in &wanted {
                packer.command(out, ExpectedReply::List, |cmd| {
                    cmd.arg("SSUBSCRIBE").arg(&**channel);
                });
            }
        });
        // If the connection breaks, the subscriber makes another one.
        let Ok([exchange]) = sent else { return false };
        let replies = connection.receive(exchange).await.replies;
        for (channel, reply) in wanted.iter().zip(replies) {
            match reply {
                Value::ServerError(error) if self.is_redirect(&error) => self.channel_ended(channel),
                // Without the command, or the permission: the channel of the process does.
                Value::ServerError(_) => {
                    self.state.lock().channels.restart(Support::Refused);
                    return false;
                }
                _ => self.state.lock().channels.confirm(),
            }
        }
        true
    }

    /// This subscription is over because the slot has moved, or soon will be: its waiters find the new owner.
    pub(super) fn channel_ended(&self, channel: &str) {
        let mut state = self.state.lock();
        let State { waiters, channels, .. } = &mut *state;
        if channels.ended(channel) {
            let listens = |queued: &&QueuedWaiter| queued.channels.iter().any(|it| **it == *channel);
            waiters.values().filter(listens).for_each(|queued| queued.waiter.wake());
        }
    }

    fn unsubscribe_unused(&self, connection: &Connection) {
        let unused = {
            let mut state = self.state.lock();
            let State { waiters, channels, .. } = &mut *state;
            channels.take_unused(waiters.len(), waiters.values().flat_map(|queued| &queued.channels))
        };
        for channels in unused.chunks(BATCH) {
            // Its end is a message.
            let _ = connection.send([0], self.context.settings.command_timeout, |packer, out| {
                for channel in channels {
                    packer.command_without_reply(out, |cmd| {
                        cmd.arg("SUNSUBSCRIBE").arg(&**channel);
                    });
                }
            });
        }
    }
}
