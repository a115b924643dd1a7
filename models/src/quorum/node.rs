//! What a node does with a request: pure functions from what it has stored, its clock and the request to what
//! it has stored then and the reply.
//!
//! All times and tokens are in one unit, in which clocks count: microseconds since 1970 for a server, ticks
//! in the model. So the same functions can be compared with the scripts of real servers.

/// What a node has stored about a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    /// The lease.
    pub lease: Option<Lease>,
    /// The last token that it accepted; 0: none.
    pub fence: u64,
}

/// A node's part of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Whose it is.
    pub owner: u64,
    /// When it ends, by the node's clock.
    pub until: u64,
}

/// Asks a node to accept an owner and a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal {
    /// Of this attempt.
    pub owner: u64,
    /// How long the lease lasts.
    pub ttl: u64,
    /// The token.
    pub token: u64,
    /// The highest token that a node told, or that the caller demands to be above.
    pub known: u64,
}

/// A node's answer to a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Accepted.
    Granted,
    /// Another owner has it.
    Held {
        /// For how much longer.
        left: u64,
        /// The last token that the node accepted.
        token: u64,
    },
    /// The token must be above this one, the last that the node accepted, and not far behind its clock.
    Low(u64),
    /// The token must not be above this one.
    High(u64),
}

/// Asks a node to make a lease last longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension {
    /// Of the lease.
    pub owner: u64,
    /// How long it lasts from now on.
    pub ttl: u64,
    /// Its token.
    pub token: u64,
    /// Take the resource if it is free: the node restarted, or missed the grant.
    pub heal: bool,
}

/// A node's answer to an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extended {
    /// The lease lasts longer.
    Extended,
    /// It was free; with `heal` it is not any more.
    Free,
    /// Another owner has it.
    Held,
}

/// The least token that a node accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Floor {
    /// Above what it stored and above its clock less the slack.
    Always,
    /// Above what it stored, or above its clock if it stored nothing.
    IfMissing,
    /// Above what it stored.
    Never,
}

/// What nodes go by. All but [`Rules::PRODUCT`] and its other units take a rule away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// By how much a token may be behind the node's clock.
    pub slack: u64,
    /// By how much a token may be above all that could ask for it. `None`: by any amount.
    pub ahead: Option<u64>,
    /// The least token that is accepted.
    pub floor: Floor,
    /// A token must be above the last one, not equal to it.
    pub strictly_above: bool,
    /// An extension leaves a higher fence as it is.
    pub raises_fence: bool,
    /// A release deletes only the lease of its owner.
    pub compares_owner: bool,
}

impl Rules {
    /// Those of the product, for times in microseconds.
    pub const PRODUCT: Self = Self {
        slack: 1_000_000,
        ahead: Some(1_000_000),
        floor: Floor::Always,
        strictly_above: true,
        raises_fence: true,
        compares_owner: true,
    };
}

impl Stored {
    /// The token above which the next one must be.
    pub fn last(&self, now: u64, rules: &Rules) -> u64 {
        match rules.floor {
            Floor::Always => self.fence.max(now.saturating_sub(rules.slack)),
            Floor::IfMissing if self.fence == 0 => now,
            Floor::IfMissing | Floor::Never => self.fence,
        }
    }

    /// Whether this token is not refused as too low.
    pub fn is_above(&self, token: u64, now: u64, rules: &Rules) -> bool {
        let last = self.last(now, rules);
        token > last || (token == last && !rules.strictly_above)
    }

    /// Accepts a proposal, or refuses it.
    pub fn propose(self, now: u64, proposal: &Proposal, rules: &Rules) -> (Self, Reply) {
        let &Proposal { owner, ttl, token, known } = proposal;
        let lease = self.lease_at(now);
        if let Some(other) = lease.filter(|lease| lease.owner != owner) {
            return (self, Reply::Held { left: other.until - now, token: self.fence });
        }
        if !self.is_above(token, now, rules) {
            return (self, Reply::Low(self.fence));
        }
        let most = rules.ahead.map_or(u64::MAX, |ahead| self.fence.max(known).max(now) + ahead);
        if token > most {
            return (self, Reply::High(most));
        }
        let until = lease.map_or(0, |lease| lease.until).max(now + ttl);
        (Self { lease: Some(Lease { owner, until }), fence: token }, Reply::Granted)
    }

