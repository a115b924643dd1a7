//! How the tests play several processes: a backend of its own registry is one, as far as SQLite allows within one
//! process; where the kernel has to see several, this test binary starts itself in a role.

mod clocks;
mod contract;
mod creation;
mod death;
mod fair;
mod foreign;
mod names;
mod patience;
mod replacement;
mod roles;
mod snapshot;
mod waiting;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rusqlite::Connection;

use super::fs::paths;
use super::process::registry::Registry;
use super::retry::Wait;
use super::store::rows::Tx;
use super::store::{Access, Done, Store};
use super::{Config, Durability, SqliteBackend};
use crate::backend::contract::{Attempt, Grant, Info, LockBackend, Request};
use crate::backend::guarantees::Guarantee;
use crate::error::Result;
use crate::lease::{AckPolicy, Mode, Owner, Resources, Ttl};
use crate::runtime::clock::{BootInstant, Clock};

/// A directory for a lock file; says so if something is left in it that should not be.
struct Place {
    directory: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join("locks.sqlite");
        Self { directory, path }
    }

    fn config(&self) -> Config {
        Config { path: self.path.clone(), durability: Durability::Normal, allow_network_filesystem: false }
    }

    /// A process with the system's clocks.
    fn process(&self) -> Process {
        self.process_at(Clock::System)
    }

    fn process_at(&self, clock: Clock) -> Process {
        self.process_of(Registry::new(clock))
    }

    fn process_of(&self, registry: Registry) -> Process {
        self.process_in(Box::leak(Box::new(registry)), &self.path)
    }

    /// A manager of the process that this registry stands for, which spells the path like this.
    fn process_in(&self, registry: &'static Registry, path: &Path) -> Process {
        let config = Config { path: path.to_owned(), ..self.config() };
        Process::of(SqliteBackend::in_registry(config, registry))
    }

    /// The file, as the process that this registry stands for has it open.
    fn store(&self, registry: &Registry) -> Arc<Store> {
        registry.store(paths::look(&self.path).unwrap().unwrap().id).unwrap()
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

    /// A connection past fencelock, to look at rows or to spoil them. SQLite keeps the books of this process's locks,
    /// for it is the same copy.
    fn raw(&self) -> Connection {
        raw(&self.path)
    }
}

/// A transaction that waits for nobody.
fn transact(store: &Store, work: &mut dyn FnMut(&mut Tx<'_>) -> rusqlite::Result<()>) -> Result<Done> {
    store.transact(Access::Write, &Clock::System, &mut Wait::at_most(Duration::ZERO), work)
}

fn raw(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::ZERO).unwrap();
    connection
}

/// A lease that was granted.
#[derive(Clone)]
struct Held {
    resources: Resources,
    owner: Owner,
    token: u64,
    sent: BootInstant,
}

/// A backend, called from outside its thread.
struct Process {
    backend: Arc<SqliteBackend>,
    told: Arc<AtomicU64>,
}

impl Process {
    fn of(backend: SqliteBackend) -> Self {
        let told = Arc::new(AtomicU64::new(0));
        let tell = Arc::clone(&told);
        backend.on_loss(Arc::new(move |since: BootInstant| tell.store(since.as_micros(), Ordering::SeqCst)));
        Self { backend: Arc::new(backend), told }
    }

    /// Whether it was told that this lease went down with its file.
    fn outlived(&self, held: &Held) -> bool {
        held.sent.as_micros() < self.told.load(Ordering::SeqCst)
    }

    /// Starts a call on the backend's thread.
    fn start<T: Send + 'static, F: Future<Output = T> + Send>(
        &self,
        call: impl FnOnce(Arc<SqliteBackend>) -> F + Send + 'static,
    ) -> Result<mpsc::Receiver<T>> {
        let (done, answer) = mpsc::channel();
        let backend = Arc::clone(&self.backend);
        self.backend.executor()?.spawn(async move {
            let _ = done.send(call(backend).await);
        });
        Ok(answer)
    }

    fn call<T: Send + 'static, F: Future<Output = Result<T>> + Send>(
        &self,
        call: impl FnOnce(Arc<SqliteBackend>) -> F + Send + 'static,
    ) -> Result<T> {
        self.start(call)?.recv_timeout(Duration::from_secs(30)).expect("the call ends")
    }

    fn attempt(&self, names: &[&str], ttl_ms: u32) -> Result<(Request, Attempt)> {
        let request = request(names, ttl_ms);
        let asked = request.clone();
        let attempt = self.call(move |backend| async move { backend.acquire(&asked).await })?;
        Ok((request, attempt))
    }

    fn acquire(&self, names: &[&str], ttl_ms: u32) -> Held {
        let (request, attempt) = self.attempt(names, ttl_ms).unwrap();
        held(request, attempt)
    }

    /// How long the resource stays taken.
    fn busy(&self, name: &str) -> Duration {
        match self.attempt(&[name], 1000).unwrap().1 {
            Attempt::Busy(remaining) => remaining.expect("SQLite knows"),
            granted @ Attempt::Granted(_) => panic!("{name} was free: {granted:?}"),
        }
    }

    fn extend(&self, held: &Held, ttl_ms: u32) -> Result<BootInstant> {
        let Held { resources, owner, .. } = held.clone();
        let ttl = Ttl::from_millis(ttl_ms).unwrap();
        self.call(
            move |backend| async move { backend.extend(&resources, owner, ttl, AckPolicy::default()).await },
        )
    }

    fn release(&self, held: &Held) -> Result<bool> {
        let Held { resources, owner, .. } = held.clone();
        let ttl = Ttl::from_millis(10_000).unwrap();
        self.call(move |backend| async move { backend.release(&resources, owner, ttl).await })
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
        self.call(move |backend| async move { backend.describe(0).await }).unwrap()
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
        mode: Mode::Exclusive,
        min_token: 0,
        acks: AckPolicy::default(),
        waiter: None,
    }
}

fn held(request: Request, attempt: Attempt) -> Held {
    match attempt {
        Attempt::Granted(Grant { token, sent, acks: None }) => {
            Held { resources: request.resources, owner: request.owner, token, sent }
        }
        other => panic!("not granted: {other:?}"),
    }
}
