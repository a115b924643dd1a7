//! The contract that every backend keeps. Whoever writes a backend writes against this page; the contract suite in
//! `__test__/contract` is its test.
//!
//! **One attempt has one of three outcomes.**
//! - *Granted* ([`Attempt::Granted`]): the lease is proved. Token and lease were written in one atomic step, and as
//!   many replicas as required acknowledged them.
//! - *Busy* ([`Attempt::Busy`]): somebody else has at least one of the resources; nothing was written.
//! - An error. Either nothing was written or it was undone ([`Error::BackendUnavailable`], [`Error::Unsupported`],
//!   [`Error::InsufficientReplicas`]), or nobody knows ([`Error::OutcomeUnknown`]). In the last case, and whenever an
//!   undo could not be confirmed, the backend goes on undoing in the background by itself, until the resource is
//!   proved free of this owner or the TTL since sending has passed. It never retries an attempt.
//!
//! **Owners.** Every attempt has its own [`Owner`]. Whatever deletes compares the owner first, so that no cleanup
//! touches a later lease.
//!
//! **Several resources** are granted all together with one token, or not at all. If part of them is lost, the lease
//! is lost; a release deletes what is still ours and answers whether that was all.
//!
//! **Tokens** follow [`crate::token::next`], per resource, with the backend's own clock.
//!
//! **Waiting.** [`Backend::line_up`] confirms that a waiter will be woken whenever an attempt of its own may succeed: after
//! a release, rollback, cleanup or forced release by anybody, after a reconnect, and when somebody before it in a fair
//! line gave up or died. After that it attempts, with itself in the request: a request that finds the resources held puts
//! its waiter in line, in the same atomic step; one that is granted takes it out. A fair waiter keeps its place in line
//! until then, and while there is one in line whoever is not its head is told "busy", even if the resource is free. A
//! waiter that is not fair is woken in its turn, but others may be faster. [`Attempt::Busy`] tells how long the lease in
//! the way lasts: the waiter attempts again after that, for a holder that dies wakes nobody. [`Backend::leave`] ends it.
//! Wake-ups may come in vain, and may be lost with a connection for a second or two, but not for good.
//!
//! **Extension** replaces the time to live by the longer of what is left and what is asked for, counted from when the
//! backend handles it; it never shortens, never creates, and never revives an expired lease.
//!
//! **Threads.** Every `async fn` runs as a task on [`Backend::home`]'s thread. Dropping such a future before it is
//! done is not allowed to happen between a write and its proof, so callers do not cancel them: they let them end and
//! release what they no longer want.
//!
//! [`Error::BackendUnavailable`]: crate::error::Error::BackendUnavailable
//! [`Error::Unsupported`]: crate::error::Error::Unsupported
//! [`Error::InsufficientReplicas`]: crate::error::Error::InsufficientReplicas
//! [`Error::OutcomeUnknown`]: crate::error::Error::OutcomeUnknown

pub mod guarantee;
pub mod redis;
pub mod sqlite;
mod waiter;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::BootInstant;
use crate::error::Result;
use crate::home::Home;
use crate::lease::{Acks, Owner, Resources, Ttl};

pub use self::guarantee::Guarantee;
pub use self::waiter::Waiter;

/// One attempt to get a lease.
#[derive(Debug, Clone)]
pub struct Request {
    /// What to lock.
    pub resources: Resources,
    /// Who will hold it: new for every attempt.
    pub owner: Owner,
    /// For how long.
    pub ttl: Ttl,
    /// The token must be above this; 0 for no demand.
    pub min_token: u64,
    /// What proves the grant, for backends with replicas.
    pub acks: AckPolicy,
    /// Who asks, if it waits. A request without is nobody's turn: it is granted if the resources are free and no fair
    /// waiter is in line for any of them.
    pub waiter: Option<Waiter>,
}

/// How many replicas must acknowledge a write, and by when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AckPolicy {
    /// 0 asks for none.
    pub required: u32,
    /// 1 to half the TTL. Never 0, which would make WAIT block for ever; ignored when `required` is 0.
    pub timeout_ms: u32,
}

/// What became of one attempt that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The lease is ours.
    Granted(Grant),
    /// Somebody else has it, for this much longer if the backend can tell.
    Busy(Option<Duration>),
}

