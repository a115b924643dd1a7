//! Undoing in the background what may have been written.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;

use super::context::Link;
use crate::backend::redis::protocol::scripts::{self, RELEASE};
use crate::lease::{Owner, Resources, Ttl};
use crate::runtime::backoff::Backoff;
use crate::runtime::clock::BootInstant;

/// The most leases to undo at one time. Beyond it the one that ends first is left to its TTL: it has the least left to
/// gain, and memory stays bounded however long the server is away.
const MAX_PENDING: usize = 10_000;
/// The most compare-and-deletes in one pipeline, some calls of the script.
const MAX_BATCH: usize = 256;
/// Beyond the TTL, for the time a command is under way.
const SLACK: Duration = Duration::from_millis(250);

/// When a lease that is not there counts as undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// At once: whatever was sent has been carried out.
    Ends,
    /// Never: what was sent may still be carried out. Only its TTL, or having deleted it, is the end.
    MayYetCome,
}

/// The leases of one node that are to be undone. One task works on all of them, and only while there are any. It
/// outlives the manager, and ends with the process.
pub(crate) struct Cleanup {
    link: Link,
    // A std Mutex, because nothing awaits while it is held.
    state: Mutex<State>,
    added: Notify,
}

#[derive(Default)]
struct State {
    waiting: Vec<Item>,
    /// Taken out of `waiting` for the pipeline that is under way.
    in_hand: usize,
    working: bool,
    /// The backend was closed: the connection is given up when all is done.
    closed: bool,
}

struct Item {
    resources: Resources,
    owner: Owner,
    absent: Absent,
    until: BootInstant,
    due: BootInstant,
    backoff: Backoff,
}

enum Step {
    End,
    Sleep(Duration),
    Delete(Vec<Item>),
}

impl Cleanup {
    pub fn new(link: Link) -> Self {
        Self { link, state: Mutex::default(), added: Notify::new() }
    }

    /// Compares and deletes until the lease is gone for sure, or `ttl` has passed from now.
    pub fn add(self: &Arc<Self>, resources: &Resources, owner: Owner, ttl: Ttl, absent: Absent) {
        let now = self.link.clock.boot();
        let item = Item {
            resources: resources.clone(),
            owner,
            absent,
            until: now + ttl.as_duration() + SLACK,
            due: now,
            backoff: Backoff::CLEANUP,
        };
        let mut state = self.lock();
        state.add(item);
        if std::mem::replace(&mut state.working, true) {
            self.added.notify_one();
        } else {
            tokio::spawn(Arc::clone(self).work());
        }
    }

    /// How many leases are still to be undone.
    pub fn pending(&self) -> usize {
        let state = self.lock();
        state.waiting.len() + state.in_hand
    }

    /// The backend is closed: gives the connection up, now or when all is undone.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        if !state.working {
            self.link.control.hang_up();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(self: Arc<Self>) {
        loop {
            let step = self.lock().step(self.link.clock.boot());
            match step {
                Step::End => {
                    if self.lock().closed {
                        self.link.control.hang_up();
                    }
                    return;
                }
                Step::Sleep(time) => {
                    let _ = tokio::time::timeout(time, self.added.notified()).await;
                }
                Step::Delete(items) => {
                    let replies = self.delete(&items).await;
                    self.lock().settle(items, &replies, self.link.clock.boot());
                }
            }
        }
    }

    /// The replies that came, in order.
    async fn delete(&self, items: &[Item]) -> Vec<Value> {
        let leases: Vec<_> =
            items.iter().map(|item| scripts::Item::release(&item.resources, item.owner)).collect();
        let answer = self
            .link
            .control
            .exchange(1 + leases.len(), |packer, out| {
                // Always loaded: then no reply has to be looked at twice, and this is rare. In a call of its own each, so
                // that what the server refuses for one of them keeps no other from being deleted.
                RELEASE.pack_load(packer, out);
                for lease in &leases {
                    RELEASE.pack(&self.link.config.keys, std::iter::once(lease), packer, out);
                }
            })
            .await;
        let replies = answer.map_or_else(|_| Vec::new(), |answer| answer.replies);
        let only = |reply| match reply {
            Value::Array(mut list) if list.len() == 1 => list.remove(0),
            other => other,
        };
        replies.into_iter().skip(1).map(only).collect()
    }
}

