//! Errors of the core, as JavaScript receives them.

use napi_derive::napi;

use fencelock_core::backend::redis::reply_code;
use fencelock_core::error::Error;

/// What lib/errors.js builds an error of the right class from.
#[napi(object, object_from_js = false)]
pub struct Failure {
    /// The stable code.
    pub code: String,
    /// What happened, what it means for the lease, what to do.
    pub message: String,
    /// The underlying failure's message.
    pub cause: Option<String>,
    /// The underlying failure's POSIX name, such as `ECONNREFUSED`, or the first word of the server's error
    /// reply, such as `WRONGPASS`.
    pub cause_code: Option<String>,
    /// Acknowledgements that were required.
    pub required: Option<u32>,
    /// Acknowledgements that arrived.
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
            cause_code: error.cause_code().or_else(|| reply_code(&error)).map(str::to_owned),
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
