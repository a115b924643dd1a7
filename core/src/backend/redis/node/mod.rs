//! One Redis server and everything that belongs to it: its lanes, its control connection, its cleanup.

pub(crate) mod context;
pub(crate) mod rollback;
pub(crate) mod wait_queue;

use std::sync::Arc;
use std::time::Duration;

use self::context::Link;
use self::rollback::Cleanup;
use self::wait_queue::Line;
use super::config::Config;
use super::describe::info;
use super::pipeline::batch::Outcome;
use super::pipeline::scheduler::Limits;
use super::pipeline::workers::Lanes;
use super::protocol::replies::{About, Subject};
use super::protocol::scripts::{ACQUIRE, EXTEND, Item, RELEASE};
use super::protocol::values::text;
use crate::backend::contract::{Attempt, Grant, Request};
use crate::error::{Error, Result};
use crate::lease::{AckPolicy, Acks, Owner, Resources, Ttl};
use crate::runtime::clock::{BootInstant, Clock};
use crate::runtime::undo::IfMissing;

/// Lanes for grants: two per policy keep client and server busy at once, and eight leave room for policies whose
/// replicas lag.
const GRANT_LANES: Limits = Limits { lanes: 8, per_policy: 2 };
/// Lanes for extensions, which must not wait behind grants.
const EXTENSION_LANES: Limits = Limits { lanes: 4, per_policy: 1 };
/// Releases share a connection, and one batch is under way at a time: meanwhile the next one grows.
const RELEASE_LANES: Limits = Limits { lanes: 1, per_policy: 1 };
/// How long what INFO said is believed, so that a batch that too few replicas acknowledged asks once.
const INFO_AGE: Duration = Duration::from_millis(10);

/// One server. Connections are made on demand.
pub(crate) struct Node {
    pub link: Link,
    pub cleanup: Arc<Cleanup>,
    pub line: Arc<Line>,
    grants: Arc<Lanes>,
    extensions: Arc<Lanes>,
    releases: Arc<Lanes>,
    /// When it was told how many replicas are connected. HeldLease while asking, so that others get the same answer.
    connected: tokio::sync::Mutex<Option<(BootInstant, Option<u32>)>>,
}

impl Node {
    pub fn new(config: Config, clock: Clock) -> Self {
        let link = Link::new(config, clock);
        let cleanup = Arc::new(Cleanup::new(link.clone()));
        let grants = Arc::new(Lanes::new(link.clone(), &ACQUIRE, Subject::Grant, GRANT_LANES));
        let extensions = Arc::new(Lanes::new(link.clone(), &EXTEND, Subject::Extension, EXTENSION_LANES));
        let releases = Arc::new(Lanes::new(link.clone(), &RELEASE, Subject::Release, RELEASE_LANES));
        let connected = tokio::sync::Mutex::default();
        Self {
            line: Arc::new(Line::new(link.clone())),
            link,
            cleanup,
            grants,
            extensions,
            releases,
            connected,
        }
    }

    /// See [`crate::backend::contract::LockBackend::acquire`].
    pub async fn acquire(&self, request: &Request) -> Result<Attempt> {
        let Request { resources, owner, ttl, acks, waiter, .. } = request;
        let about = self.about(Subject::Grant, acks.required);
        if let Some(waiter) = waiter
            && let Some(held) = Box::pin(self.line.join(resources, waiter)).await
        {
            return Ok(Attempt::Busy(remaining(held)));
        }
        let outcome = self.grants.run(waiting(*acks), Item::acquire(request)).await;
        if let (Outcome::Written { .. }, Some(waiter)) = (&outcome, waiter) {
            self.line.granted(waiter);
        }
        match outcome {
            Outcome::Written { reply, sent, acks: received } if received >= acks.required => {
                let token = u64::try_from(reply).expect("a verdict of done is positive");
                Ok(Attempt::Granted(Grant {
                    token,
                    sent,
                    acks: (acks.required > 0).then_some(Acks { required: acks.required, received }),
                }))
            }
            Outcome::Written { acks: received, .. } => {
                let rolled_back = Box::pin(self.roll_back(request, IfMissing::Done)).await;
                Err(about.shortfall(received, Box::pin(self.connected()).await, rolled_back))
            }
            Outcome::Declined(reply) => Ok(Attempt::Busy(remaining(reply))),
            Outcome::Refused(error) => Err(error),
            Outcome::Undo(error, absent) => {
                let undone = Box::pin(self.roll_back(request, absent)).await;
                Err(if undone { error } else { about.unknown(resources.first(), &error) })
            }
            Outcome::Unknown(why) => {
                self.cleanup.add(resources, *owner, *ttl, IfMissing::KeepTrying);
                Err(about.unknown(resources.first(), &why))
            }
        }
    }

