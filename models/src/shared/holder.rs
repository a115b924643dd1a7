//! What holders do at the guarded store, at any time, also long after their deadline.

use super::config::{Fence, Shared};
use super::state::{Action, Kind, Progress, State};
use crate::invariant::Invariant;

impl<const HOLDERS: usize> Shared<HOLDERS> {
    /// What one holder may do.
    pub(super) fn holder_actions(state: &State<HOLDERS>, index: usize, actions: &mut Vec<Action>) {
        let holder = &state.holders[index];
        actions.extend(match (holder.kind, holder.progress) {
            (Kind::Nothing, _) | (_, Progress::Done) => None,
            (_, Progress::Begun) => Some(Action::Advance(index)),
            (Kind::Writer, Progress::Read) => Some(Action::Put(index)),
            // A reader reads as often as it likes.
            (_, Progress::Advanced | Progress::Read) => Some(Action::Get(index)),
        });
        if holder.late > 0 {
            actions.push(Action::LatePut(index));
        }
    }

    pub(super) fn advance(&self, state: &mut State<HOLDERS>, index: usize) {
        let holder = state.holders[index];
        let advances = holder.kind == Kind::Writer || self.0.readers_advance;
        if self.admits(state, holder.kind, holder.token, advances) {
            state.holders[index].progress = Progress::Advanced;
        } else {
            Self::refuse(state, index);
        }
    }

    pub(super) fn get(&self, state: &mut State<HOLDERS>, index: usize) {
        let holder = state.holders[index];
        if holder.kind == Kind::Reader {
            if !self.admits(state, Kind::Reader, holder.token, false) {
                return Self::refuse(state, index);
            }
            // Every read after the first must find the same.
            if holder.progress == Progress::Read && holder.value != state.value {
                state.broken = Some(Invariant::Snapshot);
            }
        }
        state.holders[index].value = state.value;
        state.holders[index].progress = Progress::Read;
    }

    pub(super) fn put(&self, state: &mut State<HOLDERS>, index: usize) {
        let holder = state.holders[index];
        if self.admits(state, Kind::Writer, holder.token, true) {
            state.holders[index].progress = Progress::Done;
            state.value = holder.value + 1;
            state.writes += 1;
        } else {
            Self::refuse(state, index);
        }
    }

    pub(super) fn late_put(&self, state: &mut State<HOLDERS>, index: usize) {
        let holder = state.holders[index];
        state.holders[index].late = 0;
        if self.admits(state, Kind::Writer, holder.late, true) {
            state.value = holder.late_value + 1;
            state.writes += 1;
        }
    }

    /// Whether the guard lets this token through. If so, the fence advances to it when it should.
    fn admits(&self, state: &mut State<HOLDERS>, kind: Kind, token: u8, advances: bool) -> bool {
        let [writers, readers] = state.fence;
        let own_readers = self.0.fence == Fence::Two;
        if token < writers || (own_readers && kind == Kind::Writer && token < readers) {
            return false;
        }
        if advances && own_readers && kind == Kind::Reader {
            state.fence[1] = readers.max(token);
        } else if advances {
            state.fence[0] = token;
        }
        true
    }

    fn refuse(state: &mut State<HOLDERS>, index: usize) {
        state.holders[index].progress = Progress::Done;
        if state.now < state.holders[index].deadline {
            state.broken = Some(Invariant::Admitted);
        }
    }
}
