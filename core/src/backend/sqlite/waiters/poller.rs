//! The task that wakes the waiters of this process.
//!
//! SQLite does not notify other processes of a commit. So while there are waiters, and only then, a task on
//! the file's thread checks every few milliseconds whether there was one. That costs a microsecond or two;
//! the leases are read only if there was a commit. A holder that dies commits nothing, so the leases are also
//! read at longer intervals.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use scopeguard::ScopeGuard;
use tokio::task::JoinHandle;

use super::local_waiters::{Line, LocalWaiters};
use crate::backend::Waiter;
use crate::backend::sqlite::commit::committer::Committer;
use crate::backend::sqlite::commit::group_commit::GroupCommit;
use crate::backend::sqlite::commit::operations::{self, Eligible};
use crate::backend::sqlite::errors;
use crate::backend::sqlite::retry::RetryBudget;
use crate::backend::sqlite::store::ChangeMarker;
use crate::backend::sqlite::store::access::Needs;
use crate::backend::sqlite::store::fair_queue::HEARTBEAT_VALIDITY;
use crate::backend::sqlite::store::transaction::Tx;
use crate::lease::Resources;
use crate::runtime::executor::Executor;

/// The pause between two checks for a commit. Timers are late by up to a millisecond, and a release must be
/// noticed within five. Most of what waiting costs is waking up for these checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(3);
/// The same on a network file system, where each check takes a lock.
const NETWORK_CHECK_INTERVAL: Duration = Duration::from_millis(25);
/// After reading the leases the task pauses for this many times what reading took, so that waiting costs
/// little even in a busy file.
const REST_FACTOR: u32 = 10;
/// The longest such pause.
const MAX_REST: Duration = Duration::from_millis(10);
/// How often the leases are read in any case, for holders that died and for a file that was replaced.
const READ_INTERVAL: Duration = Duration::from_millis(75);
/// How often a process with fair waiters writes a heartbeat.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How long reading the leases may block the thread at a time, which other tasks need.
const BLOCKING_LIMIT: Duration = Duration::from_millis(2);
/// After how many lines the clock is looked at for that.
const CLOCK_INTERVAL: u32 = 16;

/// Wakes the waiters for leases in one lock file. The task runs only while there are any, and does not keep
/// the file.
pub struct Poller {
    waiters: Arc<LocalWaiters>,
    commits: Arc<GroupCommit>,
    executor: Executor,
}

impl Poller {
    /// Its task runs on this thread.
    pub const fn new(waiters: Arc<LocalWaiters>, commits: Arc<GroupCommit>, executor: Executor) -> Self {
        Self { waiters, commits, executor }
    }

    /// The waiters of this process.
    pub fn waiters(&self) -> &LocalWaiters {
        &self.waiters
    }

    /// Has a waiter woken from now on.
    pub fn join_queue(self: &Arc<Self>, resources: &Resources, waiter: &Waiter) {
        if self.waiters.add(waiter, resources) {
            self.executor.spawn(poll(Arc::downgrade(self)));
        }
    }

    /// Ends a wait, and removes its entries from the fair queue. If that fails, the process's next heartbeat
    /// removes them; if there is none, they expire with the last one.
    pub async fn leave_queue(&self, resources: &Resources, waiter: &Waiter) {
        match self.waiters.remove(waiter) {
            Some(true) => {
                let (names, leaving) = (resources.clone(), waiter.clone());
                let work = move |tx: &mut Tx<'_>| tx.leave_queue(&names, &leaving);
                if self.commits.submit(Needs::WRITE, (), work).await.is_err() {
                    self.waiters.keep_leaving([(waiter.clone(), resources.clone())]);
                }
            }
            // Perhaps it was woken, and therefore the next one was not.
            Some(false) => self.waiters.notify_ended(),
            None => {}
        }
    }
}

/// Wakes waiters as long as there are any.
async fn poll(poller: Weak<Poller>) {
    // If a check panics, the next waiter starts the task again.
    let stopped = scopeguard::guard((), |()| {
        if let Some(poller) = poller.upgrade() {
            poller.waiters.record_stopped();
        }
    });
    let mut task = PollerTask {
        last_marker: None,
        last_read: Instant::now(),
        pass: None,
        heartbeat: Heartbeats::default(),
    };
    loop {
        let Some(open) = poller.upgrade() else { break };
        if open.waiters.stop_polling_if_empty() {
            break;
        }
        let pause = task.check(&open);
        let ended = open.waiters.ended();
        drop(open);
        if pause.is_zero() {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = ended.notified() => task.last_marker = None,
        }
    }
    ScopeGuard::into_inner(stopped);
}

/// What the task remembers from one check to the next.
struct PollerTask {
    /// The file's marker when the leases were read; `None` when they must be read again.
    last_marker: Option<ChangeMarker>,
    last_read: Instant,
    /// Reading the leases, until all lines were looked at.
    pass: Option<Pass>,
    heartbeat: Heartbeats,
}

impl PollerTask {
    /// Does what is due. Returns the pause until the next check; zero if other tasks only have to get their
    /// turn.
    fn check(&mut self, poller: &Poller) -> Duration {
        self.heartbeat.start_if_due(poller);
        let now = Instant::now();
        let is_due = now >= self.last_read + READ_INTERVAL;
        let committer = poller.commits.committer();
        let Some(store) = committer.open_store() else {
            // It was replaced, or is being opened. An attempt opens it; a task that only wakes must not.
            if is_due {
                poller.waiters.wake_first();
                self.last_read = now;
            }
            return CHECK_INTERVAL;
        };
        let interval = if store.kind().is_network() { NETWORK_CHECK_INTERVAL } else { CHECK_INTERVAL };
        if self.pass.is_none() {
            // Before the leases are read, so that no commit is missed in between.
            let marker = store.change_marker();
            if !is_due && marker.is_some() && marker == self.last_marker {
                return interval;
            }
            self.last_read = now;
            self.pass = Some(Pass::new(marker, poller.waiters.lines()));
        }
        drop(store);
        let Some(pass) = &mut self.pass else { return interval };
        let is_over = pass.wake_eligible(committer, &poller.waiters);
        pass.took += now.elapsed();
        if !is_over {
            return Duration::ZERO;
        }
        let rest = pass.took * REST_FACTOR;
        self.last_marker = pass.marker.take();
        self.pass = None;
        rest.clamp(interval, interval.max(MAX_REST))
    }
}

