//! What a node must do with calls, by the model's rules for one name. What the model leaves out is added
//! here: several names in one request, which are granted or refused together, and queues of waiters.

use std::collections::BTreeMap;

use fencelock_models::quorum::node::{Extended, Extension, Lease, Proposal, Reply, Rules, Stored};

use crate::operation::NAMES;

const RULES: Rules = Rules::PRODUCT;

/// All that a node has stored, and what it has said of it. Times in microseconds.
#[derive(Debug, Clone, Default)]
pub struct Node {
    pub names: [Stored; NAMES],
    /// When each fence expires, if it was written.
    pub fences_until: [u64; NAMES],
    /// The waiters of each name with their places; an unfair one has none.
    pub queues: [BTreeMap<String, Option<u64>>; NAMES],
    /// What a client has noted, and until when.
    pub note: Option<(u8, u64)>,
}

/// What may have ended.
#[derive(Debug, Clone, Copy)]
pub enum Ending {
    /// The lease of this name.
    Lease(usize),
    Note,
}

/// A proposal for several names, and who waits if it is refused.
#[derive(Debug, Clone)]
pub struct Proposed {
    pub names: Vec<usize>,
    pub proposal: Proposal,
    pub waiter: Option<(String, Option<u64>)>,
    pub fence_us: u64,
}

#[derive(Debug, Clone)]
pub struct Renewed {
    pub names: Vec<usize>,
    pub extension: Extension,
    pub fence_us: u64,
}

/// The answer to a proposal. Places count from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Granted,
    /// For how much longer each of its names is held, if it is.
    Held {
        left: Vec<Option<u64>>,
        token: u64,
    },
    /// Others are before it in a queue.
    Behind {
        place: usize,
        token: u64,
    },
    Low(u64),
    High(u64),
}

impl Node {
    /// What ends so near to this time that it cannot be told which was first.
    pub fn ending(&self, now: u64, tolerance: u64) -> Vec<Ending> {
        let near = |until: u64| until.abs_diff(now) <= tolerance;
        let leases = (0..NAMES)
            .filter(|&name| self.names[name].lease.is_some_and(|lease| near(lease.until)))
            .map(Ending::Lease);
        leases.chain(self.note.filter(|&(_, until)| near(until)).map(|_| Ending::Note)).collect()
    }

    /// Decides whether it has ended.
    pub fn decide(&mut self, now: u64, ending: Ending, ended: bool) {
        match ending {
            Ending::Lease(name) if ended => self.names[name].lease = None,
            Ending::Lease(name) => {
                if let Some(lease) = &mut self.names[name].lease {
                    lease.until = lease.until.max(now + 1);
                }
            }
            Ending::Note if ended => self.note = None,
            Ending::Note => self.note = self.note.map(|(noted, until)| (noted, until.max(now + 1))),
        }
    }

    pub fn propose(&mut self, now: u64, proposed: &Proposed) -> Answer {
        let answer = self.judge(now, proposed);
        let Proposed { names, waiter: Some((waiter, place)), .. } = proposed else { return answer };
        let queued = names.iter().all(|&name| self.queues[name].contains_key(waiter));
        for &name in names {
            if answer == Answer::Granted {
                self.queues[name].remove(waiter);
            } else if !queued {
                // A waiter that is in all queues keeps its place.
                self.queues[name].insert(waiter.clone(), *place);
            }
        }
        answer
    }

    fn judge(&mut self, now: u64, proposed: &Proposed) -> Answer {
        let Proposed { names, proposal, waiter, fence_us } = proposed;
        let leases: Vec<_> = names.iter().map(|&name| self.lease(name, now)).collect();
        let token = names.iter().map(|&name| self.names[name].fence).max().unwrap_or(0);
        let held = leases.iter().flatten().any(|lease| lease.owner != proposal.owner);
        if held {
            let left = leases.iter().map(|lease| lease.map(|lease| lease.until - now)).collect();
            return Answer::Held { left, token };
        }
        let all_mine = leases.iter().all(Option::is_some);
        if !all_mine && let Some(queue) = self.must_wait(names, waiter.as_ref().map(|(waiter, _)| waiter)) {
            // It names a lock that is held rather than a queue.
            let place = leases.iter().position(Option::is_some).filter(|_| names.len() > 1);
            return Answer::Behind { place: place.unwrap_or(queue), token };
        }
        for (&name, lease) in names.iter().zip(leases) {
            let stored = Stored { lease: lease.filter(|_| all_mine), fence: token };
            let (stored, reply) = stored.propose(now, proposal, &RULES);
            match reply {
                Reply::Granted => self.names[name] = stored,
                Reply::Low(last) => return Answer::Low(last),
                Reply::High(most) => return Answer::High(most),
                Reply::Held { .. } => unreachable!("no other owner has it"),
            }
            self.keep_fence(name, now, *fence_us, proposal.ttl);
        }
        Answer::Granted
    }

    /// The place of the first name that a fair waiter other than this one is first to get.
    fn must_wait(&self, names: &[usize], waiter: Option<&String>) -> Option<usize> {
        names.iter().position(|&name| {
            let first = self.queues[name]
                .iter()
                .filter_map(|(waiter, place)| place.map(|place| (place, waiter)))
                .min();
            first.is_some_and(|(_, first)| Some(first) != waiter)
        })
    }

    pub fn renew(&mut self, now: u64, renewed: &Renewed) -> Extended {
        let Renewed { names, extension, fence_us } = renewed;
        let each: Vec<_> =
            names.iter().map(|&name| self.names[name].extend(now, extension, &RULES)).collect();
        let any = |reply| each.iter().any(|&(_, it)| it == reply);
        if any(Extended::Held) {
            return Extended::Held;
        }
        let free = any(Extended::Free);
        if !free || extension.heal {
            for (&name, &(stored, _)) in names.iter().zip(&each) {
                self.names[name] = stored;
                self.keep_fence(name, now, *fence_us, extension.ttl);
            }
        }
        if free { Extended::Free } else { Extended::Extended }
    }

    /// How many locks were the owner's.
    pub fn release(&mut self, now: u64, owner: u64, names: &[usize]) -> u64 {
        let mut deleted = 0;
        for &name in names {
            let (stored, was_its) = self.names[name].release(now, owner, &RULES);
            self.names[name] = stored;
            deleted += u64::from(was_its);
        }
        deleted
    }

    pub fn force_release(&mut self, now: u64, name: usize) -> bool {
        let held = self.lease(name, now).is_some();
        self.names[name].lease = None;
        held
    }

    /// What another client has noted and for how much longer; else this client's is noted.
    pub fn agree(&mut self, now: u64, client: u8, ttl: u64) -> Option<(u8, u64)> {
        let other = self.note.filter(|&(noted, until)| noted != client && now < until);
        if other.is_none() {
            self.note = Some((client, now + ttl));
        }
        other.map(|(noted, until)| (noted, until - now))
    }

    pub fn lease(&self, name: usize, now: u64) -> Option<Lease> {
        self.names[name].lease.filter(|lease| now < lease.until)
    }

    /// It lasts until the clock alone refuses what is not above its token, and as long as the lease.
    fn keep_fence(&mut self, name: usize, now: u64, fence_us: u64, ttl: u64) {
        let ahead = self.names[name].fence.saturating_sub(now) + ttl;
        self.fences_until[name] = now + fence_us.max(ahead);
    }
}
