//! Do the scripts of a quorum's nodes do what the model's nodes do? Random sequences of operations are sent
//! to a real server; every reply, and what is stored then, is compared with what the models run.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod call;
mod check;
mod comparison;
mod expected;
mod operation;
mod scripts;
mod server;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use self::call::channels;
use self::comparison::{Counts, compare};
use self::operation::operations;
use self::scripts::{MUTANTS, Scripts};
use self::server::{RealNode, Server, available};

/// Always the same sequences, unless another number or seed is given. What they meet depends on the time they
/// take.
fn runner() -> TestRunner {
    let given = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    let seed = given("PROPTEST_RNG_SEED").unwrap_or(1).into();
    TestRunner::new(Config {
        cases: given("PROPTEST_CASES").unwrap_or(1_200),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_time: 20_000,
        ..Config::default()
    })
}

#[test]
fn nodes_do_what_the_model_says() {
    if !available() {
        return;
    }
    let server = Server::start();
    let real = std::cell::RefCell::new(RealNode::new(&server, Scripts::product(), &channels()));
    let counts = std::cell::RefCell::new(Counts::new());
    let result = runner().run(&operations(), |operations| {
        compare(&mut real.borrow_mut(), &operations, &mut counts.borrow_mut()).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, operations)) => {
            let lines: Vec<_> = operations.iter().map(|operation| format!("  {operation:?}")).collect();
            panic!("{why}\nafter\n{}", lines.join("\n"));
        }
        Err(aborted) => panic!("{aborted}"),
    }
    let counts = counts.into_inner();
    println!("{counts:?}");
    for kind in [
        "granted",
        "held",
        "behind",
        "low",
        "high",
        "extended",
        "healed",
        "free",
        "taken",
        "released",
        "not released",
        "forced",
        "agreed",
        "disagreed",
    ] {
        assert!(counts.get(kind).is_some_and(|&count| count >= 20), "{kind} is too rare: {counts:?}");
    }
}

#[test]
fn a_script_without_one_of_its_rules_is_noticed() {
    if !available() {
        return;
    }
    let server = Server::start();
    let strategy = operations();
    for &(rule, script, before, after) in MUTANTS {
        let scripts = Scripts::with(script, before, after);
        let mut real = RealNode::new(&server, scripts, &channels());
        let mut runner = runner();
        let difference = (1..=10_000).find_map(|sequence| {
            let operations = strategy.new_tree(&mut runner).unwrap().current();
            let why = compare(&mut real, &operations, &mut Counts::new()).err()?;
            Some((sequence, why))
        });
        let (sequence, why) = difference.unwrap_or_else(|| panic!("{rule} ({script:?}): nothing differs"));
        println!("{rule} ({script:?}), sequence {sequence}: {why}");
    }
}
