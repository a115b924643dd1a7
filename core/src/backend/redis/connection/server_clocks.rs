//! The clocks of the servers that a node has had, because a new primary ends leases by its own.

use crate::backend::guarantees::Skew;
use crate::runtime::sync::Mutex;

/// How the clocks of a node's server and of the one before it compare with this host's.
#[derive(Default)]
pub(crate) struct ServerClocks(Mutex<State>);

#[derive(Default)]
struct State {
    /// Measured last, in this generation.
    current: Option<(u64, Skew)>,
    /// In the generation before it.
    before: Option<Skew>,
}

impl ServerClocks {
    /// The clock of the server of this generation was read.
    pub fn measured(&self, generation: u64, skew: Skew) {
        let mut state = self.0.lock();
        match &mut state.current {
            Some((measured, _)) if *measured > generation => {}
            Some((measured, known)) if *measured == generation => *known = skew,
            current => state.before = current.replace((generation, skew)).map(|(_, skew)| skew),
        }
    }

    /// How the clock of the server compared with that of the one before it; `None` if either is not known.
    pub fn change(&self) -> Option<Skew> {
        let state = self.0.lock();
        let (_, now) = state.current?;
        Some(now.relative_to(state.before?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(ahead_micros: i64) -> Skew {
        Skew { ahead_micros, error_micros: 10 }
    }

    #[test]
    fn a_new_server_is_compared_with_the_one_before_it() {
        let clocks = ServerClocks::default();
        clocks.measured(3, ahead(500));
        clocks.measured(3, ahead(700));
        assert_eq!(clocks.change(), None, "there is one server");
        clocks.measured(5, ahead(-300));
        clocks.measured(3, ahead(9_000));
        let change = clocks.change().unwrap();
        assert_eq!((change.ahead_micros, change.error_micros), (-1_000, 20));
        clocks.measured(5, ahead(-200));
        assert_eq!(clocks.change().unwrap().ahead_micros, -900, "it was read again");
    }
}
