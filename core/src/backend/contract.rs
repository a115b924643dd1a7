//! The contract that every backend keeps. The contract suite of the JavaScript tests (`__test__/contract`)
//! runs against each of them.
//!
//! **One attempt has one of three outcomes.**
//! - *Granted* ([`Attempt::Granted`]): the lease is proved. Token and lease were written in one atomic step,
//!   and as many replicas as required acknowledged them.
//! - *Busy* ([`Attempt::Busy`]): another owner has at least one of the resources; nothing was written.
//! - *An error*. [`Error::BackendUnavailable`], [`Error::Unsupported`] and [`Error::InsufficientReplicas`]:
//!   nothing was written, or it was undone. [`Error::OutcomeUnknown`]: something may have been written. In
//!   that case, and whenever an undo could not be confirmed, the backend keeps undoing in the background
//!   until the resource is proved free of this owner. That takes a TTL from when the backend first answers
//!   again, if nothing is there to delete: what was sent may be executed late, and its TTL begins then. It
//!   never retries an attempt.
//!
//! **Owners.** Every attempt has its own [`Owner`]. Every deletion compares the owner first, so no cleanup
//! touches a later lease.
//!
//! **Several resources** are granted together with one token, or not at all. If part of them is lost, the
//! lease is lost. A release deletes what is still ours and returns whether that was all of it.
//!
//! **Tokens** follow [`crate::lease::token::next`], per resource, with the backend's own clock. Where it has
//! no next token, nothing is granted.
//!
//! **Waiting.** [`LockBackend::join_queue`] registers a waiter. From then on the waiter is woken whenever an
//! attempt of its own may succeed: after a release, rollback, cleanup or forced release by any client, after
//! a reconnect, and when a waiter ahead of it in a fair queue gave up or died. Once it has joined, it
//! attempts, with itself in the request, and again at every wake-up. An attempt that finds the resources held
//! puts its waiter into the queue in the same atomic step; a granted one removes it. A fair waiter keeps its
//! place until then, and while a fair queue exists every request but its head's is busy, even if the resource
//! is free. A waiter that is not fair is woken in turn, but others may overtake it. [`Attempt::Busy`] says
//! how long the current lease lasts: the waiter attempts again after that, because a holder that dies wakes
//! no one. [`LockBackend::leave_queue`] ends the wait. Wake-ups may be spurious, and may be lost with a
//! connection for a second or two, but never for good.
//!
//! **Extension** replaces the remaining time to live by the longer of what is left and what is asked for,
//! counted from when the backend handles it. It never shortens, never creates, and never revives an expired
//! lease.
//!
//! **The minimum** ([`Request::min_hold`]) keeps others out for that long from the grant. The stored lease
//! lasts for at least as long, whatever its TTL. A release leaves the rest of the minimum standing under the
//! same owner, and only its end, a forced release or the loss of the data removes that. A holder that is
//! known to be dead keeps others out until then, too. Waiters learn of the shorter time in one of two ways:
//! they are woken and find the lock busy with the rest as its remaining time, or they are woken when the rest
//! is over. What undoes a grant that no caller got ignores the minimum, and an adoption ends it.
//!
//! **Handing over.** [`LockBackend::hand_over`] leaves a lease as it is, to live by its TTL: whether the
//! process that was granted it still lives no longer matters. [`LockBackend::adopt`] replaces its owner by
//! that of the request, with a new token and a new TTL, in one atomic step that compares the old owner. So a
//! lease is adopted once, and what its old owner still sends finds another one. An adoption is proved as a
//! grant, and is undone as one, with one difference: a backend that can tell that it took place may put the
//! old owner back.
//!
//! **Failovers.** A lease is only as lasting as the server that has it. When that may have been replaced or
//! restarted, the [`FailoverListener`] gets the [`Outage`]; what the server that answers after it does not
//! have is found with [`LockBackend::find_missing`].
//!
//! **Holders.** The first bits of an owner name its manager ([`Owner::holder`]). [`LockBackend::announce`]
//! stores what people call it, once for all of its leases and for a limited time, and
//! [`LockBackend::look_up_holder`] finds that. No operation on leases depends on either.
//!
//! **Listing.** [`LockBackend::next_page`] returns the next locks in steps that are short for the backend
//! and for those that share it. A lock that is held from the beginning of the listing to its end is
//! returned, also if the server fails over or the lock moves to another meanwhile; others may be. What was
//! released since it was found is left out.
//!
//! **Threads.** Every `async fn` runs as a task on the thread of [`LockBackend::executor`]. Callers never
//! drop such a future early, because it could be between a write and its proof: they let it finish and
//! release what they no longer want.
//!
//! [`Error::BackendUnavailable`]: crate::error::Error::BackendUnavailable
//! [`Error::Unsupported`]: crate::error::Error::Unsupported
//! [`Error::InsufficientReplicas`]: crate::error::Error::InsufficientReplicas
//! [`Error::OutcomeUnknown`]: crate::error::Error::OutcomeUnknown

