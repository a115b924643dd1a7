//! The backend contract on Redis.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::config::Config;
use super::deployment::Deployment;
use super::node::{Node, NotRun, text};
use super::outcome::{self, Acknowledged};
use super::scripts;
use crate::backend::{AckPolicy, Attempt, Grant, Guarantee, Info, Request};
use crate::clock::{BootInstant, Clock};
use crate::error::{Error, Report, Result};
use crate::home::Home;
use crate::lease::{Acks, Owner, Resources, Ttl};

/// A Redis primary with its replicas.
pub struct RedisBackend {
    deployment: Deployment,
    replicas: u32,
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<_> = self.deployment.nodes().map(|node| node.name()).collect();
        f.debug_struct("RedisBackend").field("nodes", &nodes).field("replicas", &self.replicas).finish()
    }
}

impl RedisBackend {
    /// No I/O.
    pub fn new(config: Config, clock: Clock) -> Self {
        Self { replicas: config.replicas, deployment: Deployment::standalone(Node::new(config, clock)) }
    }

    /// See [`crate::backend::Backend::home`].
    pub fn home(&self) -> Result<&Home> {
        Home::io()
    }

    /// See [`crate::backend::Backend::connect`].
    pub async fn connect(&self) -> Result<()> {
        for node in self.deployment.nodes() {
            node.connect().await?;
        }
        Ok(())
    }

    /// See [`crate::backend::Backend::acquire`].
    pub async fn acquire(&self, request: &Request) -> Result<Attempt> {
        let node = self.deployment.node_of(&request.resources);
        let clean_up = |sent| node.clean_up(request.resources.clone(), request.owner, request.ttl, sent);
        let ran = match node.grant(request.acks, || scripts::acquire(&node.config.prefix, request)).await {
            Ok(ran) => ran,
            Err(NotRun::Nothing(error)) => return Err(error),
            Err(NotRun::Failed(sent, error)) => {
                self.roll_back(node, request, sent).await;
                return Err(error);
            }
            Err(NotRun::Unknown(sent, error)) => {
                clean_up(sent);
                return Err(error);
            }
        };
        // The script's reply first: only a grant has anything to be acknowledged.
        let token = match ran.reply {
            Value::Int(token) if token > 0 => token.cast_unsigned(),
            Value::Int(held) => return Ok(Attempt::Busy(remaining(held))),
            other => {
                clean_up(ran.sent);
                return Err(Error::OutcomeUnknown(Report::caused(
                    format!("Redis at {} answered what no script of ours does", node.name()),
                    format!("{other:?}"),
                )));
            }
        };
        let required = request.acks.required;
        let granted = |acks| Ok(Attempt::Granted(Grant { token, sent: ran.sent, acks }));
        let acknowledged = match ran.wait {
            None => return granted(None),
            Some(Ok(reply)) => outcome::acknowledged(&reply, &node.name()),
            Some(Err(broken)) => Acknowledged::Unknown(broken.reason.to_string()),
        };
        match acknowledged {
            Acknowledged::By(received) if received >= required => granted(Some(Acks { required, received })),
            Acknowledged::By(received) => {
                let (rolled_back, connected) = self.roll_back(node, request, ran.sent).await;
                Err(outcome::shortfall(required, received, connected, rolled_back))
            }
            Acknowledged::Never(error) => {
                self.roll_back(node, request, ran.sent).await;
                Err(error)
            }
            Acknowledged::Unknown(cause) => {
                clean_up(ran.sent);
                Err(Error::OutcomeUnknown(Report::caused(
                    format!(
                        "Redis at {} granted the lease, but nobody knows whether its replicas have it; it is deleted in \
                         the background, or ends with its TTL",
                        node.name()
                    ),
                    cause,
                )))
            }
        }
    }

    /// Takes a grant back that does not count. Answers whether that is confirmed, and how many replicas are connected.
    async fn roll_back(&self, node: &Arc<Node>, request: &Request, sent: BootInstant) -> (bool, Option<u32>) {
        // Both are under way at once, so they share a round trip.
        let (deleted, replication) =
            tokio::join!(node.delete(&request.resources, request.owner), node.replication());
        if deleted.is_err() {
            node.clean_up(request.resources.clone(), request.owner, request.ttl, sent);
        }
        // Nothing deleted: the lease ended by itself while it waited, and what is there belongs to somebody else.
        (deleted.is_ok(), replication.ok().map(|replication| replication.replicas))
    }

    /// See [`crate::backend::Backend::extend`].
    pub async fn extend(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        acks: AckPolicy,
    ) -> Result<BootInstant> {
        let node = self.deployment.node_of(resources);
        let ran =
            match node.extend(acks, || scripts::extend(&node.config.prefix, resources, owner, ttl)).await {
                Ok(ran) => ran,
                // Whatever it did, it neither gave nor took a lease.
                Err(NotRun::Nothing(error) | NotRun::Failed(_, error) | NotRun::Unknown(_, error)) => {
                    return Err(as_extension(error));
                }
            };
        if ran.reply != Value::Int(1) {
            return Err(Error::lost("the lease is no longer ours: it ended, or somebody took it"));
        }
        let acknowledged = match ran.wait {
            None => return Ok(ran.sent),
            Some(Ok(reply)) => outcome::acknowledged(&reply, &node.name()),
            Some(Err(broken)) => Acknowledged::Unknown(broken.reason.to_string()),
        };
        match acknowledged {
            Acknowledged::By(received) if received >= acks.required => Ok(ran.sent),
            Acknowledged::By(received) => Err(outcome::extension_shortfall(acks.required, received)),
            Acknowledged::Never(error) => Err(error),
            Acknowledged::Unknown(cause) => Err(Error::OutcomeUnknown(Report::caused(
                "nobody knows whether the replicas have the extension; the lease ends when it would have ended without it",
                cause,
            ))),
        }
    }

