//! What the store keeps of a resource.

use std::collections::VecDeque;
use std::time::Duration;

use crate::backend::Waiter;
use crate::lease::Owner;
use crate::runtime::clock::BootInstant;

/// A resource that is held, waited for, or was granted a moment ago.
#[derive(Debug, Default)]
pub struct Row {
    /// Its last token; 0 if there was none.
    pub token: u64,
    /// Its lease, whether active or over.
    pub lease: Option<Lease>,
    /// The fair waiters, in the order in which they are served.
    queue: VecDeque<Waiter>,
    /// The others.
    waiting: Vec<Waiter>,
}

/// A lease as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// Its owner.
    pub owner: Owner,
    /// When it ends.
    pub end: BootInstant,
}

impl Row {
    /// The lease, and how much longer it lasts; `None` if its time has passed.
    pub fn active(&self, now: BootInstant) -> Option<(Lease, Duration)> {
        let lease = self.lease?;
        let remaining = now.until(lease.end);
        (!remaining.is_zero()).then_some((lease, remaining))
    }

    /// Whether nothing but the token is left of it.
    pub fn is_idle(&self, now: BootInstant) -> bool {
        self.active(now).is_none() && self.queue.is_empty() && self.waiting.is_empty()
    }

    /// Whether fair waiters are to be served before this one, or before a request without a waiter.
    pub fn is_behind(&self, waiter: Option<&Waiter>) -> bool {
        self.queue.front().is_some_and(|head| waiter.is_none_or(|waiter| !is_same(head, waiter)))
    }

    /// How many wait for it.
    pub fn waiters(&self) -> u32 {
        u32::try_from(self.queue.len() + self.waiting.len()).unwrap_or(u32::MAX)
    }

    /// Has a waiter that is not fair woken from now on.
    pub fn join(&mut self, waiter: &Waiter) {
        if !self.waiting.iter().any(|other| is_same(other, waiter)) {
            self.waiting.push(waiter.clone());
        }
    }

    /// Puts a fair waiter at the end of the queue, unless it has entered already.
    pub fn enter_queue(&mut self, waiter: &Waiter) {
        if !self.queue.iter().any(|other| is_same(other, waiter)) {
            self.queue.push_back(waiter.clone());
        }
    }

    /// Removes a waiter. Returns whether it was in the queue.
    pub fn remove(&mut self, waiter: &Waiter) -> bool {
        self.waiting.retain(|other| !is_same(other, waiter));
        let place = self.queue.iter().position(|other| is_same(other, waiter));
        place.is_some_and(|place| self.queue.remove(place).is_some())
    }

    /// Has those attempt whose turn it is: the head of the queue or, if there is none, all that wait for
    /// chance. Those are few, because a manager lets only one of the callers with the same wish wait here.
    pub fn wake_next(&self) {
        match self.queue.front() {
            Some(head) => head.wake(),
            None => self.waiting.iter().for_each(Waiter::wake),
        }
    }
}

fn is_same(one: &Waiter, other: &Waiter) -> bool {
    one.number() == other.number()
}
