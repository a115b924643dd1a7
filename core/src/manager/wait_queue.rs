//! Where the callers of one manager wait for the same resources: first come, first served, and only the first of a line
//! asks the backend. So what a hand-over costs does not grow with the callers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::error::Error;
use crate::lease::Resources;

/// The lines of one backend, by what they wait for.
#[derive(Debug, Default)]
pub struct WaitQueues {
    // A std Mutex, because nothing awaits while it is held.
    lines: Mutex<HashMap<Resources, Line>>,
}

#[derive(Debug, Default)]
struct Line {
    places: VecDeque<Arc<Notify>>,
    /// What keeps its first from asking.
    trouble: Option<Error>,
}

impl WaitQueues {
    /// Goes to the end of a line, until the place is dropped.
    pub fn enter<'a>(&'a self, resources: &'a Resources) -> Place<'a> {
        let bell = Arc::new(Notify::new());
        self.lock().entry(resources.clone()).or_default().places.push_back(Arc::clone(&bell));
        Place { queues: self, resources, bell }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Resources, Line>> {
        // Every change under the lock leaves whole lines.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a line.
#[derive(Debug)]
pub struct Place<'a> {
    queues: &'a WaitQueues,
    resources: &'a Resources,
    bell: Arc<Notify>,
}

impl Place<'_> {
    /// Until it is the first of its line.
    pub async fn first(&self) {
        while !self.is_first() {
            self.bell.notified().await;
        }
    }

    /// Tells those behind what keeps the first of them from asking, if anything does.
    pub fn tell(&self, trouble: Option<Error>) {
        if let Some(line) = self.queues.lock().get_mut(self.resources) {
            line.trouble = trouble;
        }
    }

    /// What the first of the line ran into.
    pub fn trouble(&self) -> Option<Error> {
        self.queues.lock().get(self.resources).and_then(|line| line.trouble.clone())
    }

    /// Whether it is the first of its line.
    pub fn is_first(&self) -> bool {
        self.queues
            .lock()
            .get(self.resources)
            .and_then(|line| line.places.front())
            .is_some_and(|first| Arc::ptr_eq(first, &self.bell))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.queues.lock();
        let Some(line) = lines.get_mut(self.resources) else { return };
        // Mostly it is the first one that leaves.
        if let Some(at) = line.places.iter().position(|bell| Arc::ptr_eq(bell, &self.bell)) {
            line.places.remove(at);
        }
        match line.places.front() {
            Some(first) => first.notify_one(),
            None => {
                lines.remove(self.resources);
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

    fn is_first(place: &Place<'_>) -> bool {
        let first = pin!(place.first());
        first.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn whoever_came_first_is_first_and_the_next_follows() {
        let (queues, a, b) =
            (WaitQueues::default(), Resources::one("a").unwrap(), Resources::one("b").unwrap());
        let one = queues.enter(&a);
        let two = queues.enter(&a);
        let three = queues.enter(&a);
        let other = queues.enter(&b);
        assert!(is_first(&one) && !is_first(&two) && !is_first(&three) && is_first(&other));
        drop(two);
        assert!(!is_first(&three), "who gives up lets nobody past the first");
        drop(one);
        assert!(is_first(&three));
        drop(three);
        drop(other);
        assert!(queues.lock().is_empty(), "nothing is left of lines that ended");
    }
}
