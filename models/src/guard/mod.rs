//! The guard by itself: holders with any tokens, in any order, without a lock. What holds here holds whatever
//! the lock does, as long as it keeps the promise about tokens that the model is given.

mod rows;

use crate::check::Model;
use crate::invariant::Invariant;
use crate::ticks::combinations;

pub use self::rows::ROWS;

/// Those that had the lock at some time.
const HOLDERS: usize = 3;

/// How a holder uses the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `guard.advance`, then a read, then a guarded write: three transactions.
    AdvanceReadWrite,
    /// A read, then a guarded write: two transactions.
    ReadWrite,
    /// `guard.run`: fence, read and write in one transaction.
    Run,
}

/// The model and its configuration.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    /// How holders use the guard.
    pub way: Way,
    /// The lock promises that tokens differ.
    pub unique: bool,
    /// The store keeps the owner beside the token, and refuses an equal token of another owner.
    pub owner: bool,
    /// The guard compares tokens.
    pub compares: bool,
}

impl Default for Guard {
    fn default() -> Self {
        Self { way: Way::AdvanceReadWrite, unique: true, owner: false, compares: true }
    }
}

/// How far a holder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Progress {
    /// Has the lock, or had it.
    Begun,
    /// The fence has its token.
    Advanced,
    /// Knows the value.
    Read,
    /// Wrote, or was refused.
    Done,
}

/// One holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Holder {
    token: u8,
    progress: Progress,
    /// The value that it read.
    value: u8,
}

/// All holders, and the guarded store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    holders: [Holder; HOLDERS],
    fence: u8,
    /// The holder that set the fence, counted from 1; 0 at first.
    fence_owner: u8,
    value: u8,
    /// How many writes the guard let through. Each adds 1 to the value.
    writes: u8,
}

/// A step of one holder.
#[derive(Debug, Clone, Copy)]
pub enum Action {
    /// Moves the fence to its token.
    Advance(usize),
    /// Reads the value.
    Read(usize),
    /// Writes what it read, plus 1, if the guard lets it.
    Write(usize),
    /// Reads and writes in one transaction, if the guard lets it.
    Run(usize),
}

impl Guard {
    /// Whether the guard lets a holder through. If so, the fence has its token.
    fn admits(self, state: &mut State, holder: usize) -> bool {
        let token = state.holders[holder].token;
        let own = holder as u8 + 1;
        let equal = token == state.fence && (!self.owner || state.fence_owner == own);
        let admitted = !self.compares || token > state.fence || equal;
        if admitted {
            (state.fence, state.fence_owner) = (token.max(state.fence), own);
        }
        admitted
    }
}

impl Model for Guard {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        combinations(HOLDERS, &[1, 2, 3])
            .into_iter()
            .filter(|tokens| {
                let differ = tokens[0] != tokens[1] && tokens[1] != tokens[2] && tokens[0] != tokens[2];
                differ || !self.unique
            })
            .map(|tokens| {
                let holder =
                    |index: usize| Holder { token: tokens[index], progress: Progress::Begun, value: 0 };
                State {
                    holders: [holder(0), holder(1), holder(2)],
                    fence: 0,
                    fence_owner: 0,
                    value: 0,
                    writes: 0,
                }
            })
            .collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, holder) in state.holders.iter().enumerate() {
            actions.extend(match (self.way, holder.progress) {
                (_, Progress::Done) => None,
                (Way::Run, _) => Some(Action::Run(index)),
                (Way::AdvanceReadWrite, Progress::Begun) => Some(Action::Advance(index)),
                (Way::AdvanceReadWrite, Progress::Advanced) | (Way::ReadWrite, Progress::Begun) => {
                    Some(Action::Read(index))
                }
                _ => Some(Action::Write(index)),
            });
        }
    }

    fn next_state(&self, state: &State, action: Action) -> State {
        let mut next = state.clone();
        match action {
            Action::Advance(index) => {
                let admitted = self.admits(&mut next, index);
                next.holders[index].progress = if admitted { Progress::Advanced } else { Progress::Done };
            }
            Action::Read(index) => {
                next.holders[index].value = next.value;
                next.holders[index].progress = Progress::Read;
            }
            Action::Write(index) | Action::Run(index) => {
                if self.admits(&mut next, index) {
                    let read =
                        if matches!(action, Action::Run(_)) { next.value } else { next.holders[index].value };
                    next.value = read + 1;
                    next.writes += 1;
                }
                next.holders[index].progress = Progress::Done;
            }
        }
        next
    }

    fn broken(&self, state: &State) -> Option<Invariant> {
        (state.value != state.writes).then_some(Invariant::Updates)
    }
}
