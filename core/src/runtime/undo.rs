//! Undo until confirmed: what to undo next, and when. Decisions only: no I/O, no clock.

use std::time::Duration;

use super::backoff::Backoff;
use super::clock::BootInstant;

/// The most entries at one time. Beyond it the entry that expires first is dropped: it has the least left to
/// gain, and memory stays bounded however long the backend is away.
const MAX_PENDING: usize = 10_000;

/// What it means that an undo found nothing to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// It is undone: whatever was sent has been executed.
    Done,
    /// Nothing: what was sent may still be executed, and lasts from then on. Only a deletion ends the undo,
    /// or this much time after the backend first answered again.
    KeepTrying(Duration),
}

/// The result of one attempt to undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UndoResult {
    /// There was something, and it is deleted.
    Deleted,
    /// There was nothing.
    Missing,
    /// The backend did not confirm either.
    Failed,
}

/// Something to undo.
pub(crate) struct Undo<T> {
    pub target: T,
    pub if_missing: IfMissing,
    /// At this time it has expired by itself, or is given up.
    pub until: BootInstant,
    /// Whether the backend has answered an attempt.
    pub answered: bool,
    /// The next attempt.
    pub due: BootInstant,
    pub backoff: Backoff,
}

impl<T> Undo<T> {
    /// The backend answered that there is nothing to delete. Returns whether that ends the undo.
    fn missing(&mut self, now: BootInstant) -> bool {
        match self.if_missing {
            IfMissing::Done => true,
            IfMissing::KeepTrying(time) => {
                if !std::mem::replace(&mut self.answered, true) {
                    self.until = self.until.min(now + time);
                }
                false
            }
        }
    }
}

/// What is to be undone. One worker attempts it, and runs only while there is something.
pub(crate) struct UndoQueue<T> {
    waiting: Vec<Undo<T>>,
    /// Taken out of `waiting` for the current attempt.
    in_flight: usize,
    /// Whether the worker runs.
    running: bool,
    max_batch: usize,
}

/// What the worker does next.
pub(crate) enum UndoStep<T> {
    /// Exit: nothing is left, and the next [`UndoQueue::add`] asks for a new worker.
    Exit,
    /// Wait for this time, or until something is added.
    Sleep(Duration),
    /// Attempt these, and report to [`UndoQueue::settle`].
    Attempt(Vec<Undo<T>>),
}

impl<T> UndoQueue<T> {
    /// One attempt takes at most `max_batch` entries.
    pub const fn new(max_batch: usize) -> Self {
        Self { waiting: Vec::new(), in_flight: 0, running: false, max_batch }
    }

    /// Adds an entry. Returns whether a worker must be started; otherwise the running one must be woken.
    pub fn add(&mut self, undo: Undo<T>) -> bool {
        if self.pending() >= MAX_PENDING
            && let Some(first) = (0..self.waiting.len()).min_by_key(|&at| self.waiting[at].until)
        {
            self.waiting.swap_remove(first);
        }
        self.waiting.push(undo);
        !std::mem::replace(&mut self.running, true)
    }

    /// Takes every entry out, because the caller undoes them itself; not those of the current attempt.
    pub fn take_all(&mut self) -> Vec<Undo<T>> {
        std::mem::take(&mut self.waiting)
    }

    /// The number of entries that are not undone yet.
    pub const fn pending(&self) -> usize {
        self.waiting.len() + self.in_flight
    }

    /// Whether a worker runs.
    pub const fn is_running(&self) -> bool {
        self.running
    }

    /// The worker panicked: what it attempted is dropped, and the next [`Self::add`] asks for a new worker.
    pub const fn abort(&mut self) {
        self.in_flight = 0;
        self.running = false;
    }

    /// The worker's next step.
    pub fn step(&mut self, now: BootInstant) -> UndoStep<T> {
        self.waiting.retain(|undo| undo.until > now);
        let Some(first) = self.waiting.iter().map(|undo| undo.due).min() else {
            self.running = false;
            return UndoStep::Exit;
        };
        if first > now {
            // At least a millisecond, the resolution of the timer.
            return UndoStep::Sleep(now.until(first).max(Duration::from_millis(1)));
        }
        let mut due = Vec::new();
        let mut at = 0;
        while at < self.waiting.len() && due.len() < self.max_batch {
            if self.waiting[at].due <= now {
                due.push(self.waiting.swap_remove(at));
            } else {
                at += 1;
            }
        }
        self.in_flight = due.len();
        UndoStep::Attempt(due)
    }

