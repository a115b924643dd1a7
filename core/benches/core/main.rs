//! The hot paths of the core, without Node: each can be run by itself and a given number of times, so that
//! `npm run bench:core` can count the instructions of one operation.
//!
//! `cargo bench -p fencelock-core --features bench` times them; `-- pack` those with "pack" in their names.

mod local;
mod managed;
mod parts;
mod server;
mod strong;

use std::hint::black_box;
use std::time::{Duration, Instant};

use fencelock_core::lease::{AckPolicy, Mode, Owner, Resources, Ttl};
use fencelock_core::manager::{Heartbeat, Wanted};
use fencelock_core::runtime::clock::{BootInstant, Clock};

/// One hot path.
struct HotPath {
    name: &'static str,
    /// Operations of one round: enough that one-time work of a run is negligible.
    operations: u32,
    /// Prepares, performs this many operations, and returns how long they took.
    run: fn(u32) -> Duration,
}

#[rustfmt::skip]
const HOT_PATHS: [HotPath; 10] = [
    HotPath { name: "token rule", operations: 1_000_000, run: parts::token_rule },
    HotPath { name: "new request", operations: 20_000, run: parts::new_request },
    HotPath { name: "queue 64 requests", operations: 2_000, run: parts::queue },
    HotPath { name: "pack 64 acquires", operations: 2_000, run: parts::pack_acquires },
    HotPath { name: "pack 64 releases", operations: 2_000, run: parts::pack_releases },
    HotPath { name: "read and settle 64 replies", operations: 1_000, run: parts::replies },
    HotPath { name: "strong, one acquire and release", operations: 1_000, run: strong::one },
    HotPath { name: "strong, 64 acquires and releases", operations: 100, run: strong::together },
    HotPath { name: "local, one acquire and release", operations: 2_000, run: local::one },
    HotPath { name: "local, 64 acquires and releases", operations: 100, run: local::together },
];

/// Counting is exact after one round, and slow. Timing is neither.
const TIMED_ROUNDS: u32 = 10;

/// How many requests travel together.
const TOGETHER: usize = 64;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => HOT_PATHS.iter().for_each(|path| println!("{}", path.name)),
        [server::ROLE] => server::serve(),
        ["--run", name, rounds] => {
            let path = HOT_PATHS.iter().find(|path| path.name == name).expect("the name of a hot path");
            let operations = path.operations * rounds.parse::<u32>().expect("a number of rounds");
            (path.run)(operations);
            println!("{operations}");
        }
        // `cargo bench` adds a flag of its own.
        ref words => {
            let parts: Vec<_> = words.iter().filter(|word| !word.starts_with("--")).collect();
            let chosen = |name: &str| parts.is_empty() || parts.iter().any(|part| name.contains(**part));
            HOT_PATHS.iter().filter(|path| chosen(path.name)).for_each(print_time);
        }
    }
}

fn print_time(path: &HotPath) {
    let operations = path.operations * TIMED_ROUNDS;
    let each = (path.run)(operations).as_nanos() as f64 / f64::from(operations);
    println!("  {:32}{each:>14.1} ns", path.name);
}

/// Repeats an operation this many times.
fn repeat<T>(operations: u32, mut operation: impl FnMut() -> T) -> Duration {
    let begin = Instant::now();
    for _ in 0..operations {
        black_box(operation());
    }
    begin.elapsed()
}

/// The names that the requests of one batch lock.
fn names() -> Vec<String> {
    (0..TOGETHER).map(|index| format!("order:{}", 10_000 + index)).collect()
}

/// A holder that is always alive; none of these leases is renewed.
struct Alive;

impl Heartbeat for Alive {
    fn last(&self) -> BootInstant {
        Clock::System.boot()
    }

    fn request(&self) {}
}

/// A typical request.
fn wanted(name: &str) -> Wanted {
    Wanted {
        resources: Resources::one(name).expect("a short name"),
        mode: Mode::Exclusive,
        owner: Owner::random(),
        ttl: Ttl::from_millis(10_000).expect("in range"),
        min_hold: Duration::ZERO,
        min_token: 0,
        // Long enough for a run that is slowed down by being counted.
        acks: AckPolicy { required: 2, timeout_ms: 5_000, fsync: false },
        wait: Duration::ZERO,
        fair: false,
        renew: None,
    }
}
