//! One timer for many deadlines.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::clock::BootInstant;
use super::executor::Executor;
use super::sync::Mutex;
use crate::error::Result;

/// Timers of the runtime pause while the host is suspended, deadlines do not: no sleep is longer than this.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Something that is due at a moment.
pub trait Timed: Send + 'static {
    /// How long it still is until `at`; `None` when the target no longer exists.
    fn until(&self, at: BootInstant) -> Option<Duration>;

    /// Handles the deadline and returns the next one, if there is another. Must not block.
    fn fire(&self) -> Option<BootInstant>;

    /// Whether the target no longer exists, so that its entry can be removed early.
    fn is_gone(&self) -> bool;
}

/// A target and its next deadline, ordered by the latter.
struct Entry<T> {
    at: BootInstant,
    target: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

/// The deadlines of all targets of one kind in the process. One task on the I/O thread waits for the
/// earliest.
pub struct DeadlineQueue<T: Timed> {
    entries: Mutex<BinaryHeap<Reverse<Entry<T>>>>,
    /// Notified when a new entry is the earliest.
    earlier: Notify,
    running: AtomicBool,
}

impl<T: Timed> DeadlineQueue<T> {
    /// A queue without entries, whose task starts with the first.
    #[expect(clippy::new_without_default, reason = "queues are statics, and `default` is not const")]
    pub const fn new() -> Self {
        let entries = Mutex::new(BinaryHeap::new());
        Self { entries, earlier: Notify::const_new(), running: AtomicBool::new(false) }
    }

    /// Fires `target` at this moment, and again at each moment that it returns.
    pub fn add(&'static self, at: BootInstant, target: T) -> Result<()> {
        let executor = Executor::io()?;
        if !self.running.swap(true, Ordering::AcqRel) {
            executor.spawn(self.run());
        }
        self.push(Entry { at, target });
        Ok(())
    }

    fn push(&self, entry: Entry<T>) {
        let at = entry.at;
        let mut entries = self.entries.lock();
        let first = entries.peek().is_none_or(|Reverse(next)| at < next.at);
        // Entries without a target are removed before their time, but searched for only when the heap would
        // grow.
        if entries.len() == entries.capacity() {
            entries.retain(|Reverse(entry)| !entry.target.is_gone());
            // A heap that stays nearly full would be searched for every few entries.
            if entries.len() > entries.capacity() / 2 {
                let more = entries.len();
                entries.reserve(more);
            }
        }
        entries.push(Reverse(entry));
        drop(entries);
        if first {
            self.earlier.notify_one();
        }
    }

    async fn run(&self) {
        loop {
            match self.fire_due() {
                Some(pause) => {
                    let _ = tokio::time::timeout(pause, self.earlier.notified()).await;
                }
                None => self.earlier.notified().await,
            }
        }
    }

    /// Fires everything that is due, and returns how long nothing else is.
    fn fire_due(&self) -> Option<Duration> {
        loop {
            let mut entries = self.entries.lock();
            let Reverse(next) = entries.peek()?;
            match next.target.until(next.at) {
                None => {
                    entries.pop();
                }
                Some(left) if !left.is_zero() => return Some(left.min(LONGEST_SLEEP)),
                Some(_) => {
                    let Some(Reverse(Entry { target, .. })) = entries.pop() else { continue };
                    drop(entries);
                    // One target that panics must not stop the timer of all others.
                    let next = catch_unwind(AssertUnwindSafe(|| target.fire()));
                    if let Ok(Some(at)) = next {
                        self.entries.lock().push(Reverse(Entry { at, target }));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Weak};

    use crate::runtime::clock::Clock;
    use crate::runtime::clock::fake::FakeClock;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    static FIRED: Mutex<Vec<(char, BootInstant)>> = Mutex::new(Vec::new());

    /// Fires again five seconds after `start`, once that is still to come.
    struct Target {
        name: char,
        start: BootInstant,
        clock: Clock,
        alive: Weak<()>,
    }

    impl Timed for Target {
        fn until(&self, at: BootInstant) -> Option<Duration> {
            (!self.is_gone()).then(|| self.clock.boot().until(at))
        }

        fn fire(&self) -> Option<BootInstant> {
            let (now, last) = (self.clock.boot(), self.start + ms(5_000));
            FIRED.lock().push((self.name, now));
            assert!(self.name != 'p', "on purpose");
            (now < last).then_some(last)
        }

        fn is_gone(&self) -> bool {
            self.alive.strong_count() == 0
        }
    }

    #[test]
    fn each_target_fires_at_its_deadlines_unless_it_no_longer_exists() {
        static QUEUE: DeadlineQueue<Target> = DeadlineQueue::new();
        let clock = FakeClock::new();
        let start = clock.clock().boot();
        let (kept, dropped) = (Arc::new(()), Arc::new(()));
        let targets = [('p', 900, &kept), ('a', 3_000, &kept), ('b', 1_000, &kept), ('c', 2_000, &dropped)];
        for (name, at, alive) in targets {
            let target = Target { name, start, clock: clock.clock(), alive: Arc::downgrade(alive) };
            QUEUE.add(start + ms(at), target).unwrap();
        }
        drop(dropped);
        let fired = |count: usize| {
            // A fake clock wakes no one: the queue polls once a second.
            for _ in 0..40 {
                std::thread::sleep(ms(100));
                if FIRED.lock().len() >= count {
                    break;
                }
            }
            FIRED.lock().clone()
        };
        clock.advance(ms(1_500));
        assert_eq!(fired(2), [('p', start + ms(1_500)), ('b', start + ms(1_500))], "past one that panics");
        clock.advance(ms(2_000));
        assert_eq!(fired(3)[2..], [('a', start + ms(3_500))]);
        clock.advance(ms(1_500));
        let mut last: Vec<_> = fired(5)[3..].to_vec();
        last.sort_unstable();
        assert_eq!(last, [('a', start + ms(5_000)), ('b', start + ms(5_000))]);
    }
}
