//! What a lock is, as functions of one transaction. None of them fails half-way: an error rolls everything back.

use std::sync::Arc;

use crate::backend::Waiter;
use crate::backend::contract::{Attempt, Grant, Info, Request};
use crate::backend::sqlite::store::rows::Tx;
use crate::backend::sqlite::waiters::fair_queue::Member;
use crate::error::{Error, Result};
use crate::lease::token;
use crate::lease::{Owner, Resources, Ttl};
use crate::runtime::clock::BootInstant;

/// One attempt: all resources with one token, or none.
pub fn acquire(tx: &mut Tx<'_>, request: &Request) -> rusqlite::Result<Attempt> {
    let resources = request.resources.as_slice();
    if let [resource] = resources {
        // Above the last token too, as a rule, because the clock is.
        let token = token::next(0, tx.now.wall, request.min_token);
        if tx.grant_if_free(resource, token, request.owner, request.ttl)? {
            tx.granted += 1;
            return Ok(Attempt::Granted(Grant { token, sent: tx.sent, acks: None }));
        }
    }
    let fair = request.waiter.as_ref().filter(|waiter| waiter.is_fair());
    let (mut last, mut busy, mut added) = (0, None, (0, None));
    let (mut queued, mut behind) = (false, false);
    for resource in resources {
        let Some(row) = tx.row(resource)? else {
            added = (added.0 + 1, Some(resource.clone()));
            continue;
        };
        last = last.max(row.token);
        if let Some(lease) = row.lease {
            // All must be free at once, so the last to end counts.
            busy = busy.max(tx.held(&lease));
        }
        if row.queued {
            queued = true;
            tx.bury()?;
            behind |=
                tx.first(resource)?.is_some_and(|first| fair.map(|waiter| tx.member(waiter)) != Some(first));
        }
    }
    if busy.is_some() || behind {
        if let Some(waiter) = fair {
            tx.enter(&request.resources, waiter)?;
            add(tx, added);
        }
        // Whoever waits behind others is woken in its turn: at the lease's end all of them would attempt at once.
        return Ok(Attempt::Busy(busy.filter(|_| request.waiter.is_none() || !behind)));
    }
    let token = token::next(last, tx.now.wall, request.min_token);
    for resource in resources {
        tx.grant(resource, token, request.owner, request.ttl)?;
    }
    if queued && let Some(waiter) = fair {
        tx.take_out(&request.resources, waiter)?;
    }
    tx.granted += resources.len();
    add(tx, added);
    Ok(Attempt::Granted(Grant { token, sent: tx.sent, acks: None }))
}

/// So many rows are new, the last of them this one.
fn add(tx: &mut Tx<'_>, (count, last): (u32, Option<Arc<str>>)) {
    tx.added = (tx.added.0 + count, last.or(tx.added.1.take()));
}

/// Whose turn it is to have a resource.
#[derive(Debug)]
pub enum Turn {
    /// It is held, or somebody else was told already.
    Nobody,
    /// Whoever comes.
    Anybody,
    /// The first in line.
    First(Member),
}

impl Turn {
    /// Whether it is this fair waiter's, or anybody's.
    pub fn is_of(&self, tx: &Tx<'_>, fair: Option<&Waiter>) -> bool {
        match self {
            Self::Nobody => false,
            Self::Anybody => true,
            Self::First(member) => fair.is_some_and(|waiter| tx.member(waiter) == *member),
        }
    }
}

/// Looks whose turn it is.
pub fn turn(tx: &mut Tx<'_>, resource: &str) -> rusqlite::Result<Turn> {
    let Some(row) = tx.row(resource)? else { return Ok(Turn::Anybody) };
    if row.lease.is_some_and(|lease| tx.held(&lease).is_some()) {
        return Ok(Turn::Nobody);
    }
    let first = if row.queued { tx.first(resource)? } else { None };
    Ok(first.map_or(Turn::Anybody, Turn::First))
}

/// Extends a lease of which nothing is lost; the inner error is [`Error::LockLost`].
pub fn extend(
    tx: &mut Tx<'_>,
    resources: &Resources,
    owner: Owner,
    ttl: Ttl,
) -> rusqlite::Result<Result<BootInstant>> {
    let mut ends = Vec::with_capacity(resources.as_slice().len());
    for resource in resources.as_slice() {
        let lease = tx.row(resource)?.and_then(|row| row.lease).filter(|lease| lease.owner == owner);
        match lease {
            Some(lease) if !lease.end.remaining(&tx.now).is_zero() => ends.push(lease.end),
            Some(_) => return Ok(Err(lost(resource, "it ran out before it was extended"))),
            None => return Ok(Err(lost(resource, "it was released, taken over or force-released"))),
        }
    }
    for (resource, end) in resources.as_slice().iter().zip(ends) {
        tx.prolong(resource, end, ttl)?;
    }
    Ok(Ok(tx.sent))
}

/// Ends what is still the owner's. `true` only if that was all of it and none had run out: then nobody else can have
/// had it in between.
pub fn release(tx: &mut Tx<'_>, resources: &Resources, owner: Owner) -> rusqlite::Result<bool> {
    let mut all = true;
    for resource in resources.as_slice() {
        if tx.free_if_held(resource, owner)? {
            tx.released += 1;
            continue;
        }
        let lease = tx.row(resource)?.and_then(|row| row.lease).filter(|lease| lease.owner == owner);
        all &= lease.as_ref().is_some_and(|lease| !lease.end.remaining(&tx.now).is_zero());
        if lease.is_some() {
            tx.free(resource)?;
            tx.released += 1;
        }
    }
    Ok(all)
}

/// Who holds the resource. A dead holder holds nothing.
pub fn inspect(tx: &mut Tx<'_>, resource: &str) -> rusqlite::Result<Option<Info>> {
    let Some(row) = tx.row(resource)? else { return Ok(None) };
    let Some(lease) = row.lease else { return Ok(None) };
    let info = |remaining| Info { owner: lease.owner.to_string(), token: row.token, remaining };
    Ok(tx.held(&lease).map(info))
}

/// Ends whatever lease there is. `false`: it was free, or its lease was over.
pub fn force_release(tx: &mut Tx<'_>, resource: &str) -> rusqlite::Result<bool> {
    let Some(lease) = tx.row(resource)?.and_then(|row| row.lease) else { return Ok(false) };
    let held = tx.held(&lease).is_some();
    tx.free(resource)?;
    Ok(held)
}

/// The lease of `resource` is gone, for this reason.
pub fn lost(resource: &str, why: &str) -> Error {
    Error::lost(format!(
        "the lease of {resource:?} is lost: {why}. Stop what it protected; somebody else may hold it now"
    ))
}
