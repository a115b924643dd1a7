//! The one error type of the core. Each variant is a class that users tell apart by its [`Error::code`].

/// What happened, what it means for the lease and what to do, with the message of the layer below.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Report {
    /// For people, in full sentences. Never holds a secret.
    pub message: String,
    /// The message of the underlying failure, as its source worded it.
    pub cause: Option<String>,
}

/// A grant that too few replicas acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{received} of the required {required} replicas acknowledged the {subject}{detail}")]
pub struct Shortfall {
    /// How many acknowledgements the caller asked for.
    pub required: u32,
    /// How many replicas acknowledged in time.
    pub received: u32,
    /// How many replicas the primary said were connected, if it could be asked.
    pub connected: Option<u32>,
    /// Whether this primary confirmed that nothing of the attempt is left on it.
    pub rolled_back: bool,
    /// "grant" or "extension".
    pub subject: &'static str,
    /// The rest of the message: what it means and what to do.
    pub detail: String,
}

/// Why an operation failed. That another owner holds the lock is an outcome, not an error: see
/// [`Attempt::Busy`](crate::backend::contract::Attempt::Busy).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Too few replicas acknowledged; see [`Shortfall::rolled_back`].
    #[error(transparent)]
    InsufficientReplicas(Shortfall),
    /// The request was sent, and no reply proves its outcome. Cleanup continues in the background.
    #[error(transparent)]
    OutcomeUnknown(Report),
    /// The lease ended or was taken.
    #[error(transparent)]
    LockLost(Report),
    /// The backend cannot be reached or opened, or refuses service; nothing was granted.
    #[error(transparent)]
    BackendUnavailable(Report),
    /// The backend lacks something this operation needs; nothing was granted.
    #[error(transparent)]
    Unsupported(Report),
    /// The manager was closed.
    #[error("the lock manager was closed; create a new LockManager")]
    Closed,
    /// A value that no operation accepts.
    #[error(transparent)]
    InvalidOption(Report),
}

/// The result of every fallible operation of the core.
pub type Result<T> = std::result::Result<T, Error>;

impl Report {
    /// A report with no underlying failure.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), cause: None }
    }

    /// A report about an underlying failure.
    pub fn caused(message: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Self { message: message.into(), cause: Some(cause.to_string()) }
    }
}

impl Error {
    /// The stable code that JavaScript errors carry.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InsufficientReplicas(_) => "INSUFFICIENT_REPLICAS",
            Self::OutcomeUnknown(_) => "OUTCOME_UNKNOWN",
            Self::LockLost(_) => "LOCK_LOST",
            Self::BackendUnavailable(_) => "BACKEND_UNAVAILABLE",
            Self::Unsupported(_) => "UNSUPPORTED",
            Self::Closed => "CLOSED",
            Self::InvalidOption(_) => "INVALID_OPTION",
        }
    }

    /// The underlying failure's message, if there was one.
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::OutcomeUnknown(report)
            | Self::LockLost(report)
            | Self::BackendUnavailable(report)
            | Self::Unsupported(report)
            | Self::InvalidOption(report) => report.cause.as_deref(),
            Self::InsufficientReplicas(_) | Self::Closed => None,
        }
    }

    /// [`Error::LockLost`] with this message.
    pub fn lost(message: impl Into<String>) -> Self {
        Self::LockLost(Report::new(message))
    }

    /// [`Error::BackendUnavailable`] with this message.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::BackendUnavailable(Report::new(message))
    }

    /// [`Error::Unsupported`] with this message.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::Unsupported(Report::new(message))
    }

    /// [`Error::InvalidOption`] with this message.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidOption(Report::new(message))
    }
}