    /// Takes the results of an attempt, in the order of its entries; missing results count as failed.
    pub fn settle(
        &mut self,
        attempted: Vec<Undo<T>>,
        results: impl IntoIterator<Item = UndoResult>,
        now: BootInstant,
    ) {
        self.in_flight = 0;
        let mut results = results.into_iter();
        for mut undo in attempted {
            let done = match results.next() {
                Some(UndoResult::Deleted) => true,
                Some(UndoResult::Missing) => undo.missing(now),
                Some(UndoResult::Failed) | None => false,
            };
            if !done {
                undo.due = now + undo.backoff.next_pause();
                self.waiting.push(undo);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undo(until_ms: u64, if_missing: IfMissing) -> Undo<()> {
        let (until, due) = (at(until_ms), at(0));
        Undo { target: (), if_missing, until, answered: false, due, backoff: Backoff::UNDO }
    }

    const KEEP_TRYING: IfMissing = IfMissing::KeepTrying(Duration::from_millis(300));

    fn queue() -> UndoQueue<()> {
        UndoQueue::new(256)
    }

    fn at(ms: u64) -> BootInstant {
        BootInstant::from_micros(ms * 1000)
    }

    fn take(queue: &mut UndoQueue<()>, now: BootInstant) -> Vec<Undo<()>> {
        match queue.step(now) {
            UndoStep::Attempt(undos) => undos,
            UndoStep::Sleep(_) | UndoStep::Exit => Vec::new(),
        }
    }

    #[test]
    fn missing_is_done_only_if_nothing_can_be_executed_later() {
        let mut queue = queue();
        assert!(queue.add(undo(1_000, KEEP_TRYING)), "the first entry starts the worker");
        assert!(!queue.add(undo(1_000, IfMissing::Done)));
        let undos = take(&mut queue, at(1));
        queue.settle(undos, [UndoResult::Missing; 2], at(1));
        assert_eq!(queue.waiting.len(), 1);
        assert_eq!(queue.waiting[0].if_missing, KEEP_TRYING);
        assert!(matches!(queue.step(at(2)), UndoStep::Sleep(_)), "not again immediately");
        let undos = take(&mut queue, at(60));
        queue.settle(undos, [UndoResult::Deleted], at(60));
        assert!(matches!(queue.step(at(61)), UndoStep::Exit), "a deletion ends the undo");
        assert!(!queue.is_running());
    }

    #[test]
    fn what_may_be_executed_later_is_undone_until_its_time_after_the_first_answer() {
        let mut queue = queue();
        queue.add(undo(100_000, KEEP_TRYING));
        let (mut attempts_without_answer, mut last) = (0, 0);
        for ms in 0..20_000 {
            let undos = take(&mut queue, at(ms));
            if undos.is_empty() {
                continue;
            }
            last = ms;
            let answers = ms >= 9_000;
            attempts_without_answer += usize::from(!answers);
            queue.settle(undos, answers.then_some(UndoResult::Missing), at(ms));
        }
        assert!(attempts_without_answer > 5 && last >= 9_000, "{attempts_without_answer} {last}");
        assert!(queue.waiting.is_empty());
        queue.add(undo(100_000, KEEP_TRYING));
        let undos = take(&mut queue, at(50_000));
        queue.settle(undos, [UndoResult::Missing], at(50_000));
        assert_eq!(queue.waiting[0].until, at(50_300));
        let undos = take(&mut queue, at(50_200));
        queue.settle(undos, [UndoResult::Missing], at(50_200));
        assert_eq!(queue.waiting[0].until, at(50_300), "counted from the first answer");
    }

    #[test]
    fn failures_are_retried_until_the_ttl_has_passed() {
        let mut queue = queue();
        queue.add(undo(1_000, IfMissing::Done));
        let mut tries = 0;
        for ms in 0..2_000 {
            let undos = take(&mut queue, at(ms));
            tries += undos.len();
            queue.settle(undos, [], at(ms));
        }
        assert!((4..=8).contains(&tries), "{tries} tries, with growing pauses");
        assert!(queue.waiting.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_the_entry_that_expires_first_is_dropped() {
        let mut queue = queue();
        for ms in 0..=MAX_PENDING as u64 {
            queue.add(undo(10_000 + ms, KEEP_TRYING));
        }
        assert_eq!(queue.waiting.len(), MAX_PENDING);
        assert!(queue.waiting.iter().all(|undo| undo.until > at(10_000)));
    }
}
