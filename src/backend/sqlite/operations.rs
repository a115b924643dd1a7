//! What a lock is, as functions of one transaction. None of them fails half-way: an error rolls everything back.

use super::rows::Tx;
use crate::backend::{Attempt, Grant, Info, Request};
use crate::clock::BootInstant;
use crate::error::{Error, Result};
use crate::lease::{Owner, Resources, Ttl};
use crate::token;

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
    let (mut last, mut busy, mut added) = (0, None, (0, None));
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
    }
    if busy.is_some() {
        return Ok(Attempt::Busy(busy));
    }
    let token = token::next(last, tx.now.wall, request.min_token);
    for resource in resources {
        tx.grant(resource, token, request.owner, request.ttl)?;
    }
    tx.granted += resources.len();
    tx.added = (tx.added.0 + added.0, added.1.or(tx.added.1.take()));
    Ok(Attempt::Granted(Grant { token, sent: tx.sent, acks: None }))
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
