//! The holder of a resource, as JavaScript receives it.

use std::time::Duration;

use napi_derive::napi;

use super::millis;
use fencelock_core::backend::contract;

/// The holder of a resource.
#[napi(object, object_from_js = false)]
pub struct Info {
    /// 32 hexadecimal digits, if fencelock wrote it.
    pub owner: String,
    /// Exact as a double; see `MIN_TOKEN_LIMIT`.
    pub token: f64,
    /// Milliseconds, rounded up; infinite for a key without TTL, which fencelock did not write.
    pub remaining_ms: f64,
}

impl From<contract::Info> for Info {
    fn from(info: contract::Info) -> Self {
        let endless = info.remaining == Duration::MAX;
        let remaining_ms = if endless { f64::INFINITY } else { millis(info.remaining) };
        Self { owner: info.owner, token: info.token as f64, remaining_ms }
    }
}
