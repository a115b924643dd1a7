//! What a deployment guarantees, as `describe()` returns it: in the form that index.d.ts declares, with
//! `null` for what is unknown. The core's types stay free of Node-API, so these mirror them.

use napi_derive::napi;

use fencelock_core::backend::guarantees::{self, Verdict};

/// What a deployment guarantees.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct Guarantee {
    /// Replicas as declared and as connected right now; `null` for backends without any.
    pub replicas: Option<Replicas>,
    /// A paragraph in plain words.
    pub summary: String,
    /// Which failures its locks survive.
    pub survives: Survives,
    /// The server, if there is one.
    pub server: Option<Server>,
    /// The lock file, if there is one.
    pub file: Option<LockFile>,
    /// What to check.
    pub warnings: Vec<String>,
}

impl From<guarantees::Guarantee> for Guarantee {
    fn from(of: guarantees::Guarantee) -> Self {
        let connected = of.replicas_connected;
        Self {
            replicas: of.replicas_declared.map(|declared| Replicas { declared, connected }),
            summary: of.summary,
            survives: of.survives.into(),
            server: of.server.map(Into::into),
            file: of.file.map(Into::into),
            warnings: of.warnings,
        }
    }
}

/// The replicas of a server.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct Replicas {
    /// As configured.
    pub declared: u32,
    /// As seen now.
    pub connected: Option<u32>,
}

/// Which failures locks survive.
#[napi(object, object_from_js = false)]
pub struct Survives {
    /// The holder's process dies.
    pub process_crash: Survival,
    /// The holder is paused for longer than its lease.
    pub pause: Survival,
    /// The primary dies and comes back.
    pub primary_crash: Survival,
    /// A replica takes its place.
    pub failover: Survival,
    /// Some hosts cannot reach the others.
    pub partition: Survival,
    /// A wall clock is set.
    pub clock_step: Survival,
    /// The whole deployment loses power.
    pub power_loss: Survival,
}

impl From<guarantees::FailureModes> for Survives {
    fn from(of: guarantees::FailureModes) -> Self {
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
#[napi(object, object_from_js = false)]
pub struct Survival {
    /// The judgement.
    #[napi(ts_type = "'yes' | 'with a guard' | 'not applicable'")]
    pub verdict: String,
    /// A one-sentence explanation.
    pub reason: String,
}

impl From<guarantees::Judgement> for Survival {
    fn from(judgement: guarantees::Judgement) -> Self {
        let verdict = match judgement.verdict {
            Verdict::Yes => "yes",
            Verdict::WithGuard => "with a guard",
            Verdict::NotApplicable => "not applicable",
        };
        Self { verdict: verdict.to_owned(), reason: judgement.reason.into_owned() }
    }
}

/// What a server reports about itself.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct Server {
    /// The product.
    #[napi(ts_type = "'Redis' | 'Valkey'")]
    pub product: String,
    /// The product's version.
    pub version: Option<String>,
    /// Its role in the replication.
    #[napi(ts_type = "'primary' | 'replica'")]
    pub role: Option<String>,
    /// How it keeps its data.
    pub persistence: Persistence,
    /// `maxmemory-policy`.
    pub eviction_policy: Option<String>,
    /// 0 for no limit.
    pub max_memory_bytes: Option<f64>,
    /// Its clock compared with this host's.
    pub clock: Option<ClockSkew>,
}

impl From<guarantees::ServerInfo> for Server {
    fn from(of: guarantees::ServerInfo) -> Self {
        let role = |is_primary| if is_primary { "primary" } else { "replica" };
        Self {
            product: of.product.to_owned(),
            version: of.version,
            role: of.is_primary.map(role).map(str::to_owned),
            persistence: Persistence { aof: of.aof, fsync: of.fsync, rdb: of.rdb },
            eviction_policy: of.eviction_policy,
            max_memory_bytes: of.max_memory.map(|bytes| bytes as f64),
            clock: of.skew.map(Into::into),
        }
    }
}

/// How a server keeps its data.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct Persistence {
    /// Whether it writes an append-only file.
    pub aof: Option<bool>,
    /// `appendfsync`.
    pub fsync: Option<String>,
    /// Whether it writes snapshots.
    pub rdb: Option<bool>,
}

/// The difference of two clocks.
#[napi(object, object_from_js = false)]
pub struct ClockSkew {
    /// How far the server's clock is ahead, in milliseconds.
    pub skew_ms: f64,
    /// How far off that may be, in milliseconds.
    pub error_ms: f64,
}

impl From<guarantees::Skew> for ClockSkew {
    fn from(skew: guarantees::Skew) -> Self {
        Self { skew_ms: skew.ahead_micros as f64 / 1e3, error_ms: skew.error_micros as f64 / 1e3 }
    }
}

/// What can be seen of a lock file.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct LockFile {
    /// The absolute path.
    pub path: String,
    /// Whether it exists.
    pub exists: bool,
    /// The name of the file system, if it is known.
    pub filesystem: Option<String>,
    /// Whether other hosts can see it.
    pub network: bool,
    /// Whether a commit survives power loss.
    #[napi(ts_type = "'full' | 'normal'")]
    pub durability: String,
    /// SQLite's journal mode.
    pub journal: String,
}

impl From<guarantees::FileInfo> for LockFile {
    fn from(of: guarantees::FileInfo) -> Self {
        Self {
            path: of.path,
            exists: of.exists,
            filesystem: of.filesystem.map(str::to_owned),
            network: of.is_network,
            durability: if of.is_durable { "full" } else { "normal" }.to_owned(),
            journal: of.journal,
        }
    }
}
