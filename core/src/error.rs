//! The one error type of the core. Each variant is a class that users tell apart by its [`Error::code`].

use std::io::{self, ErrorKind};

/// What happened, what it means for the lease and what to do, with the message of the layer below.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", consequence.after(message))]
pub struct Report {
    /// For people, in full sentences. Never holds a secret.
    pub message: String,
    /// What it means for the lease: the last sentence.
    pub consequence: Consequence,
    /// The message of the underlying failure, as its source worded it.
    pub cause: Option<String>,
    /// The name that POSIX, and so Node.js, has for the underlying failure, such as `ECONNREFUSED`.
    pub cause_code: Option<&'static str>,
    /// Whether the server said that it is not the primary, or not yet, or went away after it had been there,
    /// as in a failover: another attempt may soon meet the right one.
    pub failover: bool,
}

/// What a call asked for, and so what its failure means for the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A lease, at once or after a wait.
    Acquire,
    /// More time.
    Extend,
    /// To leave a lease to the process that has its ticket.
    HandOver,
    /// The lease of a ticket.
    Adopt,
    /// The end of a lease.
    Release,
    /// The end of whatever lease there is.
    ForceRelease,
    /// Who holds a resource.
    Inspect,
    /// Which resources are held.
    List,
}

impl Call {
    /// What it means that it was refused, and that its outcome is unknown.
    const fn consequences(self) -> [Consequence; 2] {
        match self {
            Self::Acquire => [Consequence::NotGranted, Consequence::MayBeGranted],
            Self::Extend => [Consequence::NotExtended, Consequence::MayBeExtended],
            Self::HandOver => [Consequence::NotHandedOver; 2],
            Self::Adopt => [Consequence::NotAdopted, Consequence::MayBeGranted],
            Self::Release => [Consequence::NotReleased; 2],
            Self::ForceRelease => [Consequence::NotForced, Consequence::MayBeForced],
            Self::Inspect => [Consequence::NotKnown; 2],
            Self::List => [Consequence::NotListed; 2],
        }
    }
}

/// What an error means for the lease, where that depends on what was asked for. One byte, because results are
/// moved a lot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// The message itself says it.
    InMessage,
    /// The failure came before any lease was touched, in a part that does not know what was asked for:
    /// [`Error::of`] says it in the words of the call.
    Unchanged,
    /// An acquire was refused.
    NotGranted,
    /// The outcome of an acquire is unknown.
    MayBeGranted,
    /// An extension was refused.
    NotExtended,
    /// The outcome of an extension is unknown.
    MayBeExtended,
    /// A lease was not handed over, or it is not known how far that got.
    NotHandedOver,
    /// A lease was not taken over.
    NotAdopted,
    /// A release was refused, or its outcome is unknown.
    NotReleased,
    /// A release by force was refused.
    NotForced,
    /// The outcome of a release by force is unknown.
    MayBeForced,
    /// Who holds a resource was not answered.
    NotKnown,
    /// Which resources are held was not answered.
    NotListed,
}

impl Consequence {
    /// What follows this message, which has no full stop then.
    fn after(self, message: &str) -> &'static str {
        let sentence = self.sentence();
        // Advice may be a question.
        if message.ends_with('?') { sentence.trim_start_matches('.') } else { sentence }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::InMessage => "",
            Self::Unchanged => ". Nothing was granted or changed",
            Self::NotGranted => ". Nothing was granted",
            Self::MayBeGranted => {
                ". What may have been granted is being released in the background; do not treat it as held"
            }
            Self::NotExtended => ". The lease was not extended: it ends when it would have",
            Self::MayBeExtended => ". The lease lasts until its old deadline at least",
            Self::NotHandedOver => ". The lease was not handed over, and is held as before",
            Self::NotAdopted => ". Nothing was granted; the ticket can be used again while its lease lasts",
            Self::NotReleased => {
                ". The lock may stay held until its lease ends; its release is retried in the background until then"
            }
            Self::NotForced => ". The lock was not released",
            Self::MayBeForced => {
                ". The lease may have ended: inspect the resource, and repeat the call if it is still held"
            }
            Self::NotKnown => ". Whether the lock is held is not known",
            Self::NotListed => ". Which locks are held is not known",
        }
    }
}