#![warn(missing_docs)]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::connections::Connections;
use super::guarantees::Guarantee;
use super::waiter::Waiter;
use crate::error::{Error, Result};
use crate::lease::{AckPolicy, Acks, Holder, HolderId, Mode, Owner, Resources, Ttl};
use crate::runtime::clock::BootInstant;
use crate::runtime::executor::Executor;

/// Is notified when leases are found lost without having been asked about: all that were granted before this
/// moment. Called from any thread; must not call back.
pub type LossListener = Arc<dyn Fn(BootInstant) + Send + Sync>;

/// A server that has leases may have been replaced by another, or restarted; or some of its leases have moved
/// to another.
pub trait Outage: Send + Sync {
    /// Whether the server has, or had, the lease of these resources.
    fn concerns(&self, resources: &Resources) -> bool;

    /// Connects, and returns whether another server took over, or the same was restarted. `false`: it is the
    /// one that granted the leases. An error: none answers yet.
    fn is_failover(&self) -> BoxFuture<'_, Result<bool>>;
}

/// Is notified of each [`Outage`], once: another one of that server is reported only when the first was
/// dropped, except that each move of leases is reported. Called from any thread; must not block or call back.
pub type FailoverListener = Arc<dyn Fn(Arc<dyn Outage>) + Send + Sync>;

/// Whether a lease is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Held,
    /// It is not: the resources are free, or another owner has some of them.
    Missing,
    /// The server gave no answer that can be relied on.
    Unknown,
}

/// What a backend does for its manager.
pub trait LockBackend {
    /// A listing that is under way. Holds nothing open.
    type Listing: Send + fmt::Debug;

    /// Sets the listener for losses that the backend notices by itself. Called once, before anything else.
    /// Backends that find a loss only by asking ignore it.
    fn on_loss(&self, _listener: LossListener) {}

    /// Sets the listener for failovers. Called once, before anything else. Backends whose data cannot be
    /// replaced behind their back ignore it.
    fn on_failover(&self, _listener: FailoverListener) {}

    /// Whether each of these leases is there. Answered only by the server that is responsible now, and only
    /// if it was so from the call to the reply: a lease that was granted before the call and is
    /// [missing](Presence::Missing) is lost.
    fn find_missing(&self, leases: &[(Resources, Owner)]) -> impl Future<Output = Vec<Presence>> + Send {
        std::future::ready(vec![Presence::Unknown; leases.len()])
    }

    /// Its connections to the servers that have its leases; none for backends without servers.
    fn connections(&self) -> &[Arc<Connections>] {
        &[]
    }

    /// The thread whose tasks may call the functions below. Starts it if necessary, without I/O of the
    /// backend.
    fn executor(&self) -> Result<Executor>;

    /// Connects, or opens the file, so that a wrong configuration shows early. Every other call does so by
    /// itself.
    fn connect(&self) -> impl Future<Output = Result<()>> + Send;

    /// Makes one attempt to get a lease. See [Outcomes](self) and [`Request`].
    fn acquire(&self, request: &Request) -> impl Future<Output = Result<Attempt>> + Send;

    /// Has a waiter woken from now on. See [Waiting](self).
    fn join_queue(&self, resources: &Resources, waiter: &Waiter) -> impl Future<Output = Result<()>> + Send;

    /// Ends a wait, whether the waiter was granted its lease or gave up. Never fails: what cannot be undone
    /// expires. The next in the queue is woken if this waiter was the head and the resource is free.
    fn leave_queue(&self, resources: &Resources, waiter: &Waiter) -> impl Future<Output = ()> + Send;

    /// Extends a lease and returns the moment before the request was sent.
    /// [`Error::LockLost`](crate::error::Error::LockLost) when the owner no longer has all of it.
    fn extend(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        acks: AckPolicy,
    ) -> impl Future<Output = Result<BootInstant>> + Send;

