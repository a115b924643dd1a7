//! Queues of callers of one manager that wait for the same resources with the same policy. Only the head of a
//! queue contacts the backend, so the cost of handing a lock over does not grow with the number of callers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::backend::contract::Busy;
use crate::error::Result;
use crate::lease::{AckPolicy, Resources};
use crate::runtime::sync::Mutex;

/// The queues of one backend.
#[derive(Debug, Default)]
pub struct WaitQueues(Mutex<HashMap<QueueKey, CallerQueue>>);

/// What the callers of a queue have in common: only then does what stops its head stop all of them.
type QueueKey = (Resources, AckPolicy);

#[derive(Debug, Default)]
struct CallerQueue {
    callers: VecDeque<Arc<Notify>>,
    /// What stopped the head's last attempt, if there was one.
    last: Option<Result<Busy>>,
}

impl WaitQueues {
    /// Joins the end of a queue, until the ticket is dropped.
    pub fn join(&self, resources: &Resources, acks: AckPolicy) -> Ticket<'_> {
        let (turn, key) = (Arc::new(Notify::new()), (resources.clone(), acks));
        self.0.lock().entry(key.clone()).or_default().callers.push_back(Arc::clone(&turn));
        Ticket { queues: self, key, turn }
    }
}

/// A caller's place in a queue.
#[derive(Debug)]
pub struct Ticket<'a> {
    queues: &'a WaitQueues,
    key: QueueKey,
    turn: Arc<Notify>,
}

impl Ticket<'_> {
    /// Returns once this caller is the head of its queue.
    pub async fn first(&self) {
        while !self.is_first() {
            self.turn.notified().await;
        }
    }

    /// Records what stopped the head's last attempt, or that nothing does any more.
    pub fn report(&self, last: Option<Result<Busy>>) {
        if let Some(queue) = self.queues.0.lock().get_mut(&self.key) {
            queue.last = last;
        }
    }

    /// What stopped the head's last attempt: another owner, or an error. When the lease ends is not passed
    /// on, because it may have changed since.
    pub fn last_outcome(&self) -> Result<Busy> {
        let last = self.queues.0.lock().get(&self.key).and_then(|queue| queue.last.clone());
        last.map_or_else(|| Ok(Busy::default()), |last| last.map(|busy| Busy { remaining: None, ..busy }))
    }

    /// Whether this caller is the head of its queue.
    pub fn is_first(&self) -> bool {
        let queues = self.queues.0.lock();
        let head = queues.get(&self.key).and_then(|queue| queue.callers.front());
        head.is_some_and(|head| Arc::ptr_eq(head, &self.turn))
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut queues = self.queues.0.lock();
        let Some(queue) = queues.get_mut(&self.key) else { return };
        // Mostly it is the head that leaves.
        if let Some(at) = queue.callers.iter().position(|turn| Arc::ptr_eq(turn, &self.turn)) {
            queue.callers.remove(at);
        }
        match queue.callers.front() {
            Some(head) => head.notify_one(),
            None => {
                queues.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use crate::error::Error;

    fn is_first(ticket: &Ticket<'_>) -> bool {
        let first = pin!(ticket.first());
        first.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn callers_get_their_turn_in_the_order_in_which_they_joined() {
        let (queues, a, b) =
            (WaitQueues::default(), Resources::one("a").unwrap(), Resources::one("b").unwrap());
        let acks = AckPolicy::default();
        let [one, two, three] = [(); 3].map(|()| queues.join(&a, acks));
        let other = queues.join(&b, acks);
        assert!(is_first(&one) && !is_first(&two) && !is_first(&three) && is_first(&other));
        drop(two);
        assert!(!is_first(&three), "a caller that gives up does not move others past the head");
        drop(one);
        assert!(is_first(&three));
        drop(three);
        drop(other);
        assert!(queues.0.lock().is_empty(), "a queue without callers is removed");
    }
    #[test]
    fn what_stops_a_head_is_told_to_those_with_the_same_policy_only() {
        let (queues, name) = (WaitQueues::default(), Resources::one("a").unwrap());
        let strict = AckPolicy { required: 2, timeout_ms: 50, fsync: false };
        let (head, behind) = (queues.join(&name, strict), queues.join(&name, strict));
        let other = queues.join(&name, AckPolicy::default());
        assert!(is_first(&other), "another policy has a queue of its own");
        head.report(Some(Err(Error::unavailable("away"))));
        assert!(behind.last_outcome().is_err() && other.last_outcome() == Ok(Busy::default()));
        head.report(Some(Ok(Busy { resource: 3, remaining: Some(Duration::from_secs(1)) })));
        assert_eq!(behind.last_outcome(), Ok(Busy { resource: 3, remaining: None }));
    }
}
