//! One Redis server: its lanes, and the connection that never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use redis::{Cmd, Value};

use super::config::Config;
use super::connection::Broken;
use super::lanes::{Lanes, Proof};
use super::link::Link;
use super::outcome::{self, Refusal};
use super::scripts::{self, Script};
use crate::backend::AckPolicy;
use crate::clock::{BootInstant, Clock};
use crate::error::{Error, Report, Result};
use crate::lease::{Owner, Resources, Ttl};

/// Connections for grants. More than two groups of policies at a time are rare.
const GRANT_LANES: usize = 8;
const EXTENSION_LANES: usize = 2;

/// How often a script that the server does not know is loaded and sent again: once, and once more in case somebody
/// flushed the scripts in between.
const LOADS: usize = 2;

/// A server and the ways to it.
pub(super) struct Node {
    pub(super) config: Arc<Config>,
    pub(super) clock: Clock,
    /// Releases, rollbacks, inspections, cleanups and PINGs: never behind a WAIT.
    control: Arc<Link>,
    grants: Arc<Lanes>,
    extensions: Arc<Lanes>,
    pub(super) cleanups: AtomicUsize,
    closed: AtomicBool,
}

/// A script's proof, with the reply that is there.
pub(super) struct Ran {
    pub(super) sent: BootInstant,
    pub(super) reply: Value,
    pub(super) wait: Option<std::result::Result<Value, Broken>>,
}

/// Why a script's reply is not there.
pub(super) enum NotRun {
    /// Nothing was written.
    Nothing(Error),
    /// The script failed while it ran, and is over: what it wrote before can be undone at once.
    Failed(BootInstant, Error),
    /// Nobody knows, and the request sent at that moment may even still be on its way.
    Unknown(BootInstant, Error),
}

impl Node {
    pub(super) fn new(config: Config, clock: Clock) -> Arc<Self> {
        let config = Arc::new(config);
        let control = Arc::new(Link::new(Arc::clone(&config)));
        Arc::new(Self {
            grants: Lanes::new(&config, clock.clone(), Arc::clone(&control), GRANT_LANES),
            extensions: Lanes::new(&config, clock.clone(), Arc::clone(&control), EXTENSION_LANES),
            control,
            config,
            clock,
            cleanups: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        })
    }

    /// How messages name it.
    pub(super) fn name(&self) -> String {
        self.config.to_string()
    }

    pub(super) async fn connect(&self) -> Result<()> {
        self.control.get().await.map(drop)
    }

    /// Runs the grant's script with the next batch of its policy.
    pub(super) async fn grant(
        &self,
        policy: AckPolicy,
        command: impl Fn() -> Cmd,
    ) -> std::result::Result<Ran, NotRun> {
        self.run(&self.grants, &scripts::ACQUIRE, policy, command, "granted the lease").await
    }

    /// Runs the extension's script with the next batch of its policy.
    pub(super) async fn extend(
        &self,
        policy: AckPolicy,
        command: impl Fn() -> Cmd,
    ) -> std::result::Result<Ran, NotRun> {
        self.run(&self.extensions, &scripts::EXTEND, policy, command, "extended the lease").await
    }

    async fn run(
        &self,
        lanes: &Arc<Lanes>,
        script: &Script,
        policy: AckPolicy,
        command: impl Fn() -> Cmd,
        what: &str,
    ) -> std::result::Result<Ran, NotRun> {
        for _ in 0..=LOADS {
            let Proof { sent, reply, wait } =
                lanes.submit(policy, command()).await.map_err(NotRun::Nothing)?;
            let error = match reply {
                Ok(Value::ServerError(error)) => error,
                Ok(reply) => return Ok(Ran { sent, reply, wait }),
                Err(broken) => {
                    let error = outcome::missing(&broken, &self.name(), what);
                    return Err(if broken.sent {
                        NotRun::Unknown(sent, error)
                    } else {
                        NotRun::Nothing(error)
                    });
                }
            };
            match outcome::refusal(&error, &self.name(), policy.required) {
                Refusal::Nothing(error) => return Err(NotRun::Nothing(error)),
                Refusal::Perhaps(error) => return Err(NotRun::Failed(sent, error)),
                // Nothing was written, and the number that WAIT answered means nothing: all of it is sent anew.
                Refusal::NoScript => self.load(script).await.map_err(NotRun::Nothing)?,
            }
        }
        Err(NotRun::Nothing(Error::unavailable(format!(
            "Redis at {} forgets its scripts as soon as they are loaded; nothing was written",
            self.name()
        ))))
    }

