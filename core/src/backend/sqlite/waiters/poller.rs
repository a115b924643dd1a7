//! The task that wakes the waiters of this process.
//!
//! SQLite does not notify other processes of a commit. So while there are waiters, and only then, a task on
//! the file's thread checks every few milliseconds whether there was one. That costs a microsecond or two;
//! the leases are read only if there was a commit. A holder that dies commits nothing, so the leases are also
//! read at longer intervals.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use scopeguard::ScopeGuard;
use tokio::task::JoinHandle;

use super::local_waiters::{LocalWaiter, LocalWaiters};
use crate::backend::Waiter;
use crate::backend::sqlite::commit::committer::Committer;
use crate::backend::sqlite::commit::group_commit::GroupCommit;
use crate::backend::sqlite::commit::operations::{self, Eligible};
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
/// How long reading the leases may block the thread, which other tasks need.
const BLOCKING_LIMIT: Duration = Duration::from_millis(2);

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
    let mut task =
        PollerTask { last_marker: None, last_read: Instant::now(), heartbeat: Heartbeats::default() };
    loop {
        let Some(open) = poller.upgrade() else { break };
        if open.waiters.stop_polling_if_empty() {
            break;
        }
        let pause = task.check(&open);
        let ended = open.waiters.ended();
        drop(open);
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
    heartbeat: Heartbeats,
}

impl PollerTask {
    /// Does what is due. Returns the pause until the next check.
    fn check(&mut self, poller: &Poller) -> Duration {
        self.heartbeat.start_if_due(poller);
        let now = Instant::now();
        let is_due = now >= self.last_read + READ_INTERVAL;
        let committer = poller.commits.committer();
        let Some(store) = committer.open_store() else {
            // It was replaced, or is being opened. An attempt opens it; a task that only wakes must not.
            if is_due {
                poller.waiters.wake_all();
                self.last_read = now;
            }
            return CHECK_INTERVAL;
        };
        let interval = if store.kind().is_network() { NETWORK_CHECK_INTERVAL } else { CHECK_INTERVAL };
        // Before the leases are read, so that no commit is missed in between.
        let marker = store.change_marker();
        drop(store);
        if !is_due && marker.is_some() && marker == self.last_marker {
            return interval;
        }
        self.last_read = now;
        self.last_marker = if wake_eligible(committer, &poller.waiters) { marker } else { None };
        (now.elapsed() * REST_FACTOR).clamp(interval, interval.max(MAX_REST))
    }
}

/// Wakes for each resource the first waiter that may get it now. `false`: the leases must be read again soon.
fn wake_eligible(committer: &Arc<Committer>, waiters: &LocalWaiters) -> bool {
    let waiting = waiters.snapshot();
    let (mut woken, mut is_settled) = (Vec::new(), true);
    let read = committer.transact(Needs::READ, &mut RetryBudget::new(BLOCKING_LIMIT), &mut |tx| {
        let mut eligible = HashMap::new();
        for (at, LocalWaiter { waiter, resources, .. }) in waiting.iter().enumerate() {
            let mut is_eligible = true;
            for resource in resources.as_slice() {
                let known: &Eligible = match eligible.entry(&**resource) {
                    Occupied(known) => known.into_mut(),
                    Vacant(vacant) => {
                        let mut found = operations::eligible(tx, resource)?;
                        if matches!(found, Eligible::Any) && waiters.should_yield(tx, resource) {
                            (found, is_settled) = (Eligible::None, false);
                        }
                        vacant.insert(found)
                    }
                };
                is_eligible &= known.includes(tx, Some(waiter).filter(|waiter| waiter.is_fair()));
            }
            if is_eligible {
                woken.push(at);
                eligible.extend(resources.as_slice().iter().map(|resource| (&**resource, Eligible::None)));
            }
        }
        Ok(())
    });
    match read {
        Ok(true) => woken.into_iter().for_each(|at| waiting[at].waiter.wake()),
        Ok(false) => waiters.wake_all(),
        Err(_) => return false,
    }
    is_settled
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
        tx.renew_heartbeat()
    };
    match commits.submit(Needs::WRITE, false, work).await {
        Ok(true) if !is_late => {}
        // Perhaps this process was stopped for a while: its waiters have to enter the queue again.
        Ok(_) => waiters.wake_queued(),
        Err(_) => waiters.keep_leaving(leaving),
    }
}
