//! Locks and their holders, as JavaScript receives them.

use std::time::Duration;

use napi_derive::napi;

use super::millis;
use fencelock_core::lease;
use fencelock_core::manager::Found;

/// A resource that is held.
#[napi(object, object_from_js = false)]
pub struct Info {
    /// Its name.
    pub resource: String,
    /// 32 hexadecimal digits, if fencelock wrote it.
    pub owner: String,
    /// Exact as a double; see `MIN_TOKEN_LIMIT`.
    pub token: f64,
    /// Milliseconds, rounded up; infinite for a key without TTL, which fencelock did not write.
    pub remaining_ms: f64,
    /// How many wait for it.
    pub waiters: u32,
    /// Nothing if it is unknown.
    pub holder: Option<Holder>,
}

/// Who holds a lock.
#[napi(object, object_from_js = false)]
pub struct Holder {
    /// As its application chose it.
    pub name: String,
    /// The name of its host.
    pub host: String,
    /// The number of its process.
    pub pid: u32,
    /// When its manager was made, in milliseconds since 1970.
    pub since_ms: f64,
}

/// Some of the locks of a listing.
#[napi(object, object_from_js = false)]
pub struct Page {
    /// In no particular order.
    pub locks: Vec<Info>,
}

impl From<Found> for Info {
    fn from(Found { resource, info, holder }: Found) -> Self {
        let endless = info.remaining == Duration::MAX;
        let remaining_ms = if endless { f64::INFINITY } else { millis(info.remaining) };
        Self {
            resource: resource.as_ref().to_owned(),
            owner: info.owner,
            token: info.token as f64,
            remaining_ms,
            waiters: info.waiters,
            holder: holder.map(Holder::from),
        }
    }
}

impl From<lease::Holder> for Holder {
    fn from(lease::Holder { name, host, pid, since_ms }: lease::Holder) -> Self {
        Self { name, host, pid, since_ms: since_ms as f64 }
    }
}

impl From<Vec<Found>> for Page {
    fn from(locks: Vec<Found>) -> Self {
        Self { locks: locks.into_iter().map(Info::from).collect() }
    }
}