    /// See [`crate::backend::Backend::release`].
    pub async fn release(&self, resources: &Resources, owner: Owner, ttl: Ttl) -> Result<bool> {
        let node = self.deployment.node_of(resources);
        match node.delete(resources, owner).await {
            Ok(deleted) => Ok(deleted == resources.as_slice().len()),
            Err(error) => {
                // The lease was renewed at the latest now.
                node.clean_up(resources.clone(), owner, ttl, node.clock.boot());
                Err(as_release(error))
            }
        }
    }

    /// See [`crate::backend::Backend::inspect`].
    pub async fn inspect(&self, resource: &str) -> Result<Option<Info>> {
        let node = self.deployment.node_of(&Resources::one(resource)?);
        let command = scripts::inspect(&node.config.prefix, resource);
        let reply = node.control_script(&scripts::INSPECT, &command).await.map_err(as_question)?;
        match reply {
            Value::Array(fields) => match fields.as_slice() {
                [] => Ok(None),
                [owner, Value::Int(pttl), token] => Ok(Some(Info {
                    owner: text(owner),
                    token: text(token).parse().unwrap_or(0),
                    remaining: u64::try_from(*pttl).map_or(Duration::MAX, Duration::from_millis),
                })),
                _ => Err(unexpected(&fields)),
            },
            other => Err(unexpected(&other)),
        }
    }

    /// See [`crate::backend::Backend::force_release`].
    pub async fn force_release(&self, resource: &str) -> Result<bool> {
        let node = self.deployment.node_of(&Resources::one(resource)?);
        // The fence stays: the next token must be higher than that of whoever still believes in its lease.
        let reply = node.command(redis::cmd("DEL").arg(node.config.prefix.lock(resource))).await?;
        match reply {
            Value::Int(deleted) => Ok(deleted > 0),
            Value::ServerError(error) => match outcome::refusal(&error, &node.name(), 0) {
                outcome::Refusal::Nothing(error) | outcome::Refusal::Perhaps(error) => Err(error),
                outcome::Refusal::NoScript => Err(unexpected(&"NOSCRIPT")),
            },
            other => Err(unexpected(&other)),
        }
    }

    /// See [`crate::backend::Backend::describe`].
    pub async fn describe(&self) -> Result<Guarantee> {
        let mut warnings = Vec::new();
        let declared = self.replicas;
        let mut connected = 0;
        for node in self.deployment.nodes() {
            let seen = node.replication().await.map_err(as_question)?;
            connected = seen.replicas;
            if !seen.primary {
                warnings.push(format!(
                    "{} is a replica: leases are written on the primary; give its address",
                    node.name()
                ));
            }
        }
        if connected > declared && declared > 0 {
            warnings.push(format!(
                "more replicas are connected ({connected}) than declared ({declared}): the wrong ones may acknowledge; \
                 declare all of them in redis.replicas"
            ));
        }
        if connected < declared {
            warnings.push(format!(
                "only {connected} of the {declared} declared replicas are connected: acquires that ask for all are refused"
            ));
        }
        let summary = if declared == 0 {
            "A lease on one Redis primary without replicas: it is lost with the primary, or with its memory. Meant for \
             development. Only the fencing token, checked where the data lives, makes a guarantee."
        } else {
            "A lease on one Redis primary that counts only when the replicas acknowledged that they received it. It \
             survives the primary's death if one of them is promoted. It is no guarantee by itself: an acknowledgement \
             is memory and not disk, and another replica may be promoted. Only the fencing token, checked where the \
             data lives, makes a guarantee."
        };
        Ok(Guarantee {
            summary: summary.to_owned(),
            replicas_declared: Some(declared),
            replicas_connected: Some(connected),
            warnings,
        })
    }

    /// See [`crate::backend::Backend::close`].
    pub async fn close(&self) {
        for node in self.deployment.nodes() {
            node.close().await;
        }
    }

    /// How many unknown outcomes are still being cleaned up.
    pub fn pending_cleanups(&self) -> usize {
        self.deployment.nodes().map(|node| node.pending_cleanups()).sum()
    }
}

/// What a held reply of acquire.lua says: `-1 - pttl`, or -1 for a key that has no end.
fn remaining(reply: i64) -> Option<Duration> {
    u64::try_from(-1 - reply).ok().filter(|&ms| ms > 0).map(Duration::from_millis)
}

fn unexpected(reply: &dyn fmt::Debug) -> Error {
    Error::unavailable(format!("Redis answered what no script of ours does: {reply:?}"))
}

/// An error of an extension: the lease is as it was.
fn as_extension(error: Error) -> Error {
    let add = |report: Report| Report {
        message: format!("{}; the lease ends when it would have ended without the extension", report.message),
        ..report
    };
    match error {
        Error::OutcomeUnknown(report) => Error::OutcomeUnknown(add(report)),
        Error::BackendUnavailable(report) => Error::BackendUnavailable(add(report)),
        other => other,
    }
}

/// An error of a release: it goes on.
fn as_release(error: Error) -> Error {
    let add = |report: Report| Report {
        message: format!(
            "the release is not confirmed: {}; it goes on in the background, and the lease ends with its TTL at the \
             latest",
            report.message
        ),
        ..report
    };
    match error {
        Error::OutcomeUnknown(report) => Error::OutcomeUnknown(add(report)),
        Error::BackendUnavailable(report) => Error::BackendUnavailable(add(report)),
        other => other,
    }
}

/// An error of a question: whatever happened to it, it changed nothing.
fn as_question(error: Error) -> Error {
    match error {
        Error::OutcomeUnknown(report) => Error::BackendUnavailable(report),
        other => other,
    }
}