    /// Makes a lease last longer, or heals it.
    pub fn extend(self, now: u64, extension: &Extension, rules: &Rules) -> (Self, Extended) {
        let &Extension { owner, ttl, token, heal } = extension;
        let (until, reply) = match self.lease_at(now) {
            Some(lease) if lease.owner != owner => return (self, Extended::Held),
            Some(lease) => (lease.until.max(now + ttl), Extended::Extended),
            None if heal => (now + ttl, Extended::Free),
            None => return (self, Extended::Free),
        };
        let fence = if rules.raises_fence { self.fence.max(token) } else { token };
        (Self { lease: Some(Lease { owner, until }), fence }, reply)
    }

    /// Deletes the owner's lease. Returns whether there was one.
    pub fn release(self, now: u64, owner: u64, rules: &Rules) -> (Self, bool) {
        let may_delete = |lease: Lease| lease.owner == owner || !rules.compares_owner;
        let deleted = self.lease_at(now).is_some_and(may_delete);
        (if deleted { Self { lease: None, ..self } } else { self }, deleted)
    }

    fn lease_at(&self, now: u64) -> Option<Lease> {
        self.lease.filter(|lease| now < lease.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Microseconds, in 2026.
    const NOW: u64 = 1_780_000_000_000_000;
    const SECOND: u64 = 1_000_000;

    fn propose(stored: Stored, owner: u64, token: u64) -> (Stored, Reply) {
        let proposal = Proposal { owner, ttl: 10 * SECOND, token, known: 0 };
        stored.propose(NOW, &proposal, &Rules::PRODUCT)
    }

    #[test]
    fn a_token_must_be_above_the_floor_and_below_the_cap() {
        let fresh = Stored::default();
        assert_eq!(propose(fresh, 1, NOW - SECOND).1, Reply::Low(0), "its clock is told apart from it");
        assert_eq!(propose(fresh, 1, NOW - SECOND + 1).1, Reply::Granted);
        assert_eq!(propose(fresh, 1, NOW + SECOND).1, Reply::Granted);
        assert_eq!(propose(fresh, 1, NOW + SECOND + 1).1, Reply::High(NOW + SECOND));
        let told = Proposal { owner: 1, ttl: SECOND, token: NOW + 9 * SECOND, known: NOW + 8 * SECOND };
        assert_eq!(fresh.propose(NOW, &told, &Rules::PRODUCT).1, Reply::Granted, "another node told it");
    }

    #[test]
    fn a_lease_is_refused_extended_healed_and_released() {
        let (held, _) = propose(Stored::default(), 1, NOW);
        assert_eq!(propose(held, 2, NOW + 5).1, Reply::Held { left: 10 * SECOND, token: NOW });
        assert_eq!(propose(held, 1, NOW).1, Reply::Low(NOW), "the same owner needs a higher token, too");
        let later = NOW + 4 * SECOND;
        let extension = Extension { owner: 1, ttl: 10 * SECOND, token: NOW, heal: false };
        let (extended, reply) = held.extend(later, &extension, &Rules::PRODUCT);
        assert_eq!((extended.lease.unwrap().until, reply), (later + 10 * SECOND, Extended::Extended));
        let ended = later + 10 * SECOND;
        assert_eq!(extended.extend(ended, &extension, &Rules::PRODUCT), (extended, Extended::Free));
        let heal = Extension { heal: true, ..extension };
        let (healed, reply) = Stored { lease: None, fence: NOW + 7 }.extend(later, &heal, &Rules::PRODUCT);
        assert_eq!((healed.fence, reply), (NOW + 7, Extended::Free), "the fence never falls");
        assert_eq!(healed.release(later, 2, &Rules::PRODUCT), (healed, false));
        let freed = Stored { lease: None, ..healed };
        assert_eq!(healed.release(later, 1, &Rules::PRODUCT), (freed, true));
    }
}
