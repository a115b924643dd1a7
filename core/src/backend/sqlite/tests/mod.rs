//! The tests simulate several processes: a backend with a registry of its own is one, as far as SQLite allows
//! that within one process. Where the kernel has to see several, this test binary starts itself in a role.

mod bursts;
mod clocks;
mod contract;
mod death;
mod fair_queue;
mod files;
mod minimum;
mod pruning;
mod roles;
mod snapshot;
mod timeouts;
mod waiting;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rusqlite::Connection;

use super::environment::Environment;
use super::fs::paths;
use super::process::registry::Registry;
use super::retry::RetryBudget;
use super::store::access::Access;
use super::store::transaction::Tx;
use super::store::{Done, Store};
use super::{Config, Durability, SqliteBackend};
use crate::backend::contract::{Attempt, Grant, Info, LockBackend, Request};
use crate::backend::guarantees::Guarantee;
use crate::error::Result;
use crate::lease::{AckPolicy, Mode, Owner, Resources, Ttl};
use crate::runtime::clock::{BootInstant, Clock};

/// A directory for a lock file.
struct TestDir {
    directory: tempfile::TempDir,
    path: PathBuf,
}

impl TestDir {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join("locks.sqlite");
        Self { directory, path }
    }

    fn config(&self) -> Config {
        Config {
            path: self.path.clone(),
            durability: Durability::Normal,
            allow_network_filesystem: false,
            mode: None,
            is_relative: false,
        }
    }

    /// A process with the system's clocks.
    fn process(&self) -> Process {
        self.process_at(Clock::System)
    }

    fn process_at(&self, clock: Clock) -> Process {
        self.process_with(Environment::new(clock))
    }

    fn process_with(&self, environment: Environment) -> Process {
        self.process_in(registry_with(environment), &self.path)
    }

    /// A manager of the process that this registry represents, with this spelling of the path.
    fn process_in(&self, registry: &'static Registry, path: &Path) -> Process {
        let config = Config { path: path.to_owned(), ..self.config() };
        Process::new(SqliteBackend::in_registry(config, registry))
    }

    /// The store of the file in the process that this registry represents.
    fn store(&self, registry: &Registry) -> Arc<Store> {
        registry.stores.find(paths::stat(&self.path).unwrap().unwrap().id).unwrap()
    }

    /// The names in the directory, in order.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn liveness_files(&self) -> Vec<PathBuf> {
        let names = self.names().into_iter().filter(|name| name.contains("-live-"));
        names.map(|name| self.directory.path().join(name)).collect()
    }

    /// A connection that bypasses fencelock, to read rows or to damage them. SQLite keeps track of the locks
    /// of this process, because it is the same copy.
    fn raw(&self) -> Connection {
        raw(&self.path)
    }
}

/// A process with the system's clocks.
fn registry() -> &'static Registry {
    registry_with(Environment::new(Clock::System))
}

fn registry_with(environment: Environment) -> &'static Registry {
    Box::leak(Box::new(Registry::new(environment)))
}

/// A transaction of its own.
fn transact(store: &Store, work: &mut dyn FnMut(&mut Tx<'_>) -> rusqlite::Result<()>) -> Result<Done> {
    store.transact(Access::Write, &Clock::System, &mut RetryBudget::new(Duration::from_secs(5)), work)
}

fn raw(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::ZERO).unwrap();
    connection
}

#[derive(Clone)]
struct GrantedLease {
    resources: Resources,
    owner: Owner,
    token: u64,
    sent: BootInstant,
}

/// A backend, called from outside its thread.
struct Process {
    backend: Arc<SqliteBackend>,
    /// The last moment that its loss listener was called with; 0 if it was not.
    lost_before: Arc<AtomicU64>,
}

impl Process {
    fn new(backend: SqliteBackend) -> Self {
        let lost_before = Arc::new(AtomicU64::new(0));
        let reported = Arc::clone(&lost_before);
        backend.on_loss(Arc::new(move |since: BootInstant| {
            reported.store(since.as_micros(), Ordering::SeqCst);
        }));
        Self { backend: Arc::new(backend), lost_before }
    }

