//! The leases, tokens and queues of one manager. Each function is one step, at the time that was set last.

use std::collections::HashMap;
use std::sync::Arc;

use super::row::{Lease, Row};
use crate::backend::Waiter;
use crate::backend::contract::{Attempt, Busy, Grant, Info, Locks, Request, not_adoptable};
use crate::error::{Error, Result};
use crate::lease::{Mode, Owner, Resources, Ttl, token};
use crate::runtime::clock::{BootInstant, Clock};

/// How many rows there are at least before those are removed that are no longer needed.
const MIN_ROWS: usize = 1024;

/// What is held, and who waits.
#[derive(Debug)]
pub struct Store {
    rows: HashMap<Arc<str>, Row>,
    now: BootInstant,
    /// The wall clock in microseconds, except that it never goes back: so a row is not needed for its token
    /// any more once the clock is above it.
    wall: u64,
    /// How many rows there are when those are removed next that are no longer needed.
    full: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self { rows: HashMap::new(), now: BootInstant::from_micros(0), wall: 0, full: MIN_ROWS }
    }
}

impl Store {
    /// Sets the time of the next step.
    pub fn set_time(&mut self, clock: &Clock) {
        self.now = clock.boot();
        self.wall = self.wall.max(clock.wall_micros());
    }

    /// Makes one attempt to get a lease: all resources with one token, or none.
    pub fn acquire(&mut self, request: &Request) -> Result<Attempt> {
        // The only mode that rows have.
        let Mode::Exclusive = request.mode;
        let fair = request.waiter.as_ref().filter(|waiter| waiter.is_fair());
        let (mut last, mut held, mut behind) = (0, None, None);
        for (index, resource) in request.resources.as_slice().iter().enumerate() {
            let Some(row) = self.rows.get(resource) else { continue };
            last = last.max(row.token);
            // All must be free at the same time, so the one that ends last counts.
            held = held.max(row.active(self.now).map(|(_, remaining)| (remaining, index)));
            if row.is_behind(fair) {
                behind.get_or_insert(index);
            }
        }
        if held.is_some() || behind.is_some() {
            if let Some(waiter) = fair {
                self.each_row(&request.resources, |row| row.enter_queue(waiter));
            }
            // A waiter behind others is woken in its turn: at the end of the lease all of them would attempt
            // at once.
            let remaining = held.filter(|_| request.waiter.is_none() || behind.is_none()).map(|held| held.0);
            let resource = held.map(|held| held.1).or(behind).unwrap_or_default();
            return Ok(Attempt::Busy(Busy { resource, remaining }));
        }
        let Some(token) = token::next(last, self.wall, request.min_token) else {
            return Err(no_next_token(last, self.wall));
        };
        let lease = Lease { owner: request.owner, end: self.now + request.lasts().as_duration() };
        self.each_row(&request.resources, |row| {
            (row.token, row.lease) = (token, Some(lease));
            if let Some(waiter) = &request.waiter
                && row.remove(waiter)
            {
                // Those behind it do not know until when to wait.
                row.wake_next();
            }
        });
        Ok(Attempt::Granted(Grant { token, sent: self.now, acks: None }))
    }

    /// Has a waiter woken from now on. A fair one enters the queues with its first attempt.
    pub fn join(&mut self, resources: &Resources, waiter: &Waiter) {
        if !waiter.is_fair() {
            self.each_row(resources, |row| row.join(waiter));
        }
    }

    /// Removes a waiter. Those behind it get its turn.
    pub fn leave(&mut self, resources: &Resources, waiter: &Waiter) {
        for resource in resources.as_slice() {
            let Some(row) = self.rows.get_mut(resource) else { continue };
            if row.remove(waiter) {
                row.wake_next();
            }
            self.remove_if_idle(resource);
        }
    }

    /// Extends a lease of which nothing is lost.
    pub fn extend(&mut self, resources: &Resources, owner: Owner, ttl: Ttl) -> Result<BootInstant> {
        for resource in resources.as_slice() {
            match self.lease_of(resource, owner) {
                Some(lease) if self.now < lease.end => {}
                Some(_) => return Err(lost(resource, "it expired before it was extended")),
                None => return Err(lost(resource, "it was released, taken over or force-released")),
            }
        }
        let end = self.now + ttl.as_duration();
        for resource in resources.as_slice() {
            if let Some(lease) = self.rows.get_mut(resource).and_then(|row| row.lease.as_mut()) {
                lease.end = lease.end.max(end);
            }
        }
        Ok(self.now)
    }

    /// An error if the owner does not have all of this, with this reason.
    pub fn check_held(&self, resources: &Resources, owner: Owner, reason: &str) -> Result<()> {
        let is_held =
            |resource: &&Arc<str>| self.lease_of(resource, owner).is_some_and(|lease| self.now < lease.end);
        match resources.as_slice().iter().find(|resource| !is_held(resource)) {
            Some(resource) => Err(lost(resource, reason)),
            None => Ok(()),
        }
    }

