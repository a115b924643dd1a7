//! The operations on leases, as functions of one transaction. None of them fails midway: an error rolls
//! everything back.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::contract::{Attempt, Busy, Grant, Request, not_adoptable};
use crate::backend::sqlite::errors;
use crate::backend::sqlite::store::fair_queue::QueueEntry;
use crate::backend::sqlite::store::transaction::Tx;
use crate::error::{Error, Result};
use crate::lease::token;
use crate::lease::{Mode, Owner, Resources, Ttl};
use crate::runtime::clock::BootInstant;

/// Makes one attempt to get a lease: all resources with one token, or none. The inner error: a stored token
/// or the clock is so high that there is no next token; nothing was written.
pub fn acquire(tx: &mut Tx<'_>, request: &Request) -> rusqlite::Result<Result<Attempt>> {
    // The only mode that the tables have.
    let Mode::Exclusive = request.mode;
    let resources = request.resources.as_slice();
    let lasts = request.lasts();
    if let [resource] = resources
        && request.min_hold.is_zero()
        // Usually above the last token too, because the clock is.
        && let Some(token) = token::next(0, tx.now.wall, request.min_token)
        && tx.grant_if_free(resource, token, request.owner, request.ttl)?
    {
        tx.granted += 1;
        if tx.wants_granted_last {
            tx.granted_last = Some(resource.clone());
        }
        return Ok(Ok(Attempt::Granted(Grant { token, sent: tx.sent, acks: None })));
    }
    let fair = request.waiter.as_ref().filter(|waiter| waiter.is_fair());
    let (mut last, mut held, mut added) = ((0, 0), None, (0, None));
    let (mut queued, mut behind) = (false, None);
    for (index, resource) in resources.iter().enumerate() {
        let Some(row) = tx.row(resource)? else {
            added = (added.0 + 1, Some(resource.clone()));
            continue;
        };
        last = last.max((row.token, index));
        if let Some(lease) = row.lease {
            // All must be free at the same time, so the one that ends last counts.
            held = held.max(tx.remaining(&lease).map(|remaining| (remaining, index)));
        }
        if row.queued {
            queued = true;
            tx.remove_dead_waiters()?;
            let first = tx.queue_head(resource)?;
            if first.is_some_and(|first| fair.map(|waiter| tx.queue_entry(waiter)) != Some(first)) {
                behind.get_or_insert(index);
            }
        }
    }
    if held.is_some() || behind.is_some() {
        if let Some(waiter) = fair {
            tx.enter_queue(&request.resources, waiter)?;
            record_added(tx, added);
        }
        // A waiter behind others is woken in its turn: at the end of the lease all of them would attempt at
        // once.
        let remaining = held.filter(|_| request.waiter.is_none() || behind.is_none()).map(|held| held.0);
        let resource = held.map(|held| held.1).or(behind).unwrap_or_default();
        return Ok(Ok(Attempt::Busy(Busy { resource, remaining })));
    }
    let Some(token) = token::next(last.0, tx.now.wall, request.min_token) else {
        return Ok(Err(errors::no_next_token(tx.context.path, &resources[last.1], last.0, tx.now.wall)));
    };
    for resource in resources {
        tx.grant(resource, token, request.owner, lasts, request.min_hold)?;
    }
    if queued && let Some(waiter) = fair {
        tx.leave_queue(&request.resources, waiter)?;
    }
    tx.granted += resources.len();
    record_added(tx, added);
    Ok(Ok(Attempt::Granted(Grant { token, sent: tx.sent, acks: None })))
}

/// Records the number of new rows, and the last of them.
fn record_added(tx: &mut Tx<'_>, (count, last): (u32, Option<Arc<str>>)) {
    tx.added = (tx.added.0 + count, last.or(tx.added.1.take()));
}

/// Which waiter may attempt to get a resource.
#[derive(Debug)]
pub enum Eligible {
    /// None: it is held, or another waiter was woken already.
    None,
    /// Any.
    Any,
    /// The head of its fair queue.
    Head(QueueEntry),
}

/// Finds out which waiter may attempt to get a resource.
pub fn eligible(tx: &mut Tx<'_>, resource: &str) -> rusqlite::Result<Eligible> {
    let Some(row) = tx.row(resource)? else { return Ok(Eligible::Any) };
    if row.lease.is_some_and(|lease| tx.remaining(&lease).is_some()) {
        return Ok(Eligible::None);
    }
    let head = if row.queued { tx.queue_head(resource)? } else { None };
    Ok(head.map_or(Eligible::Any, Eligible::Head))
}

