//! Shared (read) and exclusive (write) locks with fencing tokens, and the guard that checks them. The lock
//! server is one reliable place here; modelled is what may go wrong between it, holders that are paused, and
//! the guarded store.

mod config;
mod holder;
mod rows;
mod server;
mod state;

use crate::check::Model;
use crate::invariant::Invariant;

pub use self::config::{Config, Fence, Shared, Tokens};
pub use self::rows::ROWS;
pub use self::state::{Action, State};

impl<const HOLDERS: usize> Model for Shared<HOLDERS> {
    type State = State<HOLDERS>;
    type Action = Action;

    fn init_states(&self) -> Vec<Self::State> {
        vec![State::first()]
    }

    fn actions(&self, state: &Self::State, actions: &mut Vec<Action>) {
        if state.now < self.0.horizon {
            actions.push(Action::Tick);
        }
        for index in 0..HOLDERS {
            self.server_actions(state, index, actions);
            Self::holder_actions(state, index, actions);
        }
    }

    fn next_state(&self, state: &Self::State, action: Action) -> Self::State {
        let mut next = state.clone();
        match action {
            Action::Tick => Self::tick(&mut next),
            Action::Share(index) => self.share(&mut next, index),
            Action::Exclude(index) => self.exclude(&mut next, index),
            Action::Release(index) => Self::release(&mut next, index),
            Action::Downgrade { holder, late } => self.downgrade(&mut next, holder, late),
            Action::Forget(index) => next.forget(index),
            Action::Advance(index) => self.advance(&mut next, index),
            Action::Get(index) => self.get(&mut next, index),
            Action::Put(index) => self.put(&mut next, index),
            Action::LatePut(index) => self.late_put(&mut next, index),
        }
        // Holders are alike, so their order makes no difference.
        next.holders.sort_unstable();
        next
    }

    fn broken(&self, state: &Self::State) -> Option<Invariant> {
        state.broken.or((state.value != state.writes).then_some(Invariant::Updates))
    }
}