/// One reading of the leases that are waited for, in transactions that are short however many there are.
struct Pass {
    /// The file's marker when it began; `None` when they must be read again soon.
    marker: Option<ChangeMarker>,
    /// Those that were not looked at yet.
    lines: VecDeque<Line>,
    /// The resources for which a waiter was woken.
    taken: HashSet<Arc<str>>,
    took: Duration,
}

impl Pass {
    fn new(marker: Option<ChangeMarker>, lines: Vec<Line>) -> Self {
        Self { marker, lines: lines.into(), taken: HashSet::new(), took: Duration::ZERO }
    }

    /// Wakes for each resource the first waiter that may get it now, in one transaction. Returns whether all
    /// lines were looked at.
    fn wake_eligible(&mut self, committer: &Arc<Committer>, waiters: &LocalWaiters) -> bool {
        let mut woken = Vec::new();
        let read = committer.transact(Needs::READ, &mut RetryBudget::new(BLOCKING_LIMIT), &mut |tx| {
            let end = Instant::now() + BLOCKING_LIMIT;
            let mut known = HashMap::new();
            for count in 1.. {
                let Some(line) = self.lines.pop_front() else { break };
                let candidate = match self.candidate(tx, waiters, &line, &mut known) {
                    // An attempt finds out what is wrong with a row; the other lines do not depend on it.
                    Err(error) if errors::is_of_row(&error) => Some(line.first),
                    candidate => candidate?,
                };
                if let Some(number) = candidate {
                    woken.push(number);
                    self.taken.extend(line.resources.as_slice().iter().cloned());
                }
                if count % CLOCK_INTERVAL == 0 && Instant::now() >= end {
                    break;
                }
            }
            Ok(())
        });
        match read {
            Ok(true) => woken.into_iter().for_each(|number| waiters.wake(number)),
            // There is no file. An attempt creates it.
            Ok(false) => waiters.wake_first(),
            Err(_) => {
                self.marker = None;
                return true;
            }
        }
        self.lines.is_empty()
    }

    /// The waiter in this line that may get all it waits for, if there is one: the head of their fair queues,
    /// or the first of the line where there is none.
    fn candidate(
        &mut self,
        tx: &mut Tx<'_>,
        waiters: &LocalWaiters,
        line: &Line,
        known: &mut HashMap<Arc<str>, Eligible>,
    ) -> rusqlite::Result<Option<u64>> {
        let mut head: Option<u64> = None;
        for resource in line.resources.as_slice() {
            if self.taken.contains(resource) {
                return Ok(None);
            }
            if !known.contains_key(resource) {
                let mut found = operations::eligible(tx, resource)?;
                if matches!(found, Eligible::Any) && waiters.should_yield(tx, resource) {
                    (found, self.marker) = (Eligible::None, None);
                }
                known.insert(resource.clone(), found);
            }
            match &known[resource] {
                Eligible::None => return Ok(None),
                Eligible::Any => {}
                Eligible::Head(entry) => match entry.waiter_of(tx) {
                    Some(number) if head.is_none_or(|head| head == number) => head = Some(number),
                    _ => return Ok(None),
                },
            }
        }
        Ok(match head {
            Some(number) => Some(number).filter(|number| waiters.is_in_line(*number, &line.resources)),
            None => Some(line.first),
        })
    }
}

/// The heartbeats of this process, written while it has fair waiters.
#[derive(Default)]
struct Heartbeats {
    last: Option<Instant>,
    running: Option<JoinHandle<()>>,
}

impl Heartbeats {
    fn start_if_due(&mut self, poller: &Poller) {
        let is_due = self.last.is_none_or(|last| last.elapsed() >= HEARTBEAT_INTERVAL);
        if !is_due || self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        if poller.waiters.may_be_queued() {
            let last = self.last.replace(Instant::now());
            let is_late = last.is_some_and(|last| last.elapsed() > HEARTBEAT_VALIDITY);
            let (waiters, commits) = (Arc::clone(&poller.waiters), Arc::clone(&poller.commits));
            self.running = Some(tokio::spawn(write_heartbeat(waiters, commits, is_late)));
        }
    }
}

/// Writes a heartbeat. `is_late`: other processes may have taken this one for dead, even if an attempt of one
/// of its waiters has written a heartbeat since.
async fn write_heartbeat(waiters: Arc<LocalWaiters>, commits: Arc<GroupCommit>, is_late: bool) {
    let leaving = waiters.take_leaving();
    let entries = leaving.clone();
    let work = move |tx: &mut Tx<'_>| {
        entries.iter().try_for_each(|(waiter, resources)| tx.leave_queue(resources, waiter))?;
        tx.remove_dead_waiters()?;
        // Perhaps this process was stopped for a while: its waiters may have to enter the queue again.
        if tx.renew_heartbeat()? && !is_late { Ok(None) } else { tx.own_entries().map(Some) }
    };
    match commits.submit(Needs::KEEP, None, work).await {
        Ok(Some(entries)) => waiters.wake_without_entries(&entries),
        Ok(None) => {}
        Err(_) => waiters.keep_leaving(leaving),
    }
}
