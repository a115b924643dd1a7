//! The leases of this manager, as far as nodes must be told about them.

use std::collections::HashMap;

use crate::lease::Owner;
use crate::runtime::clock::BootInstant;
use crate::runtime::sync::Mutex;

/// The leases that were granted and not released.
#[derive(Default)]
pub(crate) struct Leases(Mutex<Table>);

#[derive(Default)]
struct Table {
    held: HashMap<Owner, HeldVotes>,
    /// At how many entries those are removed that are over.
    prune_at: usize,
}

/// A lease.
#[derive(Debug, Clone)]
pub(crate) struct HeldVotes {
    pub token: u64,
    /// Until when it is valid, as far as a majority has said in time.
    pub deadline: BootInstant,
    /// For each node whether it was asked to grant it.
    pub asked: Vec<bool>,
    /// The nodes whose answers had not come when it was granted: they may still grant it, also after a
    /// release.
    pub unanswered: Vec<usize>,
}

impl Leases {
    pub fn granted(&self, owner: Owner, votes: HeldVotes, now: BootInstant) {
        let mut table = self.0.lock();
        // A holder that forgot its lease never releases it.
        if table.held.len() >= table.prune_at {
            table.held.retain(|_, votes| votes.deadline > now);
            table.prune_at = (2 * table.held.len()).max(64);
        }
        table.held.insert(owner, votes);
    }

    pub fn get(&self, owner: Owner) -> Option<HeldVotes> {
        self.0.lock().held.get(&owner).cloned()
    }

    /// A majority extended it in time. Never back.
    pub fn extended(&self, owner: Owner, deadline: BootInstant) {
        if let Some(votes) = self.0.lock().held.get_mut(&owner) {
            votes.deadline = votes.deadline.max(deadline);
        }
    }

    /// A node is about to get the lease. `false`: it is over, or about to be.
    pub fn heal(&self, owner: Owner, node: usize, now: BootInstant) -> bool {
        let mut table = self.0.lock();
        let Some(votes) = table.held.get_mut(&owner).filter(|votes| now < votes.deadline) else {
            return false;
        };
        votes.asked[node] = true;
        if !votes.unanswered.contains(&node) {
            votes.unanswered.push(node);
        }
        true
    }

    /// It is over, or about to be: nothing may create it again.
    pub fn remove(&self, owner: Owner) -> Option<HeldVotes> {
        self.0.lock().held.remove(&owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_that_are_over_are_forgotten() {
        let (leases, at) = (Leases::default(), BootInstant::from_micros);
        for number in 0..1_000_u64 {
            let votes = HeldVotes {
                token: number,
                deadline: at(number + 10),
                asked: Vec::new(),
                unanswered: Vec::new(),
            };
            leases.granted(Owner::random(), votes, at(number));
        }
        assert!(leases.0.lock().held.len() <= 64);
    }

    #[test]
    fn a_deadline_never_moves_back() {
        let (leases, owner, at) = (Leases::default(), Owner::random(), BootInstant::from_micros);
        leases.granted(
            owner,
            HeldVotes { token: 1, deadline: at(50), asked: Vec::new(), unanswered: Vec::new() },
            at(0),
        );
        leases.extended(owner, at(40));
        assert_eq!(leases.get(owner).unwrap().deadline, at(50));
        leases.extended(owner, at(60));
        assert_eq!(leases.remove(owner).unwrap().deadline, at(60));
        assert!(leases.get(owner).is_none());
    }
}