    /// Whether it was notified that this lease was lost with its file.
    fn was_notified_of_loss(&self, lease: &GrantedLease) -> bool {
        lease.sent.as_micros() < self.lost_before.load(Ordering::SeqCst)
    }

    /// Starts a call on the backend's thread.
    fn start<T: Send + 'static, F: Future<Output = T> + Send>(
        &self,
        call: impl FnOnce(Arc<SqliteBackend>) -> F + Send + 'static,
    ) -> Result<mpsc::Receiver<T>> {
        let (done, result) = mpsc::channel();
        let backend = Arc::clone(&self.backend);
        self.backend.executor()?.spawn(async move {
            let _ = done.send(call(backend).await);
        });
        Ok(result)
    }

    fn call<T: Send + 'static, F: Future<Output = Result<T>> + Send>(
        &self,
        call: impl FnOnce(Arc<SqliteBackend>) -> F + Send + 'static,
    ) -> Result<T> {
        self.start(call)?.recv_timeout(Duration::from_secs(30)).expect("the call ends")
    }

    fn attempt(&self, names: &[&str], ttl_ms: u32) -> Result<(Request, Attempt)> {
        let request = request(names, ttl_ms);
        let requested = request.clone();
        let attempt = self.call(move |backend| async move { backend.acquire(&requested).await })?;
        Ok((request, attempt))
    }

    fn acquire(&self, names: &[&str], ttl_ms: u32) -> GrantedLease {
        let (request, attempt) = self.attempt(names, ttl_ms).unwrap();
        granted(request, attempt)
    }

    /// How long the resource stays taken.
    fn busy_for(&self, name: &str) -> Duration {
        match self.attempt(&[name], 1000).unwrap().1 {
            Attempt::Busy(busy) => busy.remaining.expect("SQLite knows"),
            granted @ Attempt::Granted(_) => panic!("{name} was free: {granted:?}"),
        }
    }

    fn extend(&self, lease: &GrantedLease, ttl_ms: u32) -> Result<BootInstant> {
        let GrantedLease { resources, owner, .. } = lease.clone();
        let ttl = Ttl::from_millis(ttl_ms).unwrap();
        self.call(
            move |backend| async move { backend.extend(&resources, owner, ttl, AckPolicy::default()).await },
        )
    }

    fn release(&self, lease: &GrantedLease) -> Result<bool> {
        let GrantedLease { resources, owner, .. } = lease.clone();
        let ttl = Ttl::from_millis(10_000).unwrap();
        self.call(move |backend| async move { backend.release(&resources, owner, ttl, None).await })
    }

    fn inspect(&self, name: &'static str) -> Result<Option<Info>> {
        self.call(move |backend| async move { backend.inspect(name).await })
    }

    fn force_release(&self, name: &'static str) -> bool {
        self.call(move |backend| async move { backend.force_release(name).await }).unwrap()
    }

    fn connect(&self) -> Result<()> {
        self.call(move |backend| async move { backend.connect().await })
    }

    fn describe(&self) -> Guarantee {
        self.call(move |backend| async move {
            backend.describe(AckPolicy::default(), Ttl::from_millis(10_000).unwrap()).await
        })
        .unwrap()
    }

    fn close(&self) {
        let Ok(closed) = self.start(move |backend| async move { backend.close().await }) else {
            return; // closed already, and without a thread
        };
        closed.recv_timeout(Duration::from_secs(10)).expect("closing ends");
    }
}

fn request(names: &[&str], ttl_ms: u32) -> Request {
    Request {
        resources: Resources::many(names.iter().map(ToString::to_string).collect()).unwrap(),
        owner: Owner::random(),
        ttl: Ttl::from_millis(ttl_ms).unwrap(),
        min_hold: Duration::ZERO,
        mode: Mode::Exclusive,
        min_token: 0,
        acks: AckPolicy::default(),
        waiter: None,
    }
}

fn granted(request: Request, attempt: Attempt) -> GrantedLease {
    match attempt {
        Attempt::Granted(Grant { token, sent, acks: None }) => {
            GrantedLease { resources: request.resources, owner: request.owner, token, sent }
        }
        other => panic!("not granted: {other:?}"),
    }
}
