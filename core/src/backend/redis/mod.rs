//! Strong locks: leases on one Redis primary, proved by its replicas' acknowledgements.
//!
//! From the contract down to the socket, each layer knowing only those below it:
//!
//! ```text
//! backend      the contract of crate::backend
//! deployment   which node owns a resource: the seam for more than one
//! node         one server: what a grant, an extension, a release is there
//! cleanup      undoes in the background what may have been written
//! lanes        tasks that carry batches, with one WAIT each; queue decides which requests travel together, trip sorts
//!              what came back
//! line         those of us who wait: hears of their turn, shows life
//! control      the connection that never carries a WAIT
//! connection   a pipeline that answers what it read, also when it breaks; dial makes one
//! outcome      what each reply means · scripts, keys: what is sent · guarantee, survival: what INFO means
//! alarm, nudge: time limits that hardly ever come · config · tls · backoff · bench: parts of this, for benches/core
//! ```

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod config;
mod connection;
mod describe;
mod node;
mod pipeline;
mod protocol;
#[cfg(test)]
#[cfg(unix)] // for the signals that pause servers
mod tests;
mod topology;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::Value;

pub use self::config::{Config, Options, TlsOptions};
use self::connection::shared::Failure;
use self::describe::info::{self, Asked};
use self::node::Node;
use self::protocol::replies::Subject;
use self::protocol::scripts::{FORCE, INSPECT, pack_inspect};
use self::protocol::values::text;
use self::topology::Deployment;
use crate::backend::contract::{Attempt, Info, LockBackend, Request};
use crate::backend::guarantees::Guarantee;
use crate::backend::guarantees::Skew;
use crate::backend::waiter::Waiter;
use crate::error::{Error, Result};
use crate::lease::{AckPolicy, Owner, Resources, Ttl};
use crate::runtime::clock::{BootInstant, Clock};
use crate::runtime::executor::Executor;

/// One Redis primary with its replicas.
pub struct RedisBackend {
    deployment: Deployment,
    closed: AtomicBool,
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.deployment.nodes().iter().map(|node| &node.link.config);
        f.debug_list().entries(nodes).finish()
    }
}

impl RedisBackend {
    /// No I/O.
    pub fn new(config: Config, clock: Clock) -> Self {
        let deployment = Deployment::standalone(Node::new(config, clock));
        Self { deployment, closed: AtomicBool::new(false) }
    }

    fn owner_of(&self, resources: &Resources) -> Result<&Node> {
        self.check_open()?;
        self.deployment.owner_of(resources)
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}

impl LockBackend for RedisBackend {
    fn executor(&self) -> Result<Executor> {
        Executor::io().cloned()
    }

    async fn connect(&self) -> Result<()> {
        self.check_open()?;
        for node in self.deployment.nodes() {
            node.link.control.connection().await?;
        }
        Ok(())
    }

    async fn acquire(&self, request: &Request) -> Result<Attempt> {
        self.owner_of(&request.resources)?.acquire(request).await
    }

    async fn join_queue(&self, resources: &Resources, waiter: &Waiter) -> Result<()> {
        self.owner_of(resources)?.line.join_queue(resources, waiter).await
    }

    async fn leave_queue(&self, resources: &Resources, waiter: &Waiter) {
        if let Ok(node) = self.deployment.owner_of(resources) {
            node.line.leave(resources, waiter).await;
        }
    }

    async fn extend(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        acks: AckPolicy,
    ) -> Result<BootInstant> {
        self.owner_of(resources)?.extend(resources, owner, ttl, acks).await
    }

    /// See [`crate::backend::contract::LockBackend::release`]. Works after [`Self::close`], too: a grant may come later than that.
    async fn release(&self, resources: &Resources, owner: Owner, ttl: Ttl) -> Result<bool> {
        self.deployment.owner_of(resources)?.release(resources, owner, ttl).await
    }

    /// See [`crate::backend::contract::LockBackend::inspect`]. A lock without TTL, which is not one of ours, has
    /// [`Duration::MAX`] left.
    async fn inspect(&self, resource: &str) -> Result<Option<Info>> {
        let resources = Resources::one(resource)?;
        let node = self.owner_of(&resources)?;
        let keys = &node.link.config.keys;
        let call = node.link.control.run(&INSPECT, |packer, out| pack_inspect(keys, &resources, packer, out));
        let reply = call.await.map_err(|failure| unanswered(node, failure))?;
        match reply {
            Value::Nil => Ok(None),
            Value::Array(fields) if fields.len() == 3 => {
                let mut fields = fields.into_iter();
                let mut next = || fields.next().unwrap_or(Value::Nil);
                let owner = text(next()).unwrap_or_default();
                let token = text(next()).and_then(|token| token.parse().ok()).unwrap_or(0);
                let remaining = match next() {
                    Value::Int(left) if left >= 0 => Duration::from_millis(left.unsigned_abs()),
                    _ => Duration::MAX,
                };
                Ok(Some(Info { owner, token, remaining }))
            }
            other => Err(node.about(Subject::Query, 0).error(&other)),
        }
    }