    /// Takes a lease over from the owner `from`, with a new token, if that still has all of it.
    pub fn adopt(&mut self, request: &Request, from: Owner) -> Result<Grant> {
        let mut last = 0;
        for resource in request.resources.as_slice() {
            match self.rows.get(resource) {
                Some(row) if row.active(self.now).is_some_and(|(lease, _)| lease.owner == from) => {
                    last = last.max(row.token);
                }
                _ => return Err(not_adoptable(resource)),
            }
        }
        let Some(token) = token::next(last, self.wall, request.min_token) else {
            return Err(no_next_token(last, self.wall));
        };
        let lease = Lease { owner: request.owner, end: self.now + request.ttl.as_duration() };
        self.each_row(&request.resources, |row| (row.token, row.lease) = (token, Some(lease)));
        Ok(Grant { token, sent: self.now, acks: None })
    }

    /// Ends what the owner still has. `true` only if that was all of it and none had expired: then no other
    /// owner can have had it in between. What is left until `stands_until` stays.
    pub fn release(
        &mut self,
        resources: &Resources,
        owner: Owner,
        stands_until: Option<BootInstant>,
    ) -> bool {
        let stands_until = stands_until.filter(|&until| self.now < until);
        let mut all = true;
        for resource in resources.as_slice() {
            let lease = self.lease_of(resource, owner);
            all &= lease.is_some_and(|lease| self.now < lease.end);
            match stands_until {
                _ if lease.is_none() => {}
                None => self.free(resource),
                Some(until) => self.leave_rest(resource, until),
            }
        }
        all
    }

    /// Who holds the resource.
    pub fn inspect(&self, resource: &str) -> Option<Info> {
        let row = self.rows.get(resource)?;
        let (lease, remaining) = row.active(self.now)?;
        let waiters = row.waiters();
        Some(Info { owner: lease.owner.to_string(), token: row.token, remaining, waiters })
    }

    /// The locks of resources whose names begin with this, in the order of the names.
    pub fn list(&self, prefix: &str) -> Locks {
        let mut names: Vec<_> = self.rows.keys().filter(|name| name.starts_with(prefix)).collect();
        names.sort_unstable();
        names.into_iter().filter_map(|name| Some((Arc::clone(name), self.inspect(name)?))).collect()
    }

    /// Ends the lease of the resource, if there is one. `false`: it was free, or its lease was over.
    pub fn force_release(&mut self, resource: &str) -> bool {
        let is_held = self.rows.get(resource).is_some_and(|row| row.active(self.now).is_some());
        self.free(resource);
        is_held
    }

    fn lease_of(&self, resource: &str, owner: Owner) -> Option<Lease> {
        self.rows.get(resource)?.lease.filter(|lease| lease.owner == owner)
    }

    fn free(&mut self, resource: &str) {
        let Some(row) = self.rows.get_mut(resource) else { return };
        row.lease = None;
        row.wake_next();
        self.remove_if_idle(resource);
    }

    /// Has the lease end then, if not before. Those that wait learn of it when they attempt.
    fn leave_rest(&mut self, resource: &str, until: BootInstant) {
        let Some(row) = self.rows.get_mut(resource) else { return };
        if let Some(lease) = &mut row.lease {
            lease.end = lease.end.min(until);
        }
        row.wake_next();
    }

    /// Changes the row of each resource, which is made if there is none.
    fn each_row(&mut self, resources: &Resources, mut change: impl FnMut(&mut Row)) {
        for resource in resources.as_slice() {
            if !self.rows.contains_key(resource) {
                self.make_room();
            }
            change(self.rows.entry(Arc::clone(resource)).or_default());
        }
    }

    fn remove_if_idle(&mut self, resource: &str) {
        if self.rows.get(resource).is_some_and(|row| self.is_needless(row)) {
            self.rows.remove(resource);
        }
    }

    /// Removes the rows of leases that expired without a release, whenever there are twice as many rows as
    /// were left the last time.
    fn make_room(&mut self) {
        if self.rows.len() < self.full {
            return;
        }
        let (now, wall) = (self.now, self.wall);
        self.rows.retain(|_, row| !(row.is_idle(now) && row.token < wall));
        self.full = MIN_ROWS.max(self.rows.len() * 2);
    }

    /// Whether the next token would be the same without this row.
    fn is_needless(&self, row: &Row) -> bool {
        row.is_idle(self.now) && row.token < self.wall
    }

    /// How many resources have rows.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

fn no_next_token(last: u64, wall: u64) -> Error {
    Error::unavailable(if wall >= token::TOKEN_LIMIT {
        token::cannot_rise(
            format_args!("the clock of this host is at {wall} µs since 1970"),
            "Set the clock, and try again",
        )
    } else {
        token::cannot_rise(format_args!("the last token is {last}"), "Use a new LockManager")
    })
}

fn lost(resource: &str, reason: &str) -> Error {
    Error::lost(format!(
        "the lease of {resource:?} is lost: {reason}. Stop what it protected; another owner may hold it now"
    ))
}
