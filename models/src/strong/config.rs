//! What is modelled: the deployment, what happens to it, the bounds, and the rules that are taken away.

/// How many replicas must acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// So many of the two that are declared.
    Declared(u8),
    /// As many as are connected.
    Observed,
}

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    /// At most one valid lease, and tokens that rise with the grants.
    All,
    /// At most one valid lease.
    Exclusion,
    /// Tokens differ, and a lease that was asked for after another was granted has a higher one.
    Tokens,
    /// A stale holder never has the higher token.
    Fenced,
}

/// A rule of the protocol that a configuration takes away, or does the opposite of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// Lock and token are written by one command: here by two.
    OneCommand,
    /// A rollback deletes only what it wrote: here whatever is there.
    ComparedDelete,
    /// WAIT goes over the connection that wrote: here over another.
    SameConnection,
    /// The deadline counts from before sending: here from the reply.
    DeadlineFromSending,
    /// A grant that comes after its deadline is released: here it is used.
    DiscardedLateGrants,
    /// An extension counts once it is proved: here when it was carried out.
    ProvedExtension,
    /// Tokens follow the clock: here they are only counted.
    Clock,
    /// An adoption compares the owner: here it takes whatever lease is there.
    ComparedOwner,
    /// An adoption is undone only where its own owner is there: here whatever owner is.
    ComparedGiveBack,
    /// Who hands a lease over does not have it any more: here it goes on.
    EndedHandle,
}

/// What is modelled, and its bounds. Times are in ticks.
#[derive(Debug, Clone)]
pub struct Config {
    /// Of each client.
    pub attempts: u8,
    /// Attempts of all clients together.
    pub total: u8,
    /// Extensions of each client.
    pub extensions: u8,
    /// Whether a lease may be handed over, and adopted by any client, as often as the attempts allow.
    pub hands_over: bool,
    /// The last tick.
    pub horizon: u8,
    /// Of every lease.
    pub ttl: u8,
    /// Taken off the TTL by the holder, in addition to the product's own drift.
    pub drift: u8,
    /// How many replicas must acknowledge.
    pub acks: Acks,
    /// How many there may be.
    pub failovers: u8,
    /// How long a failover takes at least.
    pub failover_ticks: u8,
    /// In a failover the old primary may go on, cut off, with or without the other replica. Else it dies.
    pub split: bool,
    /// How often the primary may come back without its data, which its replicas then lose, too.
    pub restarts: u8,
    /// How long a restart takes at least.
    pub restart_ticks: u8,
    /// By how much each server's clock is ahead: all cases.
    pub skews: &'static [[u8; 3]],
    /// The token that every server has at the start.
    pub first_fence: u8,
    /// What is checked.
    pub checks: Checks,
    /// The rules that are taken away.
    pub without: &'static [Without],
}

impl Default for Config {
    fn default() -> Self {
        Self {
            attempts: 2,
            total: 3,
            extensions: 0,
            hands_over: false,
            horizon: 5,
            ttl: 2,
            drift: 0,
            acks: Acks::Declared(2),
            failovers: 1,
            failover_ticks: 1,
            split: true,
            restarts: 0,
            restart_ticks: 0,
            skews: &[[0; 3]],
            first_fence: 0,
            checks: Checks::All,
            without: &[],
        }
    }
}

impl Config {
    pub(super) fn lacks(&self, rule: Without) -> bool {
        self.without.contains(&rule)
    }

    pub(super) fn checks_exclusion(&self) -> bool {
        matches!(self.checks, Checks::All | Checks::Exclusion)
    }

    pub(super) fn checks_tokens(&self) -> bool {
        matches!(self.checks, Checks::All | Checks::Tokens)
    }
}

/// The model, for so many clients.
#[derive(Debug)]
pub struct Strong<const CLIENTS: usize>(pub Config);

impl<const CLIENTS: usize> Strong<CLIENTS> {
    /// The owner of an attempt, counted from 1.
    pub(super) const fn owner(&self, client: usize, attempt: u8) -> u8 {
        client as u8 * self.0.attempts + attempt + 1
    }
}
