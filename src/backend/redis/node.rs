//! One Redis server and everything that belongs to it: its lanes, its control connection, its cleanup.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::cleanup::{Absent, Cleanup};
use super::config::Config;
use super::control::{Failure, text};
use super::guarantee;
use super::lanes::{Lanes, Outcome};
use super::link::Link;
use super::outcome::{About, Subject, Verdict};
use super::queue::Limits;
use super::scripts::{ACQUIRE, Call, EXTEND};
use crate::backend::{AckPolicy, Attempt, Grant, Request};
use crate::clock::{BootInstant, Clock};
use crate::error::{Error, Result};
use crate::lease::{Acks, Owner, Resources, Ttl};

/// Lanes for grants: two per policy keep client and server busy at once, and eight leave room for policies whose
/// replicas lag.
const GRANT_LANES: Limits = Limits { lanes: 8, per_policy: 2 };
/// Lanes for extensions, which must not wait behind grants.
const EXTENSION_LANES: Limits = Limits { lanes: 4, per_policy: 1 };

/// One server. Connections are made on demand.
pub(super) struct Node {
    pub link: Link,
    pub cleanup: Arc<Cleanup>,
    grants: Arc<Lanes>,
    extensions: Arc<Lanes>,
}

impl Node {
    pub fn new(config: Config, clock: Clock) -> Self {
        let link = Link::new(config, clock);
        let cleanup = Arc::new(Cleanup::new(link.clone()));
        let grants = Arc::new(Lanes::new(link.clone(), &ACQUIRE, Subject::Grant, GRANT_LANES));
        let extensions = Arc::new(Lanes::new(link.clone(), &EXTEND, Subject::Extension, EXTENSION_LANES));
        Self { link, cleanup, grants, extensions }
    }

    /// See [`crate::backend::Backend::acquire`].
    pub async fn acquire(&self, request: &Request) -> Result<Attempt> {
        let Request { resources, owner, ttl, min_token, acks } = request;
        let about = self.about(Subject::Grant, acks.required);
        let call = Call::acquire(&self.link.config.keys, resources, *owner, *ttl, *min_token);
        match self.run(&self.grants, &about, *acks, &call).await {
            Outcome::Written { reply, sent, acks: received } if received >= acks.required => {
                let token = u64::try_from(reply).expect("a verdict of done is positive");
                Ok(Attempt::Granted(Grant {
                    token,
                    sent,
                    acks: (acks.required > 0).then_some(Acks { required: acks.required, received }),
                }))
            }
            Outcome::Written { acks: received, .. } => {
                let (rolled_back, connected) = self.roll_back(request, Absent::Ends).await;
                Err(about.shortfall(received, connected, rolled_back))
            }
            Outcome::Declined(reply) => Ok(Attempt::Busy(remaining(reply))),
            Outcome::Refused(error) => Err(error),
            Outcome::Undo(error, absent) => match self.roll_back(request, absent).await {
                (true, _) => Err(error),
                (false, _) => Err(about.unknown(resources.first(), &error)),
            },
            Outcome::Unknown(why) => {
                self.cleanup.add(resources, *owner, *ttl, Absent::MayYetCome);
                Err(about.unknown(resources.first(), &why))
            }
        }
    }

