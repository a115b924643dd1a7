//! The error of a connection that could not be made.

use std::fmt;

use crate::backend::redis::config::Config;
use crate::error::{Error, Report};

pub(crate) fn cannot_connect(
    config: &Config,
    what: &str,
    remedy: &str,
    cause: Option<&dyn fmt::Display>,
) -> Error {
    Error::BackendUnavailable(Report {
        message: format!(
            "cannot connect to redis at {}: {what}; nothing was granted or changed; {remedy}",
            config.address
        ),
        cause: cause.map(ToString::to_string),
    })
}
