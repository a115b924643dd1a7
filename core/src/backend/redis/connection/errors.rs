//! The error of a connection that could not be made.

use std::{fmt, io};

use crate::backend::redis::config::Config;
use crate::error::{Error, Report};

pub(crate) fn cannot_connect(
    config: &Config,
    what: &str,
    remedy: &str,
    cause: Option<&dyn fmt::Display>,
) -> Error {
    Error::BackendUnavailable(Report {
        cause: cause.map(ToString::to_string),
        ..Report::new(message(config, what, remedy))
    })
}

/// The same for a failure of the operating system.
pub(crate) fn cannot_reach(config: &Config, what: &str, remedy: &str, cause: &io::Error) -> Error {
    Error::BackendUnavailable(Report::caused_by_io(message(config, what, remedy), cause))
}

/// The same for a host name without an address, which has no error number.
pub(crate) fn cannot_resolve(config: &Config, cause: &io::Error) -> Error {
    let (what, remedy) = ("the host name cannot be resolved", "check the URL and DNS");
    Error::BackendUnavailable(Report {
        cause_code: Some("ENOTFOUND"),
        ..Report::caused(message(config, what, remedy), cause)
    })
}

pub(crate) fn message(config: &Config, what: &str, remedy: &str) -> String {
    format!("cannot connect to redis at {}: {what}; nothing was granted or changed; {remedy}", config.address)
}
