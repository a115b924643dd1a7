//! The way to the server of a node. After a failover the same name, proxy or Sentinel leads to another
//! server, while the connections that were made before still lead to the old one.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::backend::redis::config::endpoint::{Endpoint, ServerKind};
use crate::backend::redis::protocol::replies::redirect::Redirect;
use crate::error::{Error, Result};
use crate::runtime::sync::Mutex;

/// Finds the server of a node. Its `Display` is where that server was found last, for messages.
pub(crate) trait Locate: fmt::Display + Send + Sync {
    /// Where the server is now. Waits until that is known; the connector limits the time.
    fn locate(&self) -> BoxFuture<'_, Result<Arc<Endpoint>>>;

    /// The server may not be the right one any more, or cannot be reached. Called often; must not block.
    fn doubt(&self, why: &str);

    /// The server said that another node of its cluster has a slot. Must not block.
    fn redirected(&self, _redirect: &Redirect) {}

    /// The replicas of the server, which tells of them by these hosts and ports: each as it is announced, and
    /// how it is reached. Only for a look at them.
    fn replicas(&self, told: &[(String, u16)]) -> Vec<AnnouncedReplica>;

    /// Whether the server that was reached there is the right one, by what identifies it.
    fn check(&self, _endpoint: &Arc<Endpoint>, _run_id: Option<&str>) -> Result<()> {
        Ok(())
    }

    /// The server cannot be reached, or is not the right one. Returns when it is worth another attempt;
    /// fails if none is.
    fn reconsider(&self, error: Error) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Err(error)))
    }

    /// What is known while no server is found, for messages.
    fn search(&self) -> Option<String> {
        None
    }
}

/// A replica as it is announced, and how it is reached.
pub(crate) type AnnouncedReplica = ((String, u16), Result<Arc<Endpoint>>);

/// A server at an address that never changes, though it may lead to another server.
pub(crate) struct FixedAddress(pub Arc<Endpoint>);

/// All connections of one generation lead to one server, and end together when it turns out to be the wrong
/// one: a node must not ask two servers.
pub(crate) struct Route {
    locator: Arc<dyn Locate>,
    generation: watch::Sender<u64>,
    members: Mutex<Members>,
    /// There has been a connection, in this generation or before.
    was_reached: AtomicBool,
    on_doubt: OnceLock<DoubtListener>,
}

/// Is notified when the server may have been replaced or restarted: a connection to it broke, or a new
/// generation began. Called from any thread; must not block.
pub(crate) type DoubtListener = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Members {
    /// Identifies the server, if it says so.
    run_id: Option<Arc<str>>,
    connections: Vec<Weak<dyn Retire>>,
}

/// A connection, as far as its route needs it.
pub(super) trait Retire: Send + Sync {
    /// Sends nothing any more, and closes once the replies to what was sent are there.
    fn retire(&self, why: &Arc<str>);

    /// Closes: what was sent gets no reply.
    fn cut(&self, why: &Arc<str>);
}

/// What a connection knows of its route.
pub(super) struct Membership {
    pub route: Arc<Route>,
    pub generation: u64,
}

impl Locate for FixedAddress {
    fn locate(&self) -> BoxFuture<'_, Result<Arc<Endpoint>>> {
        Box::pin(std::future::ready(Ok(Arc::clone(&self.0))))
    }

    fn doubt(&self, _why: &str) {}

    fn replicas(&self, told: &[(String, u16)]) -> Vec<AnnouncedReplica> {
        told.iter().map(|replica| (replica.clone(), self.replica(replica))).collect()
    }
}

impl FixedAddress {
    fn replica(&self, (host, port): &(String, u16)) -> Result<Arc<Endpoint>> {
        let Endpoint { address: own, settings, .. } = &*self.0;
        let address = own.of_neighbour(host, *port)?;
        if settings.credentials.are_used() && !own.trusts(&address) {
            return Err(Error::unavailable("without TLS it is not sent the password"));
        }
        Ok(Arc::new(Endpoint { address, kind: ServerKind::Replica, settings: Arc::clone(settings) }))
    }
}

impl fmt::Display for FixedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.address.fmt(f)
    }
}

impl Route {
    pub fn new(locator: Arc<dyn Locate>) -> Self {
        let (members, on_doubt) = (Mutex::default(), OnceLock::new());
        let was_reached = AtomicBool::new(false);
        Self { locator, generation: watch::Sender::new(0), members, was_reached, on_doubt }
    }

