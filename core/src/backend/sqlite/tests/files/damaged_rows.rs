//! One row that another program wrote, or a flipped bit: whom it stops, and whom not.

use crate::backend::contract::Attempt;
use crate::backend::sqlite::tests::waiting::TestWaiter;
use crate::backend::sqlite::tests::{Process, TestDir};

/// What a fault does to the calls for other resources.
fn others_work_beside(sql: &str) {
    let dir = TestDir::new();
    let process = dir.process();
    process.acquire(&["m"], 60_000);
    dir.raw().execute_batch(sql).unwrap();
    // New names, so that old ones are looked for, all around the damaged one.
    for number in 0..60 {
        for name in [format!("a{number}"), format!("n{number}"), format!("z{number}")] {
            let (_, attempt) =
                process.attempt(&[&name], 1000).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert!(matches!(attempt, Attempt::Granted(_)), "{sql}: {name}");
        }
    }
    is_handed_over(&process, sql);
    // Opening the file looks for what the dead left, in all rows.
    let another = dir.process();
    another.acquire(&["another"], 1000);
    is_handed_over(&another, sql);
}

fn is_handed_over(process: &Process, sql: &str) {
    let lease = process.acquire(&["fair"], 60_000);
    let waiting = TestWaiter::behind(process, &["fair"], true);
    assert!(process.release(&lease).unwrap(), "{sql}");
    let lease = waiting.take(process);
    assert!(process.release(&lease).unwrap(), "{sql}");
}

#[test]
fn a_name_that_is_no_utf_8_fails_no_other_call() {
    others_work_beside("INSERT INTO leases (resource, token) VALUES (CAST(x'6eff' AS TEXT), 1)");
    others_work_beside(
        "INSERT INTO queue VALUES (CAST(x'6eff' AS TEXT), 1, 77, 1); INSERT INTO processes VALUES (77, 1, 1, NULL)",
    );
}

#[test]
fn values_that_no_version_writes_fail_no_other_call() {
    for sql in [
        "INSERT INTO leases (resource, token, owner, boot_us, wall_us) VALUES ('na', 1, x'000000', 1, 1)",
        "INSERT INTO leases (resource, token) VALUES ('na', -5)",
        "INSERT INTO leases (resource, token, owner) VALUES ('na', 1, zeroblob(16))",
    ] {
        others_work_beside(sql);
    }
}

#[test]
fn a_process_with_impossible_times_counts_as_dead() {
    for times in ["-1, -1", "-1, 9223372036854775807", "9223372036854775807, -9223372036854775808"] {
        others_work_beside(&format!(
            "INSERT INTO processes VALUES (77, {times}, NULL); INSERT INTO queue VALUES ('fair', 1, 77, 1);
             INSERT INTO leases (resource, token, queued) VALUES ('fair', 1, 1)"
        ));
    }
}

#[test]
fn a_waiter_for_a_damaged_row_keeps_no_other_from_being_woken() {
    let dir = TestDir::new();
    let process = dir.process();
    let bad = process.acquire(&["bad"], 60_000);
    let good = process.acquire(&["good"], 60_000);
    // It came first, so its line is looked at first.
    let behind_bad = TestWaiter::behind(&process, &["bad"], false);
    let behind_good = TestWaiter::behind(&process, &["good"], false);
    dir.raw().execute("UPDATE leases SET owner = x'00' WHERE resource = 'bad'", []).unwrap();
    assert!(process.release(&good).unwrap());
    behind_good.take(&process);
    assert!(process.release(&bad).is_err(), "the row cannot be read");
    behind_bad.leave(&process);
}