    /// Ends a lease. `false`: some of it was no longer the owner's. After an error the backend keeps trying
    /// in the background for at most `ttl`. Works after [`Self::close`] too, because a grant may arrive later
    /// than that.
    ///
    /// `stands_until`: what is left of the lease's [minimum](self) stays, and ends then. `None`, or a moment
    /// that has passed: nothing stays.
    fn release(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        stands_until: Option<BootInstant>,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Prepares a lease for its adoption by another process.
    /// [`Error::LockLost`](crate::error::Error::LockLost) when the owner no longer has all of it. After
    /// another error it is the owner's as before.
    fn hand_over(&self, resources: &Resources, owner: Owner) -> impl Future<Output = Result<()>> + Send;

    /// Makes one attempt to take a lease over from the owner `from`.
    /// [`Error::LockLost`](crate::error::Error::LockLost) when that no longer has all of it. The request has
    /// no waiter. See [Handing over](self).
    fn adopt(&self, request: &Request, from: Owner) -> impl Future<Output = Result<Grant>> + Send;

    /// Returns who holds the resource; `None` when it is free. A backend error is an error, never reported as
    /// free.
    fn inspect(&self, resource: &str) -> impl Future<Output = Result<Option<Info>>> + Send;

    /// Begins to list the locks of resources whose names begin with this. No I/O.
    fn list(&self, prefix: &str) -> Self::Listing;

    /// The next locks, which may be none although there are more; `None`: there are no more. See
    /// [Listing](self).
    fn next_page(&self, listing: &mut Self::Listing) -> impl Future<Output = Result<Option<Locks>>> + Send;

    /// Whether other managers see its leases, and so may ask who has them.
    fn is_shared(&self) -> bool {
        true
    }

    /// Stores who this manager is, for so long. See [Holders](self).
    fn announce(
        &self,
        _id: HolderId,
        _holder: &Holder,
        _lasts: Duration,
    ) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Who the manager with this id is; `None` if that is unknown, or cannot be found out.
    fn look_up_holder(&self, _id: HolderId) -> impl Future<Output = Option<Holder>> + Send {
        std::future::ready(None)
    }

    /// Ends the lease of a resource, regardless of its owner. `false`: the resource was free. Its last token
    /// stays, so that tokens keep rising.
    fn force_release(&self, resource: &str) -> impl Future<Output = Result<bool>> + Send;

    /// What this deployment guarantees, as far as it can be seen now, to locks that require these
    /// acknowledgements and have this TTL. Backends without replicas ignore both.
    fn describe(&self, acks: AckPolicy, ttl: Ttl) -> impl Future<Output = Result<Guarantee>> + Send;

    /// How many leases are being undone in the background. They outlive [`Self::close`].
    fn pending_cleanups(&self) -> usize {
        0
    }

    /// Has calls fail that wait for a connection. Called when the manager has released its leases and is
    /// about to close; what is undone in the background may still connect.
    fn abandon_connects(&self) {}

    /// Gives up connections and files. Called once, after the manager released its leases; bounded in time.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// What a backend also does on the calling thread, without its executor.
pub trait SyncBackend {
    /// Is used again after [`LockBackend::close`]: the process exits, but its exit listeners still run.
    fn reopen(&self);

    /// The synchronous variant of [`LockBackend::acquire`]. Blocks for two seconds at most.
    fn acquire_sync(&self, request: &Request) -> Result<Attempt>;

    /// The synchronous variant of [`LockBackend::release`].
    fn release_sync(
        &self,
        resources: &Resources,
        owner: Owner,
        stands_until: Option<BootInstant>,
    ) -> Result<bool>;
}

/// One attempt to get a lease.
#[derive(Debug, Clone)]
pub struct Request {
    /// What to lock.
    pub resources: Resources,
    /// What other leases may exist beside it.
    pub mode: Mode,
    /// Its owner: new for every attempt.
    pub owner: Owner,
    /// How long its holder may count on the lease.
    pub ttl: Ttl,
    /// How long others are kept out at least, released or not; zero for no minimum, at most a day.
    pub min_hold: Duration,
    /// The token must be above this; 0 for no demand.
    pub min_token: u64,
    /// What proves the grant, for backends with replicas.
    pub acks: AckPolicy,
    /// The waiter that makes this attempt, if it is one. A request without a waiter is granted if the
    /// resources are free and no fair waiter is queued for any of them.
    pub waiter: Option<Waiter>,
}

impl Request {
    /// How long the stored lease lasts unless it is released.
    pub fn lasts(&self) -> Ttl {
        self.ttl.at_least(self.min_hold)
    }
}

/// The outcome of an attempt that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The lease is ours.
    Granted(Grant),
    /// Another owner has it.
    Busy(Busy),
}

/// Why an attempt was not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Busy {
    /// Which of the request's resources is held, or has others queued for it; the one whose lease lasts
    /// longest, if several are held.
    pub resource: usize,
    /// For how much longer all of them are held, if the backend can tell.
    pub remaining: Option<Duration>,
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

/// The error of an adoption whose old owner no longer has all of the lease.
pub fn not_adoptable(resource: &str) -> Error {
    Error::lost(format!(
        "the lease of {resource:?} can no longer be taken over: it ended, was released by force, or the ticket \
         was used before"
    ))
}

/// Some resources that are held, each with its holder.
pub type Locks = Vec<(Arc<str>, Info)>;

/// The current holder of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The holder's owner, as it is stored: 32 hexadecimal digits if it is one of ours.
    pub owner: String,
    /// The holder's token.
    pub token: u64,
    /// How long the lease still lasts unless it is renewed. [`Duration::MAX`]: it has no end, so it is not
    /// one of ours.
    pub remaining: Duration,
    /// How many wait for it, as far as the backend knows.
    pub waiters: u32,
}
