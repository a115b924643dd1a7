//! A configuration of a model, with what is expected of it.

use crate::check::Report;
use crate::invariant::Invariant;

/// What a search must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Every invariant holds in all states, of which there are so many. If there are others, the model is not
    /// the one that the documentation tells of.
    Holds(u64),
    /// This invariant does not hold.
    Breaks(Invariant),
}

/// A configuration of a model, with what is expected of it.
pub struct Row {
    /// Unique within its table.
    pub id: &'static str,
    /// What is modelled.
    pub configuration: &'static str,
    /// What the search must find.
    pub expected: Expected,
    /// Whether it takes too long for every run of the tests.
    pub long: bool,
    pub(crate) run: fn() -> Report,
}

impl Row {
    /// Explores the model.
    pub fn run(&self) -> Report {
        (self.run)()
    }

    /// What is wrong with a result, with the counterexample. `None`: it is the expected one.
    pub fn problem(&self, report: &Report) -> Option<String> {
        let found = report.counterexample.as_ref();
        let problem = match (self.expected, found.map(|found| found.broken)) {
            (Expected::Breaks(expected), Some(broken)) if broken == expected => return None,
            (Expected::Breaks(expected), Some(broken)) => {
                format!("breaks {broken}, and was expected to break {expected}")
            }
            (Expected::Breaks(expected), None) => {
                format!("holds in {} states, and was expected to break {expected}", report.states)
            }
            (Expected::Holds(_), Some(broken)) => format!("breaks {broken}"),
            (Expected::Holds(states), None) if report.states == states => return None,
            (Expected::Holds(states), None) => {
                format!("has {} states, and was expected to have {states}", report.states)
            }
        };
        let steps = found.map_or(String::new(), |found| format!("\n  {}", found.steps.join("\n  ")));
        Some(format!("{} ({}): {problem}{steps}", self.id, self.configuration))
    }
}

/// Fails if the row with this id does not find what it must.
#[cfg(test)]
pub(crate) fn assert_expected(rows: &[Row], id: &str) {
    let row = rows.iter().find(|row| row.id == id).expect("a row of this table");
    if let Some(problem) = row.problem(&row.run()) {
        panic!("{problem}");
    }
}

/// The table of a model: `short` or `long`, the id (which is also the name of its test), what is modelled,
/// what is expected, and the model. Long rows are tests that only `--ignored` runs.
macro_rules! table {
    ($($length:ident $id:ident $configuration:literal $expected:expr => $model:expr;)+) => {
        /// The configurations of this model.
        pub const ROWS: &[$crate::row::Row] = &[$($crate::row::Row {
            id: stringify!($id),
            configuration: $configuration,
            expected: $expected,
            long: $crate::row::table!(@long $length),
            run: || $crate::check::explore(&$model),
        }),+];

        $($crate::row::table!(@test $length $id);)+
    };
    (@long short) => { false };
    (@long long) => { true };
    (@test short $id:ident) => {
        #[cfg(test)]
        #[test]
        fn $id() {
            $crate::row::assert_expected(ROWS, stringify!($id));
        }
    };
    (@test long $id:ident) => {
        #[cfg(test)]
        #[test]
        #[ignore = "takes long: npm run models -- --long"]
        fn $id() {
            $crate::row::assert_expected(ROWS, stringify!($id));
        }
    };
}
pub(crate) use table;
