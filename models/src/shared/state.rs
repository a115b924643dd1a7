//! The state of the lock server, the holders and the guarded store; and the steps.

use crate::invariant::Invariant;

/// The kind of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// There is no lease, or it was forgotten.
    Nothing,
    /// A shared lease.
    Reader,
    /// An exclusive lease.
    Writer,
}

/// How far a holder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Progress {
    /// Did not go to the store yet.
    Begun,
    /// The guard let it through.
    Advanced,
    /// Knows the value.
    Read,
    /// Wrote, or was refused.
    Done,
}

/// A lease, and what its holder does with it. The fields' order is the one in which holders are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder {
    pub(super) kind: Kind,
    pub(super) token: u8,
    /// Until when the holder may count on the lease.
    pub(super) deadline: u8,
    pub(super) progress: Progress,
    /// The value that it read.
    pub(super) value: u8,
    /// The token of a write that was sent before a downgrade, and has not arrived; 0: there is none.
    pub(super) late: u8,
    /// The value of which that write makes the next one.
    pub(super) late_value: u8,
    /// Until when the server has the lease; 0: it does not.
    pub(super) until: u8,
}

impl Holder {
    pub(super) const IDLE: Self = Self {
        kind: Kind::Nothing,
        token: 0,
        deadline: 0,
        progress: Progress::Begun,
        value: 0,
        late: 0,
        late_value: 0,
        until: 0,
    };
}

/// The lock server, the holders and the guarded store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State<const HOLDERS: usize> {
    pub(super) now: u8,
    /// The last token that the server gave.
    pub(super) last: u8,
    /// The last grant was shared, and its phase goes on.
    pub(super) phase: bool,
    /// The store's fence: writers', and readers' if they have one of their own.
    pub(super) fence: [u8; 2],
    pub(super) value: u8,
    /// How many writes the guard let through. Each adds 1 to the value.
    pub(super) writes: u8,
    pub(super) holders: [Holder; HOLDERS],
    pub(super) leases: u8,
    /// What the last step did wrong.
    pub(super) broken: Option<Invariant>,
}

impl<const HOLDERS: usize> State<HOLDERS> {
    pub(super) const fn first() -> Self {
        Self {
            now: 0,
            last: 0,
            phase: false,
            fence: [0, 0],
            value: 0,
            writes: 0,
            holders: [Holder::IDLE; HOLDERS],
            leases: 0,
            broken: None,
        }
    }

    /// Whether the server has a lease of this kind.
    pub(super) fn is_held(&self, kind: Kind) -> bool {
        self.holders.iter().any(|holder| holder.kind == kind && holder.until > self.now)
    }

    pub(super) const fn forget(&mut self, holder: usize) {
        self.holders[holder] = Holder::IDLE;
    }
}

/// A step.
#[derive(Debug, Clone, Copy)]
pub enum Action {
    /// Time passes.
    Tick,
    /// A shared lease is granted.
    Share(usize),
    /// An exclusive lease is granted.
    Exclude(usize),
    /// A lease is released.
    Release(usize),
    /// An exclusive lease becomes a shared one.
    Downgrade {
        /// Whose.
        holder: usize,
        /// A write that was sent before is still under way.
        late: bool,
    },
    /// A holder whose lease is over does nothing more.
    Forget(usize),
    /// A holder goes to the guard for the first time.
    Advance(usize),
    /// A holder reads the value: a reader through the guard.
    Get(usize),
    /// A writer writes what it read, plus 1, if the guard lets it.
    Put(usize),
    /// A write that was sent before a downgrade arrives.
    LatePut(usize),
}
