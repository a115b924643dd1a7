//! All configurations of all models, and how results are shown.

use crate::check::Report;
use crate::row::Row;
use crate::{guard, quorum, shared, strong};

/// The models and their configurations.
pub const TABLES: &[(&str, &[Row])] =
    &[("quorum", quorum::ROWS), ("strong", strong::ROWS), ("guard", guard::ROWS), ("shared", shared::ROWS)];

/// The head of a table of results, in Markdown.
pub const HEAD: &str =
    "| id | configuration | result | states | transitions | s |\n|---|---|---|---|---|---|";

/// A result as a line of that table.
pub fn line(row: &Row, report: &Report) -> String {
    let result = report
        .counterexample
        .as_ref()
        .map_or_else(|| "holds".to_owned(), |found| format!("**fails** {}", found.broken));
    format!(
        "| {} | {} | {result} | {} | {} | {:.1} |",
        row.id,
        row.configuration,
        grouped(report.states),
        grouped(report.transitions),
        report.time.as_secs_f64(),
    )
}

/// What is not as expected, with the counterexample; or, with `traces`, the counterexample of what is.
pub fn remarks(row: &Row, report: &Report, traces: bool) -> Option<String> {
    let expected = report.counterexample.as_ref().filter(|_| traces);
    row.problem(report).map(|problem| format!("NOT AS EXPECTED: {problem}")).or_else(|| {
        expected.map(|found| format!("{}: {}\n  {}", row.id, found.broken, found.steps.join("\n  ")))
    })
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Expected;

    #[test]
    fn ids_are_unique_in_their_tables() {
        for (table, rows) in TABLES {
            let ids: std::collections::HashSet<_> = rows.iter().map(|row| row.id).collect();
            assert_eq!(ids.len(), rows.len(), "{table}");
        }
    }

    #[test]
    fn a_result_that_was_not_expected_is_told_with_its_steps() {
        let unguarded = guard::ROWS.iter().find(|row| row.id == "g07").unwrap();
        let report = unguarded.run();
        assert_eq!(unguarded.problem(&report), None);
        let expected = Row { expected: Expected::Holds(756), ..*unguarded };
        let problem = expected.problem(&report).unwrap();
        assert!(problem.contains("breaks G: an update is lost\n  State"), "{problem}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([999, 1_000, 54_554_000].map(grouped), ["999", "1,000", "54,554,000"]);
    }
}