    /// See [`crate::backend::Backend::extend`].
    pub async fn extend(
        &self,
        resources: &Resources,
        owner: Owner,
        ttl: Ttl,
        acks: AckPolicy,
    ) -> Result<BootInstant> {
        let about = self.about(Subject::Extension, acks.required);
        let call = Call::extend(&self.link.config.keys, resources, owner, ttl);
        match self.run(&self.extensions, &about, acks, &call).await {
            Outcome::Written { sent, acks: received, .. } if received >= acks.required => Ok(sent),
            Outcome::Written { acks: received, .. } => {
                Err(about.shortfall(received, self.connected().await, false))
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

    /// See [`crate::backend::Backend::release`].
    pub async fn release(&self, resources: &Resources, owner: Owner, ttl: Ttl) -> Result<bool> {
        let about = self.about(Subject::Release, 0);
        let error = match self.delete(&about, resources, owner, None).await {
            Ok((deleted, _)) => return Ok(usize::try_from(deleted) == Ok(resources.as_slice().len())),
            Err(error) => error,
        };
        // It was granted long ago, so nothing of it can land later.
        self.cleanup.add(resources, owner, ttl, Absent::Ends);
        Err(error)
    }

    /// Takes no more requests. What is under way ends by itself.
    pub fn shut(&self) {
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

    /// Without acknowledgements no WAIT is needed, and so no lane.
    async fn run(
        &self,
        lanes: &Arc<Lanes>,
        about: &About<'_>,
        policy: AckPolicy,
        call: &Call<'_>,
    ) -> Outcome {
        if policy.required > 0 {
            // 0 would block for ever.
            let timeout_ms = policy.timeout_ms.max(1);
            return lanes.run(AckPolicy { timeout_ms, ..policy }, call).await;
        }
        match self.link.control.run(call, None).await {
            Ok(reply) => match about.verdict(&reply.script) {
                Verdict::Done(token) => Outcome::Written { reply: token, sent: reply.sent, acks: 0 },
                Verdict::Declined(left) => Outcome::Declined(left),
                Verdict::Refused(error) | Verdict::NotLoaded(error) => Outcome::Refused(error),
                Verdict::Failed(error) => Outcome::Undo(error, Absent::MayYetCome),
            },
            Err(Failure::Connect(error)) => Outcome::Refused(error),
            Err(Failure::Broke(broken)) if broken.sent => Outcome::Unknown(broken.why),
            Err(Failure::Broke(broken)) => Outcome::Refused(about.unsent(&broken)),
        }
    }

    /// Undoes a grant that was written, or may have been, and is not proved: whether that is confirmed, and how many
    /// replicas are connected. Never a plain DEL: the lease may be over, and somebody else's by now.
    async fn roll_back(&self, request: &Request, absent: Absent) -> (bool, Option<u32>) {
        let Request { resources, owner, ttl, .. } = request;
        let about = self.about(Subject::Grant, request.acks.required);
        let undone = self.delete(&about, resources, *owner, Some("replication")).await;
        let confirmed = undone.as_ref().is_ok_and(|(deleted, _)| *deleted > 0 || absent == Absent::Ends);
        if !confirmed {
            self.cleanup.add(resources, *owner, *ttl, absent);
        }
        (confirmed, undone.ok().and_then(|(_, info)| info).map(|info| guarantee::connected(&info)))
    }

    /// How many replicas are connected, if the server says so.
    async fn connected(&self) -> Option<u32> {
        let answer = self.link.control.exchange(1, |packer, out| {
            packer.command(out, |cmd| {
                cmd.arg("INFO").arg("replication");
            });
        });
        let info = text(answer.await.ok()?.replies.into_iter().next()?)?;
        Some(guarantee::connected(&info))
    }

    /// Compares and deletes; answers how many of the keys were the owner's.
    async fn delete(
        &self,
        about: &About<'_>,
        resources: &Resources,
        owner: Owner,
        info: Option<&str>,
    ) -> Result<(i64, Option<String>)> {
        let call = Call::release(&self.link.config.keys, resources, owner);
        let reply = match self.link.control.run(&call, info).await {
            Ok(reply) => reply,
            Err(Failure::Connect(error)) => return Err(error),
            Err(Failure::Broke(broken)) if broken.sent => {
                return Err(about.unknown(resources.first(), &broken));
            }
            Err(Failure::Broke(broken)) => return Err(about.unsent(&broken)),
        };
        match &reply.script {
            Value::Int(deleted) => Ok((*deleted, reply.info)),
            other => Err(about.error(other)),
        }
    }
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
