//! What the lock server does: grants, releases, downgrades.

use super::config::{Downgrade, Shared, Tokens};
use super::state::{Action, Holder, Kind, Progress, State};

impl<const HOLDERS: usize> Shared<HOLDERS> {
    /// What the server may do for one holder.
    pub(super) fn server_actions(&self, state: &State<HOLDERS>, index: usize, actions: &mut Vec<Action>) {
        let holder = &state.holders[index];
        if holder.kind == Kind::Nothing {
            if state.leases < self.0.leases && !state.is_held(Kind::Writer) {
                actions.push(Action::Share(index));
                if !state.is_held(Kind::Reader) {
                    actions.push(Action::Exclude(index));
                }
            }
        } else if holder.until == 0 {
            actions.push(Action::Forget(index));
        } else {
            actions.push(Action::Release(index));
            if holder.kind == Kind::Writer && self.0.downgrade != Downgrade::Never && holder.late == 0 {
                actions.push(Action::Downgrade { holder: index, late: false });
                if holder.progress == Progress::Read {
                    actions.push(Action::Downgrade { holder: index, late: true });
                }
            }
        }
    }

    pub(super) fn tick(state: &mut State<HOLDERS>) {
        state.now += 1;
        state.phase &= state.is_held(Kind::Reader);
        for holder in &mut state.holders {
            if holder.until <= state.now {
                holder.until = 0;
            }
        }
    }

    pub(super) fn share(&self, state: &mut State<HOLDERS>, index: usize) {
        let joins = match self.0.tokens {
            Tokens::Phase => state.phase,
            Tokens::Own => false,
            Tokens::Writers => state.phase || state.last > 0,
        };
        if !joins {
            state.last += 1;
        }
        state.phase = true;
        state.leases += 1;
        self.grant(state, index, Kind::Reader);
    }

    pub(super) fn exclude(&self, state: &mut State<HOLDERS>, index: usize) {
        state.last += 1;
        state.phase = false;
        state.leases += 1;
        self.grant(state, index, Kind::Writer);
    }

    pub(super) fn release(state: &mut State<HOLDERS>, index: usize) {
        state.forget(index);
        state.phase &= state.is_held(Kind::Reader);
    }

    pub(super) fn downgrade(&self, state: &mut State<HOLDERS>, index: usize, late: bool) {
        let writer = state.holders[index];
        if self.0.downgrade == Downgrade::NewToken {
            state.last += 1;
        }
        state.phase = true;
        self.grant(state, index, Kind::Reader);
        if late {
            (state.holders[index].late, state.holders[index].late_value) = (writer.token, writer.value);
        }
    }

    const fn grant(&self, state: &mut State<HOLDERS>, index: usize, kind: Kind) {
        let until = state.now + self.0.ttl;
        state.holders[index] = Holder { kind, token: state.last, deadline: until, until, ..Holder::IDLE };
    }
}
