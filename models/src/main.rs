//! `npm run models`: explores the models, and prints a table of what was found.

use std::process::ExitCode;

use fencelock_models::rows::{HEAD, TABLES, line, remarks};

const USAGE: &str = "npm run models -- [--long] [--traces] [<start of a name>]…

  quorum, strong/s0…   only the rows whose names, <model>/<id>, or whose ids begin with one of these, long ones
                       included
  --long               all rows; some minutes, and gigabytes of memory
  --traces             the counterexample of each row that fails as expected, too

Fails if a row has another result than expected.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, starts): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|argument| argument.starts_with('-'));
    if let Some(unknown) = options.iter().find(|option| !["--long", "--traces"].contains(option)) {
        let help = ["-h", "--help"].contains(unknown);
        println!("{USAGE}");
        return if help { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let (long, traces) = (options.contains(&"--long"), options.contains(&"--traces"));
    let (mut ran, mut unexpected) = (0, 0);
    for (table, rows) in TABLES {
        let chosen: Vec<_> = rows
            .iter()
            .filter(|row| {
                let name = format!("{table}/{}", row.id);
                let named = |start: &&str| name.starts_with(*start) || row.id.starts_with(*start);
                if starts.is_empty() { long || !row.long } else { starts.iter().any(named) }
            })
            .collect();
        if chosen.is_empty() {
            continue;
        }
        println!("\n{table}\n\n{HEAD}");
        for row in chosen {
            let report = row.run();
            println!("{}", line(row, &report));
            if let Some(remarks) = remarks(row, &report, traces) {
                println!("{remarks}");
            }
            ran += 1;
            unexpected += u32::from(row.problem(&report).is_some());
        }
    }
    println!("\n{ran} rows, {unexpected} not as expected");
    if ran > 0 && unexpected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
