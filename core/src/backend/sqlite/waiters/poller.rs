//! Those of this process who wait for leases in a lock file, and the task that wakes them.
//!
//! SQLite tells nobody of a commit. So while somebody waits, and only then, a task on the file's thread asks every few
//! milliseconds whether there was one. That costs a microsecond or two; only if there was, it looks at what is waited for. A
//! holder that dies commits nothing: it is found out by looking anyway, now and then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::fair_queue::BELIEVED;
use crate::backend::Waiter;
use crate::backend::sqlite::commit::group_commit::{self, CHANGE, LOOK};
use crate::backend::sqlite::commit::operations::{self, Turn};
use crate::backend::sqlite::process::lock_file::File;
use crate::backend::sqlite::retry::Wait;
use crate::backend::sqlite::store::Glimpse;
use crate::backend::sqlite::store::rows::Tx;
use crate::lease::Resources;

/// The pause between two glimpses. Timers are late by up to a millisecond, and a release is to be noticed within five. Most
/// of what waiting costs is being woken for them.
const TICK: Duration = Duration::from_millis(3);
/// The same over a network, where each glimpse takes a lock.
const NETWORK_TICK: Duration = Duration::from_millis(25);
/// After a look there is a pause of so many times what it took, so that a busy file that much is waited for in costs little.
const REST: u32 = 10;
/// But no longer one.
const LONGEST_REST: Duration = Duration::from_millis(10);
/// How often it is looked for dead holders, and for a file that was replaced.
const EVERY: Duration = Duration::from_millis(75);
/// Hand-overs in a row within a process, which are faster than any other process is.
const IN_A_ROW: u32 = 16;
/// For how long its waiters then let others go first, if there are any: long enough for them to notice and to attempt.
const COURTESY: Duration = Duration::from_millis(15);
/// Resources whose hand-overs are counted. To forget them costs nothing but a few more in a row.
const COUNTED: usize = 64;
/// How often a process with fair waiters shows life.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a look waits for others, on the thread that everybody needs.
const BLOCKING: Duration = Duration::from_millis(2);

/// Who waits.
#[derive(Debug, Default)]
pub struct Watch {
    // A std Mutex: nothing awaits while it is held, and no transaction is made.
    state: Mutex<State>,
    /// Something was ended in this process. Not the file's, so that the task does not keep that.
    bell: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which they came.
    waiting: Vec<Entry>,
    /// Waiters whose places could not be given up yet.
    left: Vec<(Waiter, Resources)>,
    /// How often waiters of this process got a resource.
    grants: HashMap<Arc<str>, Grants>,
    /// Whether the task runs.
    attended: bool,
}

#[derive(Debug, Default)]
struct Grants {
    count: u32,
    /// Until then others go first.
    yields: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Entry {
    waiter: Waiter,
    resources: Resources,
    /// It may have places in fair lines.
    stands: bool,
}

impl Watch {
    /// Something was ended that somebody may wait for.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    /// What was known of the file is over.
    pub fn wake_all(&self) {
        self.state().waiting.iter().for_each(|entry| entry.waiter.wake());
    }

    /// A fair waiter may have been put in line.
    pub fn stands(&self, waiter: &Waiter) {
        if let Some(entry) = self.state().find(waiter) {
            entry.stands = true;
        }
    }

    /// A waiter has what it waited for.
    pub fn granted(&self, waiter: &Waiter) {
        let mut state = self.state();
        let Some(entry) = state.take(waiter) else { return };
        if state.grants.len() >= COUNTED {
            state.grants.clear();
        }
        for resource in entry.resources.as_slice() {
            state.grants.entry(resource.clone()).or_default().count += 1;
        }
    }

    /// Whether it is time to let waiters of other processes go first.
    fn yields(&self, tx: &Tx<'_>, resource: &str) -> bool {
        let mut state = self.state();
        let Some(grants) = state.grants.get_mut(resource) else { return false };
        if grants.yields.is_none() && grants.count >= IN_A_ROW && tx.has_company() {
            grants.yields = Some(Instant::now() + COURTESY);
        }
        if grants.yields.is_some_and(|until| Instant::now() < until) {
            return true;
        }
        if grants.count >= IN_A_ROW {
            state.grants.remove(resource);
        }
        false
    }

    /// Somebody waits no more. Answers whether it may have places in fair lines; `None` if it was not known.
    pub fn remove(&self, waiter: &Waiter) -> Option<bool> {
        self.state().take(waiter).map(|entry| entry.stands)
    }

    /// Whether the task runs.
    #[cfg(test)]
    pub(crate) fn is_attended(&self) -> bool {
        self.state().attended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is a single step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, waiter: &Waiter) -> Option<Entry> {
        let at = self.waiting.iter().position(|entry| entry.waiter.number() == waiter.number())?;
        Some(self.waiting.remove(at))
    }

