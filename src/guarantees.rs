//! What a deployment guarantees, as plain objects.

use napi_derive::napi;

use fencelock_core::backend::guarantees::{self, Verdict};

/// What a deployment guarantees.
#[napi(object)]
pub struct Guarantee {
    /// One paragraph.
    pub summary: String,
    /// As configured.
    pub replicas_declared: Option<u32>,
    /// As seen now.
    pub replicas_connected: Option<u32>,
    /// What to look at.
    pub warnings: Vec<String>,
    /// What locks survive.
    pub survives: Survives,
    /// The server, if there is one.
    pub server: Option<Server>,
    /// The lock file, if there is one.
    pub file: Option<LockFile>,
}

impl From<guarantees::Guarantee> for Guarantee {
    fn from(of: guarantees::Guarantee) -> Self {
        Self {
            summary: of.summary,
            replicas_declared: of.replicas_declared,
            replicas_connected: of.replicas_connected,
            warnings: of.warnings,
            survives: of.survives.into(),
            server: of.server.map(Into::into),
            file: of.file.map(Into::into),
        }
    }
}

/// What locks survive.
#[napi(object)]
pub struct Survives {
    /// The holder's process dies.
    pub process_crash: Survival,
    /// The holder stands still for longer than its lease.
    pub pause: Survival,
    /// The primary dies and comes back.
    pub primary_crash: Survival,
    /// A replica takes its place.
    pub failover: Survival,
    /// Some cannot reach the others.
    pub partition: Survival,
    /// A wall clock is set.
    pub clock_step: Survival,
    /// All of it loses power.
    pub power_loss: Survival,
}

impl From<guarantees::Survives> for Survives {
    fn from(of: guarantees::Survives) -> Self {
        Self {
            process_crash: of.process_crash.into(),
            pause: of.pause.into(),
            primary_crash: of.primary_crash.into(),
            failover: of.failover.into(),
            partition: of.partition.into(),
            clock_step: of.clock_step.into(),
            power_loss: of.power_loss.into(),
        }
    }
}

/// Whether mutual exclusion survives something.
#[napi(object)]
pub struct Survival {
    /// `yes`, `with a guard` or `not applicable`.
    pub verdict: String,
    /// Why.
    pub words: String,
}

impl From<guarantees::Event> for Survival {
    fn from(event: guarantees::Event) -> Self {
        let verdict = match event.verdict {
            Verdict::Yes => "yes",
            Verdict::WithGuard => "with a guard",
            Verdict::NotApplicable => "not applicable",
        };
        Self { verdict: verdict.to_owned(), words: event.words.into_owned() }
    }
}

/// What a server says about itself.
#[napi(object)]
pub struct Server {
    /// `Redis` or `Valkey`.
    pub product: String,
    /// Its version.
    pub version: Option<String>,
    /// Whether it is a primary.
    pub is_primary: Option<bool>,
    /// Whether it has an append-only file.
    pub aof: Option<bool>,
    /// `appendfsync`.
    pub fsync: Option<String>,
    /// Whether it writes snapshots.
    pub rdb: Option<bool>,
    /// `maxmemory-policy`.
    pub eviction_policy: Option<String>,
    /// Bytes; 0 for no limit.
    pub max_memory: Option<f64>,
    /// How far its clock is ahead, in ms.
    pub clock_skew_ms: Option<f64>,
    /// How far off that may be, in ms.
    pub clock_error_ms: Option<f64>,
}

impl From<guarantees::Server> for Server {
    fn from(of: guarantees::Server) -> Self {
        Self {
            product: of.product.to_owned(),
            version: of.version,
            is_primary: of.is_primary,
            aof: of.aof,
            fsync: of.fsync,
            rdb: of.rdb,
            eviction_policy: of.eviction_policy,
            max_memory: of.max_memory.map(|bytes| bytes as f64),
            clock_skew_ms: of.skew.map(|skew| skew.ahead_micros as f64 / 1e3),
            clock_error_ms: of.skew.map(|skew| skew.error_micros as f64 / 1e3),
        }
    }
}

/// What is seen of a lock file.
#[napi(object)]
pub struct LockFile {
    /// Absolute.
    pub path: String,
    /// Whether it is there.
    pub exists: bool,
    /// Its name, if it has one.
    pub filesystem: Option<String>,
    /// Whether others than this host see it.
    pub is_network: bool,
    /// Whether a commit survives power loss.
    pub is_durable: bool,
    /// SQLite's journal mode.
    pub journal: String,
}

impl From<guarantees::LockFile> for LockFile {
    fn from(of: guarantees::LockFile) -> Self {
        Self {
            path: of.path,
            exists: of.exists,
            filesystem: of.filesystem.map(str::to_owned),
            is_network: of.is_network,
            is_durable: of.is_durable,
            journal: of.journal,
        }
    }
}