/// A grant or an extension that too few servers acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Shortfall {
    /// How many acknowledgements the caller asked for.
    pub required: u32,
    /// How many replicas acknowledged in time.
    pub received: u32,
    /// How many replicas the primary said were connected, if it could be asked.
    pub connected: Option<u32>,
    /// Whether this primary confirmed that nothing of the attempt is left on it.
    pub rolled_back: bool,
    /// What happened, what it means and what to do.
    pub message: String,
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
        Self {
            message: message.into(),
            consequence: Consequence::InMessage,
            cause: None,
            cause_code: None,
            failover: false,
        }
    }

    /// The same report, which ends with what it means for the lease.
    #[must_use]
    pub fn with_consequence(self, consequence: Consequence) -> Self {
        Self { consequence, ..self }
    }

    /// A report about an underlying failure.
    pub fn caused(message: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Self { cause: Some(cause.to_string()), ..Self::new(message) }
    }

    /// A report about a failure that the operating system reported.
    pub fn caused_by_io(message: impl Into<String>, cause: &io::Error) -> Self {
        Self { cause_code: posix_name(cause), ..Self::caused(message, cause) }
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
        self.report().and_then(|report| report.cause.as_deref())
    }

    /// The underlying failure's POSIX name, if it has one.
    pub fn cause_code(&self) -> Option<&'static str> {
        self.report().and_then(|report| report.cause_code)
    }

    /// Whether a key in the place of a lock, which another application wrote, has another type.
    pub fn is_of_key_type(&self) -> bool {
        self.cause().is_some_and(|cause| cause.contains("WRONGTYPE"))
    }

    /// What happened and what to do, without what it means for the lease: for a part of another message.
    pub fn what(&self) -> String {
        match self.report() {
            Some(report) => report.message.clone(),
            None => self.to_string(),
        }
    }

    /// This error, as the answer to this call: it says what it means for the lease, unless its message does.
    #[must_use]
    pub fn of(mut self, call: Call) -> Self {
        let [refused, unknown] = call.consequences();
        match &mut self {
            Self::BackendUnavailable(report) | Self::Unsupported(report)
                if matches!(report.consequence, Consequence::NotGranted | Consequence::Unchanged) =>
            {
                report.consequence = refused;
            }
            Self::OutcomeUnknown(report) if report.consequence == Consequence::MayBeGranted => {
                report.consequence = unknown;
            }
            _ => {}
        }
        self
    }

    /// See [`Report::failover`].
    pub fn is_failover(&self) -> bool {
        self.report().is_some_and(|report| report.failover)
    }

    /// This error, as one that a failover may explain: see [`Report::failover`].
    #[must_use]
    pub fn of_failover(mut self) -> Self {
        if let Self::BackendUnavailable(report) = &mut self {
            report.failover = true;
        }
        self
    }

    const fn report(&self) -> Option<&Report> {
        match self {
            Self::OutcomeUnknown(report)
            | Self::LockLost(report)
            | Self::BackendUnavailable(report)
            | Self::Unsupported(report)
            | Self::InvalidOption(report) => Some(report),
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

    /// [`Error::BackendUnavailable`] with this message, before any lease was touched.
    pub fn untouched(message: impl Into<String>) -> Self {
        Self::BackendUnavailable(Report::new(message).with_consequence(Consequence::Unchanged))
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

/// The POSIX name of an error of the operating system, on every platform.
fn posix_name(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        ErrorKind::AddrNotAvailable => "EADDRNOTAVAIL",
        ErrorKind::AlreadyExists => "EEXIST",
        ErrorKind::BrokenPipe => "EPIPE",
        ErrorKind::ConnectionAborted => "ECONNABORTED",
        ErrorKind::ConnectionRefused => "ECONNREFUSED",
        ErrorKind::ConnectionReset => "ECONNRESET",
        ErrorKind::HostUnreachable => "EHOSTUNREACH",
        ErrorKind::InvalidFilename => "ENAMETOOLONG",
        ErrorKind::IsADirectory => "EISDIR",
        ErrorKind::NetworkDown => "ENETDOWN",
        ErrorKind::NetworkUnreachable => "ENETUNREACH",
        ErrorKind::NotADirectory => "ENOTDIR",
        ErrorKind::NotFound => "ENOENT",
        // EPERM is of this kind as well.
        ErrorKind::PermissionDenied if cfg!(unix) && error.raw_os_error() == Some(1) => "EPERM",
        ErrorKind::PermissionDenied => "EACCES",
        ErrorKind::QuotaExceeded => "EDQUOT",
        ErrorKind::ReadOnlyFilesystem => "EROFS",
        ErrorKind::StorageFull => "ENOSPC",
        ErrorKind::TimedOut => "ETIMEDOUT",
        // Those that the standard library does not classify.
        _ => match error.raw_os_error() {
            Some(23) if cfg!(unix) => "ENFILE",
            Some(24) if cfg!(unix) => "EMFILE",
            Some(10_024) if cfg!(windows) => "EMFILE",
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_before_any_lease_was_touched_says_what_it_means_for_the_call() {
        let error = Error::untouched("it failed; is it there?");
        assert_eq!(error.to_string(), "it failed; is it there? Nothing was granted or changed");
        assert_eq!(error.what(), "it failed; is it there?");
        for (call, expected) in [
            (Call::Acquire, "Nothing was granted"),
            (Call::Extend, "The lease was not extended: it ends when it would have"),
            (Call::HandOver, "The lease was not handed over, and is held as before"),
            (Call::Adopt, "Nothing was granted; the ticket can be used again while its lease lasts"),
            (
                Call::Release,
                "The lock may stay held until its lease ends; its release is retried in the background until then",
            ),
            (Call::ForceRelease, "The lock was not released"),
            (Call::Inspect, "Whether the lock is held is not known"),
            (Call::List, "Which locks are held is not known"),
        ] {
            let message = error.clone().of(call).to_string();
            assert_eq!(message, format!("it failed; is it there? {expected}"));
        }
        let told = Error::unavailable("it failed; the lease keeps its old deadline; try again");
        assert_eq!(told.clone().of(Call::Extend), told, "what its message says is not said twice");
    }

    #[test]
    fn a_failure_of_the_operating_system_keeps_its_posix_name() {
        let refused = io::Error::from(ErrorKind::ConnectionRefused);
        let error = Error::BackendUnavailable(Report::caused_by_io("it failed", &refused));
        assert_eq!(error.cause_code(), Some("ECONNREFUSED"));
        assert_eq!(error.cause(), Some(refused.to_string().as_str()));
        assert_eq!(Error::unavailable("it failed").cause_code(), None);
        assert_eq!(posix_name(&io::Error::other("no error of the system")), None);
        #[cfg(unix)]
        for (number, name) in [(1, "EPERM"), (13, "EACCES"), (24, "EMFILE"), (28, "ENOSPC")] {
            assert_eq!(posix_name(&io::Error::from_raw_os_error(number)), Some(name));
        }
    }
}