    /// Read before the server is located.
    pub fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Shows each new generation: from then on another server answers.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    pub async fn locate(&self) -> Result<Arc<Endpoint>> {
        self.locator.locate().await
    }

    /// See [`Locate::doubt`].
    pub fn doubt(&self, why: &str) {
        self.locator.doubt(why);
    }

    /// Sets the listener, once.
    pub fn on_doubt(&self, listener: DoubtListener) {
        let _ = self.on_doubt.set(listener);
    }

    fn notify_doubt(&self) {
        if let Some(listener) = self.on_doubt.get() {
            listener();
        }
    }

    /// A connection of its current generation broke.
    pub(super) fn broke(&self, why: &str) {
        self.doubt(why);
        self.notify_doubt();
    }

    /// See [`Locate::redirected`].
    pub fn redirected(&self, redirect: &Redirect) {
        self.locator.redirected(redirect);
    }

    /// Another server took over from one that answers: the connections to it close once they have the
    /// replies to what was sent.
    pub fn succeed(&self, why: &str) {
        let why = why.into();
        let old = self.next_generation(&mut self.members.lock());
        old.iter().filter_map(Weak::upgrade).for_each(|connection| connection.retire(&why));
        self.notify_doubt();
    }

    /// See [`Locate::replicas`].
    pub fn replicas(&self, told: &[(String, u16)]) -> Vec<AnnouncedReplica> {
        self.locator.replicas(told)
    }

    /// See [`Locate::check`].
    pub(super) fn check(&self, endpoint: &Arc<Endpoint>, run_id: Option<&str>) -> Result<()> {
        self.locator.check(endpoint, run_id)
    }

    /// See [`Locate::reconsider`].
    pub(super) async fn reconsider(&self, error: Error) -> Result<()> {
        self.locator.reconsider(error).await
    }

    /// See [`Locate::search`].
    pub(super) fn search(&self) -> Option<String> {
        self.locator.search()
    }

    /// Returns once another server than that of this generation answers.
    pub(super) async fn replaced(&self, generation: u64) {
        let mut changes = self.changes();
        // The sender is this route's own.
        let _ = changes.wait_for(|current| *current != generation).await;
    }

    /// Another server took over: the connections to the one before are cut, because it may not reply any
    /// more, and its replies prove nothing.
    pub fn replace(&self, why: &str) {
        let why = why.into();
        let old = self.next_generation(&mut self.members.lock());
        old.iter().filter_map(Weak::upgrade).for_each(|connection| connection.cut(&why));
        self.notify_doubt();
    }

    /// Adds a connection to the server that identifies itself like this. `None`: its generation is over. If
    /// it is another server than that of the connections before, it begins the next generation.
    pub(super) fn add(
        &self,
        connection: &Arc<impl Retire + 'static>,
        generation: u64,
        run_id: Option<Arc<str>>,
    ) -> Option<u64> {
        let mut members = self.members.lock();
        if self.generation() != generation {
            return None;
        }
        let is_other = members.run_id.is_some() && run_id.is_some() && members.run_id != run_id;
        let old = if is_other { self.next_generation(&mut members) } else { Vec::new() };
        members.run_id = members.run_id.take().or(run_id);
        members.connections.retain(|other| other.strong_count() > 0);
        let connection: Weak<dyn Retire> = Arc::downgrade(connection) as _;
        members.connections.push(connection);
        self.was_reached.store(true, Ordering::Relaxed);
        let generation = self.generation();
        drop(members);
        let why = "another server answers at this address".into();
        old.iter().filter_map(Weak::upgrade).for_each(|connection| connection.retire(&why));
        if is_other {
            self.notify_doubt();
        }
        Some(generation)
    }

    /// Whether there has been a connection to its server, or to one before it.
    pub(super) fn was_reached(&self) -> bool {
        self.was_reached.load(Ordering::Relaxed)
    }

    fn next_generation(&self, members: &mut Members) -> Vec<Weak<dyn Retire>> {
        self.generation.send_modify(|generation| *generation += 1);
        std::mem::take(members).connections
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.locator.fmt(f)
    }
}

impl Membership {
    /// The server said that it is not the right one. Nothing is sent to it any more, and its connections
    /// close once they have the replies to what was sent.
    pub fn leave(&self, why: &Arc<str>) {
        let connections = {
            let mut members = self.route.members.lock();
            if self.route.generation() != self.generation {
                return;
            }
            self.route.next_generation(&mut members)
        };
        self.route.doubt(why);
        connections.iter().filter_map(Weak::upgrade).for_each(|connection| connection.retire(why));
        self.route.notify_doubt();
    }
}
