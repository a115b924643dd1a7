//! The error of a connection that could not be made.

use std::{fmt, io};

use crate::backend::redis::config::endpoint::{Endpoint, ServerKind};
use crate::error::{Consequence, Error, Report};

/// Whether a failure to connect may soon be over: the server said nothing, or that it is not the primary, or
/// not yet. A refusal stays one.
pub(crate) fn may_pass(error: &Error) -> bool {
    let Error::BackendUnavailable(report) = error else { return false };
    report.failover || report.cause_code.is_some() || report.cause.is_none()
}

pub(crate) fn cannot_connect(
    endpoint: &Endpoint,
    what: &str,
    remedy: &str,
    cause: Option<&dyn fmt::Display>,
) -> Error {
    Error::BackendUnavailable(Report {
        consequence: Consequence::InMessage,
        cause: cause.map(ToString::to_string),
        ..Report::new(message(endpoint, what, remedy))
    })
}

/// The same for a failure of the operating system.
pub(crate) fn cannot_reach(endpoint: &Endpoint, what: &str, remedy: &str, cause: &io::Error) -> Error {
    of_one_of_several(
        endpoint,
        Error::BackendUnavailable(Report::caused_by_io(message(endpoint, what, remedy), cause)),
    )
}

/// A primary of a cluster that cannot be reached may soon have a successor.
pub(crate) fn of_one_of_several(endpoint: &Endpoint, error: Error) -> Error {
    if endpoint.kind == ServerKind::ClusterPrimary { error.of_failover() } else { error }
}

/// The same for a host name without an address, which has no error number.
pub(crate) fn cannot_resolve(endpoint: &Endpoint, cause: &io::Error) -> Error {
    let (what, remedy) = ("the host name cannot be resolved", "check the URL and DNS");
    Error::BackendUnavailable(Report {
        consequence: Consequence::InMessage,
        cause_code: Some("ENOTFOUND"),
        ..Report::caused(message(endpoint, what, remedy), cause)
    })
}

pub(crate) fn message(endpoint: &Endpoint, what: &str, remedy: &str) -> String {
    let server = if endpoint.kind == ServerKind::Sentinel { "the Sentinel" } else { "redis" };
    format!(
        "cannot connect to {server} at {}: {what}; nothing was granted or changed; {remedy}",
        endpoint.address
    )
}
