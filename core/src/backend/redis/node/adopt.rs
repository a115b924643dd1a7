//! Taking a lease over from another owner.

use redis::Value;

use super::{Node, NodeError, NodeResult, finite};
use crate::backend::contract::{Grant, Request, not_adoptable};
use crate::backend::redis::pipeline::batch::{Late, LeaseOutcome};
use crate::backend::redis::protocol::lease_args::LeaseArgs;
use crate::backend::redis::protocol::operation::Operation;
use crate::backend::redis::protocol::replies::proof::Proof;
use crate::backend::redis::protocol::scripts::pack_give_back;
use crate::lease::{Acks, Owner};

impl Node {
    /// `asking`: the slot is moving to this node.
    pub async fn adopt(&self, request: &Request, from: Owner, asking: bool) -> NodeResult<Grant> {
        let Request { resources, owner, ttl, acks, .. } = request;
        let proof = Proof::of(*acks);
        let context = self.context.reply_context(Operation::Adopt).requiring(proof);
        self.capabilities.check(proof).await?;
        let error = match self.adopt.run(finite(*acks), LeaseArgs::adopt(request, from, asking)).await {
            LeaseOutcome::Written { reply, sent, received } if proof.is_met_by(received) => {
                let token = u64::try_from(reply).expect("the reply of an adoption is positive");
                let acks = Acks { required: acks.required, received: received.replicas };
                return Ok(Grant { token, sent, acks: (acks.required > 0).then_some(acks) });
            }
            LeaseOutcome::Written { received, .. } => {
                // The replicas may follow another primary by now.
                self.context.connector.route().doubt("too few replicas acknowledged");
                let given_back = self.give_back(request, from, Late::Impossible).await;
                let connected = Box::pin(self.replicas.count()).await;
                context.shortfall(received, acks.timeout_ms, connected, given_back)
            }
            LeaseOutcome::Declined(_) => not_adoptable(resources.first()),
            LeaseOutcome::Elsewhere(elsewhere) => return Err(NodeError::Elsewhere(elsewhere)),
            LeaseOutcome::Refused(error) => {
                self.capabilities.reconsider(&error);
                error
            }
            LeaseOutcome::Undo(error, late) => {
                self.capabilities.reconsider(&error);
                let given_back = self.give_back(request, from, late).await;
                // Its cause only: its message says that nothing was granted.
                let why = error.cause().unwrap_or("the server returned an error").to_owned();
                if given_back { error } else { context.unknown(resources.first(), &why) }
            }
            LeaseOutcome::Unknown(why) => {
                self.deletions.rolled_back(resources, *owner, *ttl);
                self.rollbacks.add(resources, *owner, *ttl, None, Late::Possible);
                context.unknown(resources.first(), &why)
            }
        };
        Err(error.into())
    }

    /// Undoes an adoption that was written, or may have been, and is not proved: the old owner gets the lease
    /// back, for the time that is left. Returns whether that is confirmed. If not, the lease is ended in the
    /// background: what is not known to be the old owner's must not keep others waiting.
    async fn give_back(&self, request: &Request, from: Owner, late: Late) -> bool {
        let Request { resources, owner, ttl, .. } = request;
        let keys = &self.context.settings.keys;
        // By its text, which is simpler than repeating the call, and this is rare.
        let exchange = self.context.shared.exchange(1, |packer, out| {
            packer.by_text(true, |packer| pack_give_back(keys, resources, (*owner, from), packer, out));
        });
        let confirmed = match exchange.await.map(|response| response.replies) {
            Ok(replies) => {
                matches!(replies[..], [Value::Int(given)] if given > 0 || late == Late::Impossible)
            }
            Err(_) => false,
        };
        // A replica that takes over may have the adoption only.
        self.deletions.rolled_back(resources, *owner, *ttl);
        if !confirmed {
            self.rollbacks.add(resources, *owner, *ttl, None, late);
        }
        confirmed
    }
}