impl State {
    fn add(&mut self, item: Item) {
        if self.waiting.len() + self.in_hand >= MAX_PENDING {
            let first = (0..self.waiting.len()).min_by_key(|&at| self.waiting[at].until);
            if let Some(first) = first {
                self.waiting.swap_remove(first);
            }
        }
        self.waiting.push(item);
    }

    fn step(&mut self, now: BootInstant) -> Step {
        self.waiting.retain(|item| item.until > now);
        let Some(first) = self.waiting.iter().map(|item| item.due).min() else {
            self.working = false;
            return Step::End;
        };
        if first > now {
            // At least a millisecond, which is as fine as the timer is.
            return Step::Sleep(now.until(first).max(Duration::from_millis(1)));
        }
        let mut due = Vec::new();
        let mut at = 0;
        while at < self.waiting.len() && due.len() < MAX_BATCH {
            if self.waiting[at].due <= now {
                due.push(self.waiting.swap_remove(at));
            } else {
                at += 1;
            }
        }
        self.in_hand = due.len();
        Step::Delete(due)
    }

    fn settle(&mut self, items: Vec<Item>, replies: &[Value], now: BootInstant) {
        self.in_hand = 0;
        let mut replies = replies.iter();
        for mut item in items {
            let over = match replies.next() {
                // A lease is written all at once: if any of it was there, it all was, and now it is gone.
                Some(Value::Int(deleted)) => *deleted > 0 || item.absent == Absent::Ends,
                _ => false,
            };
            if !over {
                item.due = now + item.backoff.next();
                self.waiting.push(item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(until_ms: u64, absent: Absent) -> Item {
        Item {
            resources: Resources::one("r").unwrap(),
            owner: Owner::random(),
            absent,
            until: BootInstant::from_micros(until_ms * 1000),
            due: BootInstant::from_micros(0),
            backoff: Backoff::CLEANUP,
        }
    }

    fn at(ms: u64) -> BootInstant {
        BootInstant::from_micros(ms * 1000)
    }

    fn take(state: &mut State, now: BootInstant) -> Vec<Item> {
        match state.step(now) {
            Step::Delete(items) => items,
            Step::Sleep(_) | Step::End => Vec::new(),
        }
    }

    #[test]
    fn absent_is_the_end_only_if_nothing_can_land_later() {
        let mut state = State::default();
        state.add(item(1_000, Absent::MayYetCome));
        state.add(item(1_000, Absent::Ends));
        let items = take(&mut state, at(1));
        let replies: Vec<Value> = vec![Value::Int(0); 2];
        state.settle(items, &replies, at(1));
        assert_eq!(state.waiting.len(), 1);
        assert_eq!(state.waiting[0].absent, Absent::MayYetCome);
        assert!(matches!(state.step(at(2)), Step::Sleep(_)), "not again at once");
        let items = take(&mut state, at(60));
        state.settle(items, &[Value::Int(1)], at(60));
        assert!(matches!(state.step(at(61)), Step::End), "deleted is the end");
    }

    #[test]
    fn no_reply_is_tried_again_until_the_ttl_has_passed() {
        let mut state = State::default();
        state.add(item(1_000, Absent::Ends));
        let mut tries = 0;
        for ms in 0..2_000 {
            let items = take(&mut state, at(ms));
            tries += items.len();
            state.settle(items, &[], at(ms));
        }
        assert!((4..=8).contains(&tries), "{tries} tries, ever more seldom");
        assert!(state.waiting.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_what_ends_first_is_dropped() {
        let mut state = State::default();
        for ms in 0..=MAX_PENDING as u64 {
            state.add(item(10_000 + ms, Absent::MayYetCome));
        }
        assert_eq!(state.waiting.len(), MAX_PENDING);
        assert!(state.waiting.iter().all(|item| item.until > at(10_000)));
    }
}
