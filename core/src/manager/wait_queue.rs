//! Queues of callers of one manager that wait for the same resources. Only the head of a queue contacts the
//! backend, so the cost of handing a lock over does not grow with the number of callers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::error::Error;
use crate::lease::Resources;
use crate::runtime::sync::Mutex;

/// The queues of one backend, by the resources that their callers wait for.
#[derive(Debug, Default)]
pub struct WaitQueues(Mutex<HashMap<Resources, CallerQueue>>);

#[derive(Debug, Default)]
struct CallerQueue {
    callers: VecDeque<Arc<Notify>>,
    /// The last error of the head's attempts.
    last_error: Option<Error>,
}

impl WaitQueues {
    /// Joins the end of a queue, until the ticket is dropped.
    pub fn join<'a>(&'a self, resources: &'a Resources) -> Ticket<'a> {
        let turn = Arc::new(Notify::new());
        self.0.lock().entry(resources.clone()).or_default().callers.push_back(Arc::clone(&turn));
        Ticket { queues: self, resources, turn }
    }
}

/// A caller's place in a queue.
#[derive(Debug)]
pub struct Ticket<'a> {
    queues: &'a WaitQueues,
    resources: &'a Resources,
    turn: Arc<Notify>,
}

impl Ticket<'_> {
    /// Returns once this caller is the head of its queue.
    pub async fn first(&self) {
        while !self.is_first() {
            self.turn.notified().await;
        }
    }

    /// Records the error of the head's last attempt, or that there is none any more.
    pub fn set_error(&self, error: Option<Error>) {
        if let Some(queue) = self.queues.0.lock().get_mut(self.resources) {
            queue.last_error = error;
        }
    }

    /// The error of the head's last attempt, if it failed.
    pub fn last_error(&self) -> Option<Error> {
        self.queues.0.lock().get(self.resources).and_then(|queue| queue.last_error.clone())
    }

    /// Whether this caller is the head of its queue.
    pub fn is_first(&self) -> bool {
        let queues = self.queues.0.lock();
        let head = queues.get(self.resources).and_then(|queue| queue.callers.front());
        head.is_some_and(|head| Arc::ptr_eq(head, &self.turn))
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut queues = self.queues.0.lock();
        let Some(queue) = queues.get_mut(self.resources) else { return };
        // Mostly it is the head that leaves.
        if let Some(at) = queue.callers.iter().position(|turn| Arc::ptr_eq(turn, &self.turn)) {
            queue.callers.remove(at);
        }
        match queue.callers.front() {
            Some(head) => head.notify_one(),
            None => {
                queues.remove(self.resources);
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

    fn is_first(ticket: &Ticket<'_>) -> bool {
        let first = pin!(ticket.first());
        first.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn callers_get_their_turn_in_the_order_in_which_they_joined() {
        let (queues, a, b) =
            (WaitQueues::default(), Resources::one("a").unwrap(), Resources::one("b").unwrap());
        let one = queues.join(&a);
        let two = queues.join(&a);
        let three = queues.join(&a);
        let other = queues.join(&b);
        assert!(is_first(&one) && !is_first(&two) && !is_first(&three) && is_first(&other));
        drop(two);
        assert!(!is_first(&three), "a caller that gives up does not move others past the head");
        drop(one);
        assert!(is_first(&three));
        drop(three);
        drop(other);
        assert!(queues.0.lock().is_empty(), "a queue without callers is removed");
    }
}
