//! What the core answers, in the form the facade reads: a kind and some doubles, and a detail for what is no number.

use std::time::Duration;

use napi::bindgen_prelude::Either4;
use napi_derive::napi;

use crate::guarantees::Guarantee;
use fencelock_core::backend;
use fencelock_core::backend::contract;
use fencelock_core::error::Error;
use fencelock_core::lease::{Acks, Owner};
use fencelock_core::manager::{self, Acquired, LeaseId};
use fencelock_core::runtime::clock::BootInstant;

/// Doubles in a record: slot, kind, six numbers. lib/settle.js has the same.
pub(crate) const STRIDE: usize = 8;

/// The result of one call, or the end of a watched lease.
pub(crate) enum Outcome {
    Acquired(Acquired),
    Done,
    Flag(bool),
    Info(Option<contract::Info>),
    Guarantee(Box<backend::guarantees::Guarantee>),
    Failed(Error),
    Ends(String),
}

/// A message or an object.
pub(crate) type Detail = Either4<String, Failure, Info, Guarantee>;

// The kinds of records. lib/settle.js has the same.
const GRANTED: f64 = 0.0;
const BUSY: f64 = 1.0;
const VALUE: f64 = 2.0;
const FAILED: f64 = 3.0;
const DETAIL: f64 = 4.0;
const ENDS: f64 = 5.0;
const LATE: f64 = 6.0;
const NOTHING: f64 = 7.0;

impl Outcome {
    pub(crate) const fn settles_a_call(&self) -> bool {
        !matches!(self, Self::Ends(_))
    }

    /// Writes kind and numbers, which for a detail are its index. A lease that ended before JavaScript's thread came to take
    /// it (`now`) is told apart from one that counts.
    pub(crate) fn write(self, now: BootInstant, record: &mut [f64], details: &mut Vec<Detail>) {
        let mut detail = |kind, detail| {
            details.push(detail);
            (kind, [(details.len() - 1) as f64, 0.0, 0.0, 0.0, 0.0, 0.0])
        };
        let number = |kind, number| (kind, [number, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let (kind, numbers) = match self {
            Self::Acquired(Acquired::Granted { id, owner, token, held, acks }) => {
                let kind = if now < held.deadline() { GRANTED } else { LATE };
                (kind, grant(id, token, acks, owner))
            }
            Self::Acquired(Acquired::Busy(remaining)) => number(BUSY, remaining.map_or(-1.0, millis)),
            Self::Done => number(VALUE, 0.0),
            Self::Flag(flag) => number(VALUE, f64::from(u8::from(flag))),
            Self::Info(None) => number(NOTHING, 0.0),
            Self::Info(Some(info)) => detail(DETAIL, Either4::C(info.into())),
            Self::Guarantee(guarantee) => detail(DETAIL, Either4::D((*guarantee).into())),
            Self::Failed(error) => detail(FAILED, Either4::B(error.into())),
            Self::Ends(message) => detail(ENDS, Either4::A(message)),
        };
        record[0] = kind;
        record[1..].copy_from_slice(&numbers);
    }
}

/// A lease in numbers, which doubles hold exactly. An owner is 12, 12 and 8 of its hexadecimal digits: the facade makes a text
/// of them when somebody asks for it, which is seldom.
pub(crate) fn grant(id: LeaseId, token: u64, acks: Option<Acks>, owner: Owner) -> [f64; 6] {
    let received = acks.map_or(-1.0, |acks| f64::from(acks.received));
    let bits = u128::from_be_bytes(*owner.as_bytes());
    let digits = |after: u32, count: u32| ((bits >> (4 * after)) & ((1 << (4 * count)) - 1)) as f64;
    [id as f64, token as f64, received, digits(20, 12), digits(8, 12), digits(0, 8)]
}

/// Whole milliseconds, rounded up: a lease with any time left never shows zero.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_micros().div_ceil(1000) as f64
}

/// From which the facade makes an error of the right class.
#[napi(object)]
pub struct Failure {
    /// The stable code.
    pub code: String,
    /// What happened, what it means for the lease, what to do.
    pub message: String,
    /// The underlying failure's message.
    pub cause: Option<String>,
    /// Acknowledgements asked for.
    pub required: Option<u32>,
    /// Acknowledgements that came.
    pub received: Option<u32>,
    /// Replicas that were connected.
    pub connected: Option<u32>,
    /// Whether this primary confirmed that nothing is left.
    pub rolled_back: Option<bool>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut failure = Self {
            code: error.code().to_owned(),
            message: error.to_string(),
            cause: error.cause().map(str::to_owned),
            required: None,
            received: None,
            connected: None,
            rolled_back: None,
        };
        if let Error::InsufficientReplicas(shortfall) = error {
            failure.required = Some(shortfall.required);
            failure.received = Some(shortfall.received);
            failure.connected = shortfall.connected;
            failure.rolled_back = Some(shortfall.rolled_back);
        }
        failure
    }
}

/// Who holds a resource.
#[napi(object)]
pub struct Info {
    /// 32 hexadecimal digits, if it is one of ours.
    pub owner: String,
    /// Exact as a double; see `token::MIN_TOKEN_LIMIT`.
    pub token: f64,
    /// Milliseconds, rounded up; infinite for a lock without an end, which is none of ours.
    pub remaining_ms: f64,
}

impl From<contract::Info> for Info {
    fn from(info: contract::Info) -> Self {
        let endless = info.remaining == Duration::MAX;
        let remaining_ms = if endless { f64::INFINITY } else { millis(info.remaining) };
        Self { owner: info.owner, token: info.token as f64, remaining_ms }
    }
}

/// Counters since the manager was made.
#[napi(object)]
pub struct Stats {
    /// Leases held now.
    pub held: f64,
    /// Calls under way now.
    pub pending: f64,
    /// Those of them that may wait for somebody else's lease to end.
    pub waiting: f64,
    /// Background cleanups under way now.
    pub cleanups: f64,
    /// Attempts that got the lease.
    pub granted: f64,
    /// Attempts that found somebody else.
    pub busy: f64,
    /// Attempts with too few acknowledgements.
    pub insufficient: f64,
    /// Attempts of unknown outcome.
    pub unknown: f64,
    /// Attempts that failed otherwise.
    pub failed: f64,
    /// Acknowledged extensions, renewals among them.
    pub extended: f64,
    /// Releases that ended a lease.
    pub released: f64,
    /// Leases found lost.
    pub lost: f64,
}

impl From<manager::Stats> for Stats {
    fn from(stats: manager::Stats) -> Self {
        Self {
            held: stats.held as f64,
            pending: stats.pending as f64,
            waiting: stats.waiting as f64,
            cleanups: stats.cleanups as f64,
            granted: stats.granted as f64,
            busy: stats.busy as f64,
            insufficient: stats.insufficient as f64,
            unknown: stats.unknown as f64,
            failed: stats.failed as f64,
            extended: stats.extended as f64,
            released: stats.released as f64,
            lost: stats.lost as f64,
        }
    }
}
