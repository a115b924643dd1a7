//! The outcome of a call, written as a record of doubles, with a detail for what is not a number.

use napi::bindgen_prelude::Either5;
use napi_derive::napi;

use super::failure::Failure;
use super::guarantees::Guarantee;
use super::info::Info;
use super::millis;
use crate::wire::{Completion, Grant, KIND};
use fencelock_core::backend::contract::{self, Busy};
use fencelock_core::backend::guarantees;
use fencelock_core::backend::redis::Ask;
use fencelock_core::error::Error;
use fencelock_core::lease::{Acks, Owner, Ttl};
use fencelock_core::manager::{self, Acquired, LeaseEnd, LeaseId};
use fencelock_core::runtime::clock::BootInstant;

/// The outcome of one call, or what is reported without one.
pub(crate) enum Outcome {
    Acquired(Acquired),
    Done,
    Flag(bool),
    /// The TTL that the lease was granted with.
    HandedOver(Ttl),
    Info(Option<contract::Info>),
    Guarantee(Box<guarantees::Guarantee>),
    Failed(Error),
    LeaseEnds(LeaseEnd),
    /// The application is asked for credentials.
    Credentials(Ask),
    Closed(manager::StillHeld),
}

/// A message or an object.
pub(crate) type Detail = Either5<String, Failure, Info, Guarantee, StillHeld>;

/// Leases that were still held when the time to drain was over.
#[napi(object, object_from_js = false)]
pub struct StillHeld {
    /// The first resource of some of them.
    pub named: Vec<String>,
    /// How many there were.
    pub count: u32,
}

impl Outcome {
    pub(crate) const fn settles_a_call(&self) -> bool {
        !matches!(self, Self::LeaseEnds(_) | Self::Credentials(_))
    }

    /// The record for JavaScript, which names a detail by its index. A lease that ended before JavaScript
    /// came to take it, at `now`, is distinguished from a valid one.
    pub(crate) fn write(self, slot: f64, now: BootInstant, details: &mut Vec<Option<Detail>>) -> Completion {
        let mut detail = |kind, detail| {
            details.push(Some(detail));
            (kind, value((details.len() - 1) as f64))
        };
        let (kind, numbers) = match self {
            Self::Acquired(Acquired::Granted { id, owner, token, held, acks }) => {
                held.deliver();
                let kind = if now < held.deadline() { KIND.granted } else { KIND.late };
                (kind, grant(id, token, acks, owner).write())
            }
            Self::Acquired(Acquired::Busy(Busy { resource, remaining })) => {
                let mut numbers = value(remaining.map_or(-1.0, millis));
                numbers[1] = resource as f64;
                (KIND.busy, numbers)
            }
            Self::Done => (KIND.value, value(0.0)),
            Self::Flag(flag) => (KIND.value, value(f64::from(u8::from(flag)))),
            Self::HandedOver(ttl) => (KIND.value, value(f64::from(ttl.as_millis()))),
            Self::Info(None) | Self::Closed(manager::StillHeld { count: 0, .. }) => {
                (KIND.nothing, value(0.0))
            }
            Self::Info(Some(info)) => detail(KIND.detail, Either5::C(info.into())),
            Self::Guarantee(guarantee) => detail(KIND.detail, Either5::D((*guarantee).into())),
            Self::Failed(error) => detail(KIND.failed, Either5::B(error.into())),
            Self::LeaseEnds(end) => detail(KIND.lease_ends, Either5::A(end.message(now))),
            Self::Credentials(Ask { number, refusal }) => {
                let mut numbers = value(f64::from(number));
                numbers[1] = refusal.map_or(-1.0, |said| detail(KIND.credentials, Either5::A(said)).1[0]);
                (KIND.credentials, numbers)
            }
            Self::Closed(manager::StillHeld { named, count }) => {
                detail(KIND.detail, Either5::E(StillHeld { named, count: count as u32 }))
            }
        };
        Completion { slot, kind, numbers }
    }
}

const fn value(value: f64) -> [f64; Grant::STRIDE] {
    let mut numbers = [0.0; Grant::STRIDE];
    numbers[0] = value;
    numbers
}

/// A lease in numbers.
pub(crate) fn grant(id: LeaseId, token: u64, acks: Option<Acks>, owner: Owner) -> Grant {
    let bits = u128::from_be_bytes(*owner.as_bytes());
    let digits = |after: u32, count: u32| ((bits >> (4 * after)) & ((1 << (4 * count)) - 1)) as f64;
    Grant {
        lease: id as f64,
        token: token as f64,
        received: acks.map_or(-1.0, |acks| f64::from(acks.received)),
        owner_high: digits(20, 12),
        owner_middle: digits(8, 12),
        owner_low: digits(0, 8),
    }
}