    /// See [`crate::backend::contract::LockBackend::force_release`]. The fence stays, so that tokens go on rising.
    async fn force_release(&self, resource: &str) -> Result<bool> {
        let resources = Resources::one(resource)?;
        let node = self.owner_of(&resources)?;
        let keys = &node.link.config.keys;
        let answer = node.link.control.run(&FORCE, |packer, out| {
            FORCE.pack_lines(keys, &std::iter::once(resource), None, packer, out);
        });
        match answer.await {
            Ok(Value::Int(deleted)) => Ok(deleted > 0),
            Ok(other) => Err(node.about(Subject::Force, 0).error(&other)),
            Err(Failure::Broke(broken)) if broken.sent => {
                Err(node.about(Subject::Force, 0).unknown(resource, &broken))
            }
            Err(failure) => Err(unanswered(node, failure)),
        }
    }

    async fn describe(&self, acks: u32) -> Result<Guarantee> {
        self.check_open()?;
        let mut whole = Guarantee::default();
        for node in self.deployment.nodes() {
            whole = describe(node, acks).await?;
        }
        Ok(whole)
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for node in self.deployment.nodes() {
            node.close().await;
        }
    }

    /// How many leases are being undone in the background. They outlive [`Self::close`].
    fn pending_cleanups(&self) -> usize {
        self.deployment.nodes().iter().map(|node| node.cleanup.pending()).sum()
    }
}

impl Drop for RedisBackend {
    /// Lanes hold what they need themselves; without a word they would wait for work for ever.
    fn drop(&mut self) {
        self.deployment.nodes().iter().for_each(Node::shut);
    }
}

async fn describe(node: &Node, acks: u32) -> Result<Guarantee> {
    // One section or parameter each, for servers before 7 take only one.
    const COMMANDS: [&[&str]; 7] = [
        &["TIME"],
        &["CONFIG", "GET", "save"],
        &["CONFIG", "GET", "appendfsync"],
        &["INFO", "replication"],
        &["INFO", "server"],
        &["INFO", "memory"],
        &["INFO", "persistence"],
    ];
    const INFO: usize = 3;
    // Connected first, so that only the question's own round trip counts.
    node.link.control.connection().await?;
    let sent = node.link.clock.wall_micros();
    let answer = node.link.control.exchange(COMMANDS.len(), |packer, out| {
        for words in COMMANDS {
            packer.command(out, |cmd| {
                cmd.arg(words);
            });
        }
    });
    let answer = answer.await.map_err(|failure| unanswered(node, failure))?;
    let received = node.link.clock.wall_micros();
    if let Some(broken) = answer.broken {
        return Err(unanswered(node, Failure::Broke(broken)));
    }
    let mut info = String::new();
    let mut replies = answer.replies.into_iter();
    // What a provider or an access list keeps back is no error: it is not known then.
    let asked: Vec<_> = replies.by_ref().take(INFO).map(texts).collect();
    for reply in replies {
        if matches!(reply, Value::ServerError(_)) {
            return Err(node.about(Subject::Query, 0).error(&reply));
        }
        info.push_str(&text(reply).unwrap_or_default());
        info.push('\n');
    }
    let asked = match &asked[..] {
        [time, save, fsync] => Asked {
            skew: micros(time).map(|server| Skew::between(sent, server, received)),
            save: save.get(1).cloned(),
            fsync: fsync.get(1).cloned(),
        },
        _ => Asked::default(),
    };
    Ok(info::judge(&node.link.config, &info, asked, acks))
}

/// A reply that is an array of texts; empty if it is none.
fn texts(reply: Value) -> Vec<String> {
    match reply {
        Value::Array(items) => items.into_iter().filter_map(text).collect(),
        Value::Map(pairs) => {
            pairs.into_iter().flat_map(|(key, value)| [key, value]).filter_map(text).collect()
        }
        _ => Vec::new(),
    }
}

/// What TIME answered, in µs since 1970.
fn micros(time: &[String]) -> Option<u64> {
    let [seconds, micros] = time else { return None };
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?)
}

/// The error of a command that changes nothing.
fn unanswered(node: &Node, failure: Failure) -> Error {
    match failure {
        Failure::Connect(error) => error,
        Failure::Broke(broken) => node.about(Subject::Query, 0).unanswered(&broken),
    }
}
