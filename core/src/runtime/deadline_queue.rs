//! A timer that many leases share: a task that looks at each of them when its time comes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::error::Result;
use crate::manager::{HeldLease, Manager};
use crate::runtime::clock::BootInstant;
use crate::runtime::executor::Executor;

/// The runtime's timers stand still while the host is suspended and the leases do not, so no sleep is longer.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// What is done about a lease whose time has come: answers when to look at it again, if ever.
type Look = fn(&Arc<Manager>, &Arc<HeldLease>) -> Option<BootInstant>;

/// A lease to look at, and when.
struct Entry {
    at: BootInstant,
    manager: Weak<Manager>,
    held: Weak<HeldLease>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

/// One timer for leases of all managers of the process. It keeps none of them alive, and turns on the I/O thread.
pub(crate) struct Wheel {
    look: Look,
    /// A std mutex: nothing awaits while it is held.
    entries: Mutex<BinaryHeap<Reverse<Entry>>>,
    earlier: Notify,
    turning: AtomicBool,
}

impl Wheel {
    /// A wheel that stands still until something is added.
    pub(crate) const fn new(look: Look) -> Self {
        let entries = Mutex::new(BinaryHeap::new());
        Self { look, entries, earlier: Notify::const_new(), turning: AtomicBool::new(false) }
    }

    /// Looks at this lease at this moment, and again whenever the look says so.
    pub(crate) fn add(
        &'static self,
        at: BootInstant,
        manager: &Arc<Manager>,
        held: &Arc<HeldLease>,
    ) -> Result<()> {
        let executor = Executor::io()?;
        if !self.turning.swap(true, Ordering::AcqRel) {
            executor.spawn(self.turn());
        }
        self.push(Entry { at, manager: Arc::downgrade(manager), held: Arc::downgrade(held) });
        Ok(())
    }

    fn push(&self, entry: Entry) {
        let at = entry.at;
        let mut entries = self.entries();
        let first = entries.peek().is_none_or(|Reverse(next)| at < next.at);
        // What was released goes before its time comes; looked for only when the heap would grow.
        if entries.len() == entries.capacity() {
            entries.retain(|Reverse(entry)| entry.held.strong_count() > 0);
            // Or it is looked through again for every few that come.
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

    async fn turn(&self) {
        loop {
            match self.look_at_due() {
                Some(pause) => {
                    let _ = tokio::time::timeout(pause, self.earlier.notified()).await;
                }
                None => self.earlier.notified().await,
            }
        }
    }

    /// Looks at everything that is due, and answers how long nothing else is.
    fn look_at_due(&self) -> Option<Duration> {
        loop {
            let mut entries = self.entries();
            let Reverse(next) = entries.peek()?;
            let Some((manager, held)) = next.manager.upgrade().zip(next.held.upgrade()) else {
                entries.pop(); // released, or the manager is gone
                continue;
            };
            let pause = manager.clock().boot().until(next.at);
            if !pause.is_zero() {
                return Some(pause.min(LONGEST_SLEEP));
            }
            entries.pop();
            drop(entries);
            // One lease that cannot be looked at must not leave all others alone.
            let next = std::panic::catch_unwind(AssertUnwindSafe(|| (self.look)(&manager, &held)));
            if let Ok(Some(at)) = next {
                let entry = Entry { at, manager: Arc::downgrade(&manager), held: Arc::downgrade(&held) };
                self.entries().push(Reverse(entry));
            }
        }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, BinaryHeap<Reverse<Entry>>> {
        // A heap that a panic interrupted is still a heap: at worst an entry is out of order.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