    /// See [`crate::backend::contract::LockBackend::extend`].
    pub async fn extend(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        acks: AckPolicy,
    ) -> Result<BootInstant> {
        let about = self.about(Subject::Extension, acks.required);
        match self.extensions.run(waiting(acks), Item::extend(resources, owner, ttl)).await {
            Outcome::Written { sent, acks: received, .. } if received >= acks.required => Ok(sent),
            Outcome::Written { acks: received, .. } => {
                Err(about.shortfall(received, Box::pin(self.connected()).await, false))
            }
            Outcome::Declined(_) => Err(Error::lost(format!(
                "the lease of {:?} ended or was taken by somebody else; stop what it protects",
                resources.first()
            ))),
            // The lease is still there, and nothing of an extension needs to be undone.
            Outcome::Refused(error) | Outcome::Undo(error, _) => Err(error),
            Outcome::Unknown(why) => Err(about.unknown(resources.first(), &why)),
        }
    }

    /// See [`crate::backend::contract::LockBackend::release`].
    pub async fn release(&self, resources: &Resources, owner: Owner, ttl: Ttl) -> Result<bool> {
        let error = match self.delete(resources, owner).await {
            Ok(deleted) => return Ok(usize::try_from(deleted) == Ok(resources.as_slice().len())),
            Err(error) => error,
        };
        // It was granted long ago, so nothing of it can land later.
        self.cleanup.add(resources, owner, ttl, IfMissing::Done);
        Err(error)
    }

    /// Takes no more requests. What is under way ends by itself.
    pub fn shut(&self) {
        self.line.close();
        self.grants.shut();
        self.extensions.shut();
    }

    /// Gives up connections once nothing is under way, after the time of one command at most. What takes longer ends
    /// when its own time is over, and so does cleanup.
    pub async fn close(&self) {
        self.shut();
        let all = async {
            self.grants.gone().await;
            self.extensions.gone().await;
        };
        let _ = tokio::time::timeout(self.link.config.command_timeout, all).await;
        self.cleanup.close();
    }

    pub fn about(&self, subject: Subject, required: u32) -> About<'_> {
        About { address: &self.link.config.address, subject, required }
    }

    /// Undoes a grant that was written, or may have been, and is not proved: answers whether that is confirmed. Never a
    /// plain DEL: the lease may be over, and somebody else's by now.
    async fn roll_back(&self, request: &Request, absent: IfMissing) -> bool {
        let Request { resources, owner, ttl, .. } = request;
        let deleted = self.delete(resources, *owner).await;
        let confirmed = deleted.is_ok_and(|deleted| deleted > 0 || absent == IfMissing::Done);
        if !confirmed {
            self.cleanup.add(resources, *owner, *ttl, absent);
        }
        confirmed
    }

    /// How many replicas are connected, if the server says so.
    async fn connected(&self) -> Option<u32> {
        let mut known = self.connected.lock().await;
        match *known {
            Some((told, connected)) if told.until(self.link.clock.boot()) < INFO_AGE => connected,
            _ => {
                let info = self.link.control.command(|packer, out| {
                    packer.command(out, |cmd| {
                        cmd.arg("INFO").arg("replication");
                    });
                });
                let connected = info.await.ok().and_then(text).map(|info| info::connected(&info));
                // From when it was told, not asked: whoever waited here for a server that hangs need not do so again.
                *known = Some((self.link.clock.boot(), connected));
                connected
            }
        }
    }

    /// Compares and deletes; answers how many of the keys were the owner's.
    async fn delete(&self, resources: &Resources, owner: Owner) -> Result<i64> {
        match self.releases.run(AckPolicy::default(), Item::release(resources, owner)).await {
            Outcome::Written { reply, .. } | Outcome::Declined(reply) => Ok(reply),
            Outcome::Refused(error) | Outcome::Undo(error, _) => Err(error),
            Outcome::Unknown(why) => Err(self.about(Subject::Release, 0).unknown(resources.first(), &why)),
        }
    }
}

/// A policy whose WAIT ends: 0 would block for ever.
fn waiting(acks: AckPolicy) -> AckPolicy {
    AckPolicy { timeout_ms: if acks.required > 0 { acks.timeout_ms.max(1) } else { 0 }, ..acks }
}

/// How long somebody else's lease still lasts, out of the reply of acquire.lua.
fn remaining(reply: i64) -> Option<Duration> {
    (reply < 0).then(|| Duration::from_millis((-1 - reply).unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remaining_time_is_unknown_for_a_lock_without_ttl() {
        assert_eq!(remaining(0), None);
        assert_eq!(remaining(-1), Some(Duration::ZERO));
        assert_eq!(remaining(-501), Some(Duration::from_millis(500)));
    }
}
