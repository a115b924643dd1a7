//! The strategies: which guarantee a lock gives, and so which backend keeps its lease. To add one, add it to
//! the table here, its backend to `backend/mod.rs`, and its options to the addon's `src/config.rs`.

use std::array;

/// Passes all strategies to the macro `$define`, each as: its variant, its name in JavaScript, and what a
/// user is told whose manager has no backend for it.
#[macro_export]
macro_rules! with_strategies {
    ($define:ident) => {
        $define! {
            /// Redis with acknowledging replicas.
            Strong strong "strong locks need a Redis server: new LockManager({ redis: 'redis://…' })",
            /// A majority of independent Redis nodes.
            Quorum quorum "quorum locks need independent Redis servers: \
new LockManager({ quorum: { nodes: ['redis://…', 'redis://…', 'redis://…'] } })",
            /// A SQLite file of this host.
            Local local "this manager has no file for local locks",
        }
    };
}

macro_rules! define {
    ($($(#[$doc:meta])* $variant:ident $name:ident $not_configured:literal,)+) => {
        /// Which guarantee a lock gives.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Strategy { $($(#[$doc])* $variant,)+ }

        impl Strategy {
            /// All strategies, each at its [`Self::index`].
            pub const ALL: [Self; [$(stringify!($variant)),+].len()] = [$(Self::$variant),+];

            /// What a user is told whose manager has no backend for it.
            pub const fn not_configured(self) -> &'static str {
                match self {
                    $(Self::$variant => $not_configured,)+
                }
            }
        }
    };
}

with_strategies!(define);

impl Strategy {
    /// Its position in [`Self::ALL`], which is also its number in calls from JavaScript.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A value for each strategy.
#[derive(Debug, Clone, Copy, Default)]
pub struct PerStrategy<T>([T; Strategy::ALL.len()]);

impl<T> PerStrategy<T> {
    /// Makes each value from its strategy.
    pub fn from_fn(mut make: impl FnMut(Strategy) -> T) -> Self {
        Self(array::from_fn(|index| make(Strategy::ALL[index])))
    }

    /// The value of one strategy.
    pub const fn get(&self, strategy: Strategy) -> &T {
        &self.0[strategy.index()]
    }

    /// The value of one strategy, to be changed.
    pub const fn get_mut(&mut self, strategy: Strategy) -> &mut T {
        &mut self.0[strategy.index()]
    }

    /// Each strategy with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Strategy, &T)> {
        Strategy::ALL.into_iter().zip(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_strategy_is_at_its_index() {
        for (index, strategy) in Strategy::ALL.into_iter().enumerate() {
            assert_eq!(strategy.index(), index);
        }
        let names = PerStrategy::from_fn(|strategy| format!("{strategy:?}"));
        assert_eq!(names.get(Strategy::Local), "Local");
        assert!(names.iter().all(|(strategy, name)| format!("{strategy:?}") == *name));
    }
}
