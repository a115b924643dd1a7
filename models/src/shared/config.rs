//! What is modelled: the rules for tokens, the guard, and the bounds.

/// The tokens of readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens {
    /// All readers of a phase, from the first reader to the next writer, have one token.
    Phase,
    /// Each reader has its own.
    Own,
    /// A reader after a writer has the writer's token.
    Writers,
}

/// What the guard compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// One number: a lower token is refused.
    One,
    /// The highest token of a writer and the highest of a reader; a reader is compared with writers only.
    Two,
}

/// What a downgrade does with the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downgrade {
    /// There is no downgrade.
    Never,
    /// The lock gets a new token.
    NewToken,
    /// The reader keeps the writer's token.
    KeepsToken,
}

/// What is modelled, and its bounds.
#[derive(Debug, Clone)]
pub struct Config {
    /// The tokens of readers.
    pub tokens: Tokens,
    /// What the guard compares.
    pub fence: Fence,
    /// The last tick.
    pub horizon: u8,
    /// In ticks.
    pub ttl: u8,
    /// Of all holders together.
    pub leases: u8,
    /// Readers advance the fence before they read.
    pub readers_advance: bool,
    /// Whether a writer may become a reader.
    pub downgrade: Downgrade,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tokens: Tokens::Phase,
            fence: Fence::One,
            horizon: 4,
            ttl: 2,
            leases: 5,
            readers_advance: true,
            downgrade: Downgrade::NewToken,
        }
    }
}

/// The model, for so many holders at a time.
#[derive(Debug)]
pub struct Shared<const HOLDERS: usize>(pub Config);
