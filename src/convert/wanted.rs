//! What an acquire asks for. lib/options/ has already refused what a user can get wrong, with the messages
//! users see; the core's constructors check once more.

use std::time::Duration;

use crate::wire::Call;
use fencelock_core::error::{Error, Result};
use fencelock_core::lease::token::MIN_TOKEN_LIMIT;
use fencelock_core::lease::{AckPolicy, Mode, Owner, Resources, Strategy, Ttl};
use fencelock_core::manager::{RenewalLimits, Wanted};

/// The strategy with this number.
pub(crate) fn strategy(number: u32) -> Result<Strategy> {
    let strategy = Strategy::ALL.get(number as usize);
    strategy.copied().ok_or_else(|| Error::invalid(format!("there is no strategy {number}")))
}

/// The resources of a call: the next of the names.
pub(crate) fn resources(call: &Call, names: &mut impl Iterator<Item = String>) -> Result<Resources> {
    match call.names as usize {
        1 => Resources::one(names.next().unwrap_or_default()),
        count => Resources::many(names.take(count).collect()),
    }
}

pub(crate) fn wanted(call: &Call, resources: Resources, owner: Owner) -> Result<Wanted> {
    let (ttl_ms, ack_timeout_ms) = (call.ttl_ms as u32, call.ack_timeout_ms as u32);
    if !(0.0..MIN_TOKEN_LIMIT as f64).contains(&call.min_token) {
        return Err(Error::invalid(format!("minToken must be 0 to {}", MIN_TOKEN_LIMIT - 1)));
    }
    let ttl = Ttl::from_millis(ttl_ms)?;
    if !(0.0..=f64::from(Ttl::MAX_MS)).contains(&call.min_hold_ms) {
        return Err(Error::invalid(format!("minHoldMs must be 0 to {}", Ttl::MAX_MS)));
    }
    let min_hold = Duration::from_millis(call.min_hold_ms as u64);
    let fsync = call.fsync != 0.0;
    if (call.acks > 0.0 || fsync) && !(1..=ttl_ms / 2).contains(&ack_timeout_ms) {
        return Err(Error::invalid(format!("ackTimeoutMs must be 1 to half of ttlMs, got {ack_timeout_ms}")));
    }
    Ok(Wanted {
        resources,
        mode: Mode::Exclusive,
        owner,
        ttl,
        min_hold,
        min_token: call.min_token as u64,
        acks: AckPolicy { required: call.acks as u32, timeout_ms: ack_timeout_ms, fsync },
        // If it is infinite, longer than any process lives.
        wait: Duration::try_from_secs_f64(call.wait_ms / 1_000.0).unwrap_or(Duration::MAX),
        fair: call.fair > 0.0,
        renew: (call.renewed > 0.0).then(|| RenewalLimits {
            max_hold: limit(call.max_hold_ms),
            max_stall: limit(call.max_stall_ms),
        }),
    })
}

/// A time limit in milliseconds; may be infinite.
pub(crate) fn limit(ms: f64) -> Duration {
    if ms.is_finite() { Duration::from_millis(ms as u64) } else { RenewalLimits::FOREVER }
}