    fn find(&mut self, waiter: &Waiter) -> Option<&mut Entry> {
        self.waiting.iter_mut().find(|entry| entry.waiter.number() == waiter.number())
    }
}

/// Has a waiter woken from now on.
pub fn line_up(file: &Arc<File>, resources: &Resources, waiter: &Waiter) {
    let mut state = file.watch.state();
    if state.find(waiter).is_none() {
        state.waiting.push(Entry { waiter: waiter.clone(), resources: resources.clone(), stands: false });
    }
    if !std::mem::replace(&mut state.attended, true) {
        drop(state);
        file.executor().spawn(attend(Arc::downgrade(file)));
    }
}

/// Ends a wait. Places in fair lines are given up; if that fails it is made up for, by the process's next sign of life or,
/// as it then shows none, because it does not.
pub async fn leave(file: &Arc<File>, resources: &Resources, waiter: &Waiter) {
    match file.watch.remove(waiter) {
        Some(true) => {
            let (names, member) = (resources.clone(), waiter.clone());
            let work = move |tx: &mut Tx<'_>| tx.take_out(&names, &member);
            if group_commit::submit(file, CHANGE, (), work).await.is_err() {
                file.watch.state().left.push((waiter.clone(), resources.clone()));
            }
        }
        // Perhaps it was woken, and the next one was not because of that.
        Some(false) => file.watch.ring(),
        None => {}
    }
}

/// Wakes waiters as long as there are any.
async fn attend(file: Weak<File>) {
    let _leave = Leave(Weak::clone(&file));
    let mut watcher = Watcher { seen: None, looked: Instant::now(), heart: Heart::default() };
    loop {
        let Some(open) = file.upgrade() else { return };
        {
            let mut state = open.watch.state();
            if state.waiting.is_empty() {
                state.attended = false;
                return;
            }
        }
        let pause = watcher.tick(&open);
        let bell = Arc::clone(&open.watch.bell);
        drop(open);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = bell.notified() => watcher.seen = None,
        }
    }
}

/// If a look panics, the next waiter starts the task anew.
struct Leave(Weak<File>);

impl Drop for Leave {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(file) = self.0.upgrade()
        {
            file.watch.state().attended = false;
        }
    }
}

/// What the task remembers.
struct Watcher {
    /// The file as it was when it was looked at; `None` when it is to be looked at.
    seen: Option<Glimpse>,
    looked: Instant,
    heart: Heart,
}

impl Watcher {
    /// Does what is due; answers the pause until the next time.
    fn tick(&mut self, file: &Arc<File>) -> Duration {
        self.heart.beat_if_due(file);
        let now = Instant::now();
        let due = now >= self.looked + EVERY;
        let Some(store) = file.open_store() else {
            // It was replaced, or is being opened. Whoever attempts opens it; a task that wakes must not.
            if due {
                file.watch.wake_all();
                self.looked = now;
            }
            return TICK;
        };
        let tick = if store.kind().is_network() { NETWORK_TICK } else { TICK };
        // Before the look, so that nothing falls in between.
        let glimpse = store.glimpse();
        drop(store);
        if !due && glimpse.is_some() && glimpse == self.seen {
            return tick;
        }
        self.looked = now;
        self.seen = if look(file) { glimpse } else { None };
        (now.elapsed() * REST).clamp(tick, tick.max(LONGEST_REST))
    }
}

/// Wakes the first of those for each resource who may have it now. `false`: it is to be looked again soon.
fn look(file: &File) -> bool {
    let waiting = file.watch.state().waiting.clone();
    let (mut woken, mut settled) = (Vec::new(), true);
    let looked = file.transact(LOOK, &mut Wait::at_most(BLOCKING), &mut |tx| {
        let mut turns = HashMap::new();
        for (at, Entry { waiter, resources, .. }) in waiting.iter().enumerate() {
            let mut may = true;
            for resource in resources.as_slice() {
                let turn: &Turn = match turns.entry(&**resource) {
                    std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                    std::collections::hash_map::Entry::Vacant(vacant) => {
                        let mut turn = operations::turn(tx, resource)?;
                        if matches!(turn, Turn::Anybody) && file.watch.yields(tx, resource) {
                            (turn, settled) = (Turn::Nobody, false);
                        }
                        vacant.insert(turn)
                    }
                };
                may &= turn.is_of(tx, Some(waiter).filter(|waiter| waiter.is_fair()));
            }
            if may {
                woken.push(at);
                turns.extend(resources.as_slice().iter().map(|resource| (&**resource, Turn::Nobody)));
            }
        }
        Ok(())
    });
    match looked {
        Ok(true) => woken.into_iter().for_each(|at| waiting[at].waiter.wake()),
        Ok(false) => file.watch.wake_all(),
        Err(_) => return false,
    }
    settled
}

/// Shows that this process lives, while it has fair waiters.
#[derive(Default)]
struct Heart {
    last: Option<Instant>,
    beat: Option<JoinHandle<()>>,
}

impl Heart {
    fn beat_if_due(&mut self, file: &Arc<File>) {
        let due = self.last.is_none_or(|last| last.elapsed() >= HEARTBEAT);
        if !due || self.beat.as_ref().is_some_and(|beat| !beat.is_finished()) {
            return;
        }
        let state = file.watch.state();
        if state.waiting.iter().any(|entry| entry.stands) {
            let last = self.last.replace(Instant::now());
            let late = last.is_some_and(|last| last.elapsed() > BELIEVED);
            self.beat = Some(tokio::spawn(beat(Arc::clone(file), late)));
        }
    }
}

/// `late`: others may have taken this process for dead, even if one of its waiters has shown life since.
async fn beat(file: Arc<File>, late: bool) {
    let left = std::mem::take(&mut file.watch.state().left);
    let leaving = left.clone();
    let work = move |tx: &mut Tx<'_>| {
        leaving.iter().try_for_each(|(waiter, resources)| tx.take_out(resources, waiter))?;
        tx.bury()?;
        tx.show_life()
    };
    match group_commit::submit(&file, CHANGE, false, work).await {
        Ok(true) if !late => {}
        // This process was stopped for a while, perhaps: its waiters are to line up anew.
        Ok(_) => {
            let state = file.watch.state();
            state.waiting.iter().filter(|entry| entry.stands).for_each(|entry| entry.waiter.wake());
        }
        Err(_) => file.watch.state().left.extend(left),
    }
}
