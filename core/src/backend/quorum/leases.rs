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
    /// For each node the calls that may still give it the lease, also after a release.
    pub open: Vec<Vec<OpenCall>>,
}

/// A call that may give a node the lease, and was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenCall {
    /// What is sent on the same connection is executed after it. `None`: that broke, or is not known.
    pub connection: Option<u64>,
    /// Whether it is a heal. A proposal is refused once the node has had the lease, because of its token.
    pub heals: bool,
}

impl HeldVotes {
    /// Whether a node may get the lease after it answered a release, by this connection, and deleted it or
    /// not.
    pub fn may_be_late(&self, node: usize, release: Option<u64>, deleted: bool) -> bool {
        self.open[node].iter().any(|call| {
            let is_executed = release.is_some() && call.connection == release;
            !is_executed && (call.heals || !deleted)
        })
    }
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

    /// A node is about to get the lease, by this connection. `false`: it is over, or about to be.
    pub fn heal(&self, owner: Owner, node: usize, connection: u64, now: BootInstant) -> bool {
        let mut table = self.0.lock();
        let Some(votes) = table.held.get_mut(&owner).filter(|votes| now < votes.deadline) else {
            return false;
        };
        votes.asked[node] = true;
        votes.open[node].push(OpenCall { connection: Some(connection), heals: true });
        true
    }

    /// A heal by this connection was answered; or it was not, and never will be.
    pub fn healed(&self, owner: Owner, node: usize, connection: u64, answered: bool) {
        let mut table = self.0.lock();
        let Some(votes) = table.held.get_mut(&owner) else { return };
        let (open, call) = (&mut votes.open[node], OpenCall { connection: Some(connection), heals: true });
        if let Some(at) = open.iter().position(|other| *other == call) {
            open.swap_remove(at);
        }
        let lost = OpenCall { connection: None, ..call };
        if !answered && !open.contains(&lost) {
            open.push(lost);
        }
    }

    /// It is over, or about to be: nothing may create it again.
    pub fn remove(&self, owner: Owner) -> Option<HeldVotes> {
        self.0.lock().held.remove(&owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn votes(token: u64, deadline: BootInstant) -> HeldVotes {
        HeldVotes { token, deadline, asked: vec![true; 3], open: vec![Vec::new(); 3] }
    }

    #[test]
    fn what_was_sent_on_another_connection_may_be_late() {
        let (leases, owner, at) = (Leases::default(), Owner::random(), BootInstant::from_micros);
        let mut held = votes(1, at(50));
        held.open[1].push(OpenCall { connection: Some(4), heals: false });
        leases.granted(owner, held, at(0));
        let may_be_late = |release, deleted| leases.get(owner).unwrap().may_be_late(1, release, deleted);
        assert!(!may_be_late(Some(4), false), "it was before the release");
        assert!(may_be_late(Some(5), false) && may_be_late(None, false));
        assert!(!may_be_late(Some(5), true), "its token is not above that of what was deleted");
        assert!(leases.heal(owner, 1, 5, at(1)) && leases.heal(owner, 1, 6, at(1)));
        leases.healed(owner, 1, 6, true);
        assert!(may_be_late(Some(6), true), "a heal creates the lease whatever the token is");
        assert!(!may_be_late(Some(5), true));
        leases.healed(owner, 1, 5, false);
        assert!(may_be_late(Some(5), true), "its connection broke");
        assert!(!leases.get(owner).unwrap().may_be_late(0, Some(6), false));
        assert!(!leases.heal(owner, 1, 5, at(50)), "the lease is over");
    }

    #[test]
    fn leases_that_are_over_are_forgotten() {
        let (leases, at) = (Leases::default(), BootInstant::from_micros);
        for number in 0..1_000_u64 {
            let votes = votes(number, at(number + 10));
            leases.granted(Owner::random(), votes, at(number));
        }
        assert!(leases.0.lock().held.len() <= 64);
    }

    #[test]
    fn a_deadline_never_moves_back() {
        let (leases, owner, at) = (Leases::default(), Owner::random(), BootInstant::from_micros);
        leases.granted(owner, votes(1, at(50)), at(0));
        leases.extended(owner, at(40));
        assert_eq!(leases.get(owner).unwrap().deadline, at(50));
        leases.extended(owner, at(60));
        assert_eq!(leases.remove(owner).unwrap().deadline, at(60));
        assert!(leases.get(owner).is_none());
    }
}