/// Extends a lease of which nothing is lost; the inner error is [`Error::LockLost`].
pub fn extend(
    tx: &mut Tx<'_>,
    resources: &Resources,
    owner: Owner,
    ttl: Ttl,
) -> rusqlite::Result<Result<BootInstant>> {
    let mut leases = Vec::with_capacity(resources.as_slice().len());
    for resource in resources.as_slice() {
        let lease = tx.row(resource)?.and_then(|row| row.lease).filter(|lease| lease.owner == owner);
        match lease {
            Some(lease) if !lease.end.remaining(&tx.now).is_zero() => leases.push(lease),
            Some(_) => return Ok(Err(lost(resource, "it expired before it was extended"))),
            None => return Ok(Err(lost(resource, "it was released, taken over or force-released"))),
        }
    }
    for (resource, lease) in resources.as_slice().iter().zip(&leases) {
        tx.extend(resource, lease, ttl)?;
    }
    Ok(Ok(tx.sent))
}

/// Takes this process off a lease of which nothing is lost, so that another one can adopt it when this one is
/// dead; the inner error is [`Error::LockLost`].
pub fn hand_over(tx: &mut Tx<'_>, resources: &Resources, owner: Owner) -> rusqlite::Result<Result<()>> {
    let resources = resources.as_slice();
    let mut leases = Vec::with_capacity(resources.len());
    for resource in resources {
        let lease = tx.row(resource)?.and_then(|row| row.lease).filter(|lease| lease.owner == owner);
        match lease.filter(|lease| !lease.end.remaining(&tx.now).is_zero()) {
            Some(lease) => leases.push(lease),
            None => return Ok(Err(lost(resource, "it ended before it was handed over"))),
        }
    }
    for (resource, lease) in resources.iter().zip(&leases) {
        tx.detach(resource, lease)?;
    }
    // As far as this process is concerned.
    tx.released += resources.len();
    Ok(Ok(()))
}

/// Takes a lease over from the owner `from`, with a new token, if that still has all of it. The inner errors:
/// [`Error::LockLost`], and those of [`acquire`].
pub fn adopt(tx: &mut Tx<'_>, request: &Request, from: Owner) -> rusqlite::Result<Result<Grant>> {
    let resources = request.resources.as_slice();
    let mut last = (0, 0);
    for (index, resource) in resources.iter().enumerate() {
        let Some(row) = tx.row(resource)? else { return Ok(Err(not_adoptable(resource))) };
        last = last.max((row.token, index));
        match row.lease.filter(|lease| lease.owner == from) {
            Some(lease) if tx.remaining(&lease).is_some() => {}
            _ => return Ok(Err(not_adoptable(resource))),
        }
    }
    let Some(token) = token::next(last.0, tx.now.wall, request.min_token) else {
        return Ok(Err(errors::no_next_token(tx.context.path, &resources[last.1], last.0, tx.now.wall)));
    };
    for resource in resources {
        tx.grant(resource, token, request.owner, request.ttl, Duration::ZERO)?;
    }
    tx.granted += resources.len();
    Ok(Ok(Grant { token, sent: tx.sent, acks: None }))
}

/// Ends what the owner still has. `true` only if that was all of it and none had expired: then no other owner
/// can have had it in between. What is left until `stands_until` stays.
pub fn release(
    tx: &mut Tx<'_>,
    resources: &Resources,
    owner: Owner,
    stands_until: Option<BootInstant>,
) -> rusqlite::Result<bool> {
    let rest = stands_until.map_or(Duration::ZERO, |until| tx.now.boot.until(until));
    if !rest.is_zero() {
        return leave_rest(tx, resources, owner, rest);
    }
    let mut all = true;
    for resource in resources.as_slice() {
        if tx.free_if_held(resource, owner)? {
            tx.released += 1;
            continue;
        }
        all = false;
        let lease = tx.row(resource)?.and_then(|row| row.lease).filter(|lease| lease.owner == owner);
        if lease.is_some() {
            tx.free(resource)?;
            tx.released += 1;
        }
    }
    Ok(all)
}

/// Leaves this much of what the owner still has. The result is that of [`release`].
fn leave_rest(
    tx: &mut Tx<'_>,
    resources: &Resources,
    owner: Owner,
    rest: Duration,
) -> rusqlite::Result<bool> {
    let mut all = true;
    for resource in resources.as_slice() {
        let lease = tx.row(resource)?.and_then(|row| row.lease).filter(|lease| lease.owner == owner);
        let Some(lease) = lease else {
            all = false;
            continue;
        };
        if lease.end.remaining(&tx.now).is_zero() {
            all = false;
            tx.free(resource)?;
        } else {
            tx.leave_rest(resource, &lease, rest)?;
        }
        tx.released += 1;
    }
    Ok(all)
}

/// Ends the lease of the resource, if there is one. `false`: it was free, or its lease was over.
pub fn force_release(tx: &mut Tx<'_>, resource: &str) -> rusqlite::Result<bool> {
    let Some(lease) = tx.row(resource)?.and_then(|row| row.lease) else { return Ok(false) };
    let is_held = tx.remaining(&lease).is_some();
    tx.free(resource)?;
    Ok(is_held)
}

/// The error for a lease that is lost for this reason.
pub fn lost(resource: &str, reason: &str) -> Error {
    Error::lost(format!(
        "the lease of {resource:?} is lost: {reason}. Stop what it protected; another owner may hold it now"
    ))
}
