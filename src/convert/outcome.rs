//! The outcome of a call, written as a record of doubles, with a detail for what is not a number.

use napi::bindgen_prelude::Either7;
use napi_derive::napi;

use super::event::Event;
use super::failure::Failure;
use super::guarantees::Guarantee;
use super::info::{Info, Page};
use super::millis;
use crate::wire::{Completion, Grant, KIND};
use fencelock_core::backend::contract::Busy;
use fencelock_core::backend::guarantees;
use fencelock_core::backend::redis::Ask;
use fencelock_core::error::Error;
use fencelock_core::lease::{Acks, Owner, Ttl};
use fencelock_core::manager::{self, Acquired, Found, LeaseEnd, LeaseId};
use fencelock_core::runtime::clock::BootInstant;

/// The outcome of one call, or what is reported without one.
pub(crate) enum Outcome {
    Acquired(Acquired),
    Done,
    Flag(bool),
    /// The TTL that the lease was granted with.
    HandedOver(Ttl),
    Found(Option<Found>),
    /// Some of the locks of a listing; none if there are no more.
    Page(Option<Vec<Found>>),
    Guarantee(Box<guarantees::Guarantee>),
    Failed(Error),
    LeaseEnds(LeaseEnd),
    /// The call has begun to wait.
    Waits,
    Happened(Box<manager::Event>),
    /// The application is asked for credentials.
    Credentials(Ask),
    /// The application's event loop is to read this socket.
    #[cfg(unix)]
    Socket(i32),
    Closed(manager::StillHeld),
}

/// A message or an object.
pub(crate) type Detail = Either7<String, Failure, Info, Guarantee, StillHeld, Page, Event>;

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
        #[cfg(unix)]
        if matches!(self, Self::Socket(_)) {
            return false;
        }
        !matches!(self, Self::LeaseEnds(_) | Self::Credentials(_) | Self::Waits | Self::Happened(_))
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
                let kind = if held.deliver(now) { KIND.granted } else { KIND.late };
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
            Self::Found(None) | Self::Page(None) | Self::Closed(manager::StillHeld { count: 0, .. }) => {
                (KIND.nothing, value(0.0))
            }
            Self::Found(Some(found)) => detail(KIND.detail, Either7::C(found.into())),
            Self::Page(Some(page)) => detail(KIND.detail, Either7::F(page.into())),
            Self::Guarantee(guarantee) => detail(KIND.detail, Either7::D((*guarantee).into())),
            Self::Failed(error) => detail(KIND.failed, Either7::B(error.into())),
            Self::LeaseEnds(end) => detail(KIND.lease_ends, Either7::A(end.message(now))),
            Self::Waits => (KIND.waits, value(0.0)),
            Self::Happened(event) => detail(KIND.event, Either7::G((*event).into())),
            Self::Credentials(Ask { number, refusal }) => {
                let mut numbers = value(f64::from(number));
                numbers[1] = refusal.map_or(-1.0, |said| detail(KIND.credentials, Either7::A(said)).1[0]);
                (KIND.credentials, numbers)
            }
            #[cfg(unix)]
            Self::Socket(fd) => (KIND.socket, value(f64::from(fd))),
            Self::Closed(manager::StillHeld { named, count }) => {
                detail(KIND.detail, Either7::E(StillHeld { named, count: count as u32 }))
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