/// A proved lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The fencing token, one for all resources of the lease.
    pub token: u64,
    /// The moment before the request was sent, from which the deadline counts.
    pub sent: BootInstant,
    /// Acknowledgements, from backends that have replicas.
    pub acks: Option<Acks>,
}

/// Who holds a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The holder's owner, as it is stored: 32 hexadecimal digits if it is one of ours.
    pub owner: String,
    /// The holder's token.
    pub token: u64,
    /// How long the lease still lasts, unless it is renewed.
    pub remaining: Duration,
}

/// The backends there are. Closed on purpose: each strategy's promise is ours to keep.
#[derive(Debug)]
pub enum Backend {
    /// Strong locks.
    Redis(redis::RedisBackend),
    /// Local locks.
    Sqlite(sqlite::SqliteBackend),
}

macro_rules! each {
    ($self:ident, $backend:ident => $call:expr) => {
        match $self {
            Backend::Redis($backend) => $call,
            Backend::Sqlite($backend) => $call,
        }
    };
}

impl Backend {
    /// Sets who is told when leases are found lost that nobody asked about: all that were granted before that moment.
    /// Called once, before anything else; `told` is called from any thread, and must not call back.
    pub fn on_loss(&self, told: impl Fn(BootInstant) + Send + Sync + 'static) {
        match self {
            // A lease on a server is found lost by asking for it.
            Self::Redis(_) => {}
            Self::Sqlite(backend) => backend.on_loss(Arc::new(told)),
        }
    }

    /// The thread whose tasks may call the functions below. Starts it if need be, without I/O of the backend.
    pub fn home(&self) -> Result<Home> {
        each!(self, backend => backend.home())
    }

    /// Connects, or opens the file, so that a wrong configuration shows early. Every other call does so by itself.
    pub async fn connect(&self) -> Result<()> {
        each!(self, backend => backend.connect().await)
    }

    /// One attempt to get a lease.
    pub async fn acquire(&self, request: &Request) -> Result<Attempt> {
        each!(self, backend => backend.acquire(request).await)
    }

    /// Has a waiter woken from now on. See above.
    pub async fn line_up(&self, resources: &Resources, waiter: &Waiter) -> Result<()> {
        each!(self, backend => backend.line_up(resources, waiter).await)
    }

    /// A waiter waits no more, whether it was granted its lease or gave up. Never fails: what cannot be undone runs out.
    /// Whoever is next in line is woken if that waiter was first and the resource is free.
    pub async fn leave(&self, resources: &Resources, waiter: &Waiter) {
        each!(self, backend => backend.leave(resources, waiter).await);
    }

    /// Extends a lease and answers the moment before the request was sent. [`crate::error::Error::LockLost`] when the
    /// owner no longer has all of it.
    pub async fn extend(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        acks: AckPolicy,
    ) -> Result<BootInstant> {
        each!(self, backend => backend.extend(resources, owner, ttl, acks).await)
    }

    /// Ends a lease. `false`: some of it was no longer the owner's. On an error the backend goes on in the background
    /// for at most `ttl`.
    pub async fn release(&self, resources: &Resources, owner: Owner, ttl: Ttl) -> Result<bool> {
        each!(self, backend => backend.release(resources, owner, ttl).await)
    }

    /// Who holds the resource; `None` when it is free. Never an answer made up from an error.
    pub async fn inspect(&self, resource: &str) -> Result<Option<Info>> {
        each!(self, backend => backend.inspect(resource).await)
    }

    /// Ends whatever lease the resource has, whosever it is. `false`: it was free.
    pub async fn force_release(&self, resource: &str) -> Result<bool> {
        each!(self, backend => backend.force_release(resource).await)
    }

    /// What this deployment guarantees, as far as it can be seen now, to locks that ask for so many acknowledgements.
    pub async fn describe(&self, acks: u32) -> Result<Guarantee> {
        match self {
            Self::Redis(backend) => backend.describe(acks).await,
            Self::Sqlite(backend) => backend.describe().await,
        }
    }

    /// Gives up connections and files. Called once, after the manager released its leases; bounded in time.
    pub async fn close(&self) {
        each!(self, backend => backend.close().await);
    }
}