    /// Runs a script that needs no proof, on the connection that never waits.
    pub(super) async fn control_script(&self, script: &Script, command: &Cmd) -> Result<Value> {
        for _ in 0..=LOADS {
            match self.command(command).await? {
                Value::ServerError(error) => match outcome::refusal(&error, &self.name(), 0) {
                    Refusal::NoScript => self.load(script).await?,
                    Refusal::Nothing(error) | Refusal::Perhaps(error) => return Err(error),
                },
                reply => return Ok(reply),
            }
        }
        Err(Error::unavailable(format!(
            "Redis at {} forgets its scripts as soon as they are loaded",
            self.name()
        )))
    }

    /// Runs a command on the connection that never waits. [`Error::OutcomeUnknown`]: the reply is missing.
    pub(super) async fn command(&self, command: &Cmd) -> Result<Value> {
        let control = self.control.get().await?;
        control.command(command, self.config.command_timeout).await.map_err(|broken| {
            let cause = Report::caused(format!("no reply from Redis at {}", self.name()), &broken.reason);
            if broken.sent { Error::OutcomeUnknown(cause) } else { Error::BackendUnavailable(cause) }
        })
    }

    async fn load(&self, script: &Script) -> Result<()> {
        match self.command(&script.load()).await? {
            Value::ServerError(error) => match outcome::refusal(&error, &self.name(), 0) {
                Refusal::Nothing(error) | Refusal::Perhaps(error) => Err(error),
                Refusal::NoScript => Err(Error::unavailable("the server cannot load scripts")),
            },
            _ => Ok(()),
        }
    }

    /// Deletes what this owner has: how many keys that were.
    pub(super) async fn delete(&self, resources: &Resources, owner: Owner) -> Result<usize> {
        let command = scripts::release(&self.config.prefix, resources, owner);
        match self.control_script(&scripts::RELEASE, &command).await? {
            Value::Int(deleted) => Ok(usize::try_from(deleted).unwrap_or(0)),
            other => Err(Error::unavailable(format!("an unexpected reply from Redis: {other:?}"))),
        }
    }

    /// How many replicas the server says it has, and which role.
    pub(super) async fn replication(&self) -> Result<Replication> {
        let reply = self.command(redis::cmd("INFO").arg("replication")).await?;
        Ok(Replication::parse(&text(&reply)))
    }

    /// Gives up the connections; what is still to be cleaned up keeps one, and gives it up when it is done.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.grants.close().await;
        self.extensions.close().await;
        self.rest().await;
    }

    /// Gives up the last connection of a closed node when nothing is left to be cleaned up.
    pub(super) async fn rest(&self) {
        if self.closed.load(Ordering::Acquire) && self.pending_cleanups() == 0 {
            self.control.disconnect().await;
        }
    }

    /// Deletes a lease in the background until that is confirmed; see [`super::cleanup`].
    pub(super) fn clean_up(
        self: &Arc<Self>,
        resources: Resources,
        owner: Owner,
        ttl: Ttl,
        since: BootInstant,
    ) {
        super::cleanup::start(self, resources, owner, since + ttl.as_duration());
    }

    pub(super) fn pending_cleanups(&self) -> usize {
        self.cleanups.load(Ordering::Relaxed)
    }
}

/// What `INFO replication` says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Replication {
    pub(super) primary: bool,
    pub(super) replicas: u32,
}

impl Replication {
    fn parse(info: &str) -> Self {
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        // A replica counts when it is online: one that is still loading acknowledges nothing.
        let online =
            info.lines().filter(|line| line.starts_with("slave") && line.contains("state=online")).count();
        Self { primary: field("role") == Some("master"), replicas: u32::try_from(online).unwrap_or(u32::MAX) }
    }
}

/// A reply as text; empty if it is none.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_replicas_that_are_online() {
        let info = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
                    slave0:ip=10.0.0.1,port=6379,state=online,offset=1,lag=0\r\n\
                    slave1:ip=10.0.0.2,port=6379,state=wait_bgsave,offset=0,lag=0\r\n";
        assert_eq!(Replication::parse(info), Replication { primary: true, replicas: 1 });
        assert!(!Replication::parse("role:slave\r\n").primary);
    }
}
