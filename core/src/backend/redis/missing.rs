//! Which leases are still there?

use std::sync::Arc;

use futures_util::future::join_all;

use super::RedisBackend;
use super::node::Node;
use super::protocol::lease_args::{Grouping, LeaseArgs, call_sizes};
use super::topology::cluster::OnMigration;
use crate::backend::contract::Presence;
use crate::lease::{Owner, Resources};

impl RedisBackend {
    /// See [`LockBackend::find_missing`](crate::backend::contract::LockBackend::find_missing).
    pub(super) async fn presence_of(&self, leases: &[(Resources, Owner)]) -> Vec<Presence> {
        let grouping = self.topology.only_node().map_or(Grouping::BySlot, |node| node.grouping());
        let args = leases.iter().map(|(resources, owner)| LeaseArgs::release(resources, *owner));
        let mut numbered: Vec<_> = args.enumerate().collect();
        if grouping == Grouping::BySlot {
            numbered.sort_by_key(|(_, lease)| lease.slot());
        }
        let (places, args): (Vec<usize>, Vec<LeaseArgs>) = numbered.into_iter().unzip();
        let mut rest = &args[..];
        let calls = call_sizes(args.iter(), grouping).into_iter().map(|size| {
            let call;
            (call, rest) = rest.split_at(size);
            self.ask(call)
        });
        let mut answers = vec![Presence::Unknown; leases.len()];
        for (place, answer) in places.into_iter().zip(join_all(calls).await.into_iter().flatten()) {
            answers[place] = answer;
        }
        answers
    }

    /// Asks for leases that share a call.
    async fn ask(&self, leases: &[LeaseArgs]) -> Vec<Presence> {
        let call = |node: Arc<Node>, _| async move { node.find_held(leases).await };
        let patience = (OnMigration::Wait, self.patience);
        match self.topology.on_owner(leases[0].resources(), patience, call).await {
            Ok(held) => {
                let presence = |held| if held { Presence::Held } else { Presence::Missing };
                held.into_iter().map(presence).collect()
            }
            Err(_) => vec![Presence::Unknown; leases.len()],
        }
    }
}
