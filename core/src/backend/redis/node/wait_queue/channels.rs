//! Which sharded channels a subscription has, and which it is to have.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::Notify;

/// How many subscriptions share a round trip.
pub(super) const BATCH: usize = 256;
/// Channels without waiters stay subscribed, because more may come soon, until there are more of them than of
/// the others, and than this.
const MAX_UNUSED: usize = 64;

/// The channels of one subscription.
#[derive(Default)]
pub(super) struct Channels {
    support: Support,
    /// Subscribed, or about to be.
    active: HashSet<Arc<str>>,
    /// To be subscribed.
    wanted: Vec<Arc<str>>,
    pub changed: Arc<Notify>,
}

#[derive(Default, PartialEq, Eq)]
pub(super) enum Support {
    /// There is no connection.
    #[default]
    Away,
    /// No reply yet.
    Unknown,
    Works,
    /// This server has no such channels, or this user may not subscribe to them.
    Refused,
}

impl Channels {
    /// Whether releases should publish there.
    pub fn work(&self) -> bool {
        self.support == Support::Works
    }

    /// There is a waiter for this channel.
    pub fn want(&mut self, channel: &Arc<str>) {
        if matches!(self.support, Support::Unknown | Support::Works) && !self.active.contains(channel) {
            self.wanted.push(Arc::clone(channel));
            self.changed.notify_one();
        }
    }

    /// A subscription was accepted.
    pub fn confirm(&mut self) {
        self.support = Support::Works;
    }

    /// Forgets all: those of a new connection, or of none.
    pub fn restart(&mut self, support: Support) {
        *self = Self { support, changed: Arc::clone(&self.changed), ..Self::default() };
    }

    /// A subscription is over. Returns whether that was not asked for.
    pub fn ended(&mut self, channel: &str) -> bool {
        self.active.remove(channel)
    }

    /// What to subscribe next.
    pub fn take_wanted(&mut self) -> Vec<Arc<str>> {
        let mut taken = Vec::new();
        while let Some(channel) = self.wanted.pop() {
            if self.active.insert(Arc::clone(&channel)) {
                taken.push(channel);
            }
            if taken.len() == BATCH {
                break;
            }
        }
        taken
    }

    /// Takes what is not used any more, if that is much, by the channels of this number of waiters.
    pub fn take_unused<'a>(
        &mut self,
        waiters: usize,
        used: impl Iterator<Item = &'a Arc<str>>,
    ) -> Vec<Arc<str>> {
        // Nearly always a waiter has one.
        if self.active.len() <= 2 * waiters + MAX_UNUSED {
            return Vec::new();
        }
        let used: HashSet<_> = used.collect();
        self.active.extract_if(|channel| !used.contains(channel)).collect()
    }
}
