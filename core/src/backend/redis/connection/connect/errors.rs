//! The error of a connection that could not be made.

use std::fmt;
use std::io::{Error as IoError, ErrorKind};

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
        cause: cause.map(ToString::to_string),
        ..report(endpoint, what, remedy)
    })
}

/// The same for a failure of the operating system.
pub(crate) fn cannot_reach(endpoint: &Endpoint, what: &str, remedy: &str, cause: &IoError) -> Error {
    of_one_of_several(
        endpoint,
        Error::BackendUnavailable(
            Report::caused_by_io(message(endpoint, what, remedy), cause)
                .with_consequence(Consequence::Unchanged),
        ),
    )
}

/// A primary of a cluster that cannot be reached may soon have a successor.
pub(crate) fn of_one_of_several(endpoint: &Endpoint, error: Error) -> Error {
    if endpoint.kind == ServerKind::ClusterPrimary { error.of_failover() } else { error }
}

/// The same for a host name without an address, which has no error number.
pub(crate) fn cannot_resolve(endpoint: &Endpoint, cause: &IoError) -> Error {
    let (what, remedy) = ("the host name cannot be resolved", "check the URL and DNS");
    Error::BackendUnavailable(Report {
        cause: Some(cause.to_string()),
        cause_code: Some("ENOTFOUND"),
        ..report(endpoint, what, remedy)
    })
}

fn report(endpoint: &Endpoint, what: &str, remedy: &str) -> Report {
    Report::new(message(endpoint, what, remedy)).with_consequence(Consequence::Unchanged)
}

/// Does not end with a full stop.
pub(crate) fn message(endpoint: &Endpoint, what: &str, remedy: &str) -> String {
    let server = if endpoint.kind == ServerKind::Sentinel { "the Sentinel" } else { "redis" };
    format!("cannot connect to {server} at {}: {what}; {remedy}", endpoint.address)
}

pub(super) fn unreachable(endpoint: &Endpoint, error: &IoError) -> Error {
    let (what, remedy) = match error.kind() {
        ErrorKind::ConnectionRefused => {
            ("connection refused", "is the server running, and is the port right?")
        }
        ErrorKind::NotFound => ("nothing there", "check the address; is the server running?"),
        ErrorKind::PermissionDenied => ("permission denied", "allow this user to connect to the socket"),
        ErrorKind::TimedOut => ("no response", "check the address and firewalls"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            ("no route to the host", "check the address and the network")
        }
        _ => ("the connection failed", "check the address and the network"),
    };
    cannot_reach(endpoint, what, remedy, error)
}
