//! Random damage to the lock file, its -wal and its -shm, by a program that knows nothing of them. Whatever
//! is hit, no call panics or takes longer than its limit, every outcome is one that the contract knows, and
//! new files work once the damaged ones are removed.
//!
//! What is *not* promised: that damage to a lease's own row is noticed. So who holds what is compared only
//! for leases that were granted after the damage.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::backend::contract::Attempt;
use crate::backend::sqlite::environment::Environment;
use crate::backend::sqlite::retry::Timeouts;
use crate::backend::sqlite::tests::roles::{self, ChildProcess};
use crate::backend::sqlite::tests::waiting::TestWaiter;
use crate::backend::sqlite::tests::{GrantedLease, Process, TestDir, granted, registry_with};
use crate::error::{Error, Result};
use crate::runtime::clock::Clock;

const NAMES: [&str; 6] = ["r0", "r1", "r2", "r3", "new a", "new b"];
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];
/// A call waits for another process for this long.
const LIMIT: Duration = Duration::from_millis(250);
/// What a call may take beyond that on a busy machine.
const SLACK: Duration = Duration::from_secs(5);

/// Splitmix64: <https://prng.di.unimi.it/splitmix64.c>
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn bytes(&mut self, count: u64) -> Vec<u8> {
        let fill = self.next().to_be_bytes()[0];
        let is_uniform = self.below(2) == 0;
        (0..count).map(|_| if is_uniform { fill } else { self.next().to_be_bytes()[0] }).collect()
    }

    /// Damages one of the files. `in_use`: without cutting the -shm, which kills the processes that have it
    /// mapped. Returns what it did.
    fn damage(&mut self, database: &Path, in_use: bool) -> String {
        let suffix = SUFFIXES[self.below(3) as usize];
        let path = crate::backend::sqlite::fs::paths::sibling(database, suffix);
        let Ok(file) = std::fs::File::options().read(true).write(true).open(&path) else {
            return format!("{suffix}: missing");
        };
        let length = file.metadata().unwrap().len();
        let may_resize = !(in_use && suffix == "-shm");
        let how = self.below(10);
        match how {
            0 if may_resize => file.set_len(self.below(length)).unwrap(),
            1 if may_resize => file.write_all_at(&self.bytes(3000), length).unwrap(),
            2 => {
                let from = self.below(length);
                file.write_all_at(&self.bytes(length - from), from).unwrap();
            }
            // Mostly where the headers are.
            3..=6 => (0..=self.below(8)).for_each(|_| {
                let at = self.below(length.min(200));
                file.write_all_at(&self.bytes(1), at).unwrap();
            }),
            _ => (0..=self.below(8)).for_each(|_| {
                let (at, count) = (self.below(length), 1 + self.below(4));
                file.write_all_at(&self.bytes(count.min(length - at)), at).unwrap();
            }),
        }
        format!("{suffix:?} of {length} bytes, way {how}")
    }
}

/// A process whose calls wait for a short time only.
fn impatient(dir: &Path) -> Process {
    let timeouts = Timeouts { task: LIMIT, sync: LIMIT, close: LIMIT };
    let environment = Environment { timeouts, ..Environment::new(Clock::System) };
    let backend =
        crate::backend::sqlite::SqliteBackend::in_registry(roles::config(dir), registry_with(environment));
    Process::new(backend)
}

/// Fails if this is not how a call may end.
fn check<T>(what: &str, began: Instant, result: Result<T>) -> Option<T> {
    assert!(began.elapsed() < LIMIT + SLACK, "{what} took {:?}", began.elapsed());
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let is_known = matches!(
                error,
                Error::BackendUnavailable(_)
                    | Error::Unsupported(_)
                    | Error::OutcomeUnknown(_)
                    | Error::LockLost(_)
            );
            assert!(is_known && !error.to_string().contains("internal error"), "{what}: {error}");
            None
        }
    }
}

/// Tries everything. Adds what it was granted. Returns whether anything failed.
fn use_all(process: &Process, held: &mut BTreeMap<&'static str, GrantedLease>) -> bool {
    let mut has_failed = false;
    for name in NAMES {
        let began = Instant::now();
        match check(name, began, process.attempt(&[name], 60_000)) {
            Some((request, attempt @ Attempt::Granted(_))) => {
                let lease = granted(request, attempt);
                let before = held.insert(name, lease);
                assert!(
                    before.is_none_or(|before| process.was_notified_of_loss(&before)),
                    "{name} was granted twice to one process"
                );
            }
            Some(_) => has_failed |= check("inspect", Instant::now(), process.inspect(name)).is_none(),
            None => has_failed = true,
        }
    }
    has_failed
}

/// Extends and releases every other lease, and closes.
fn give_back(process: &Process, held: &BTreeMap<&'static str, GrantedLease>) {
    for lease in held.values().step_by(2) {
        check("extend", Instant::now(), process.extend(lease, 60_000));
        check("release", Instant::now(), process.release(lease));
    }
    let began = Instant::now();
    process.close();
    assert!(began.elapsed() < LIMIT + SLACK);
}

fn remove_all(database: &Path) {
    for suffix in SUFFIXES {
        let _ = std::fs::remove_file(crate::backend::sqlite::fs::paths::sibling(database, suffix));
    }
}

/// The files of a process that died: with rows, a queue, and a -wal that is not yet in the database.
fn image() -> TestDir {
    let (dir, copy) = (TestDir::new(), TestDir::new());
    let process = dir.process();
    let resources: Vec<String> = (0..60).map(|number| format!("left {number}")).collect();
    for resource in &resources {
        process.acquire(&[resource], 86_400_000);
    }
    process.acquire(&["r0"], 86_400_000);
    let lease = process.acquire(&["r1"], 86_400_000);
    process.release(&lease).unwrap();
    let _waiting = TestWaiter::behind(&process, &["r0"], true);
    // By another process, because closing a descriptor would drop SQLite's locks.
    for suffix in SUFFIXES {
        let name = format!("locks.sqlite{suffix}");
        let paths = [dir.path.with_file_name(&name), copy.path.with_file_name(&name)];
        assert!(Command::new("cp").args(paths).status().unwrap().success());
    }
    copy
}

#[test]
fn damage_before_use_makes_no_two_holders_and_goes_with_the_files() {
    let image = image();
    let mut failures = 0;
    for seed in 0..60 {
        let dir = TestDir::new();
        for name in image.names() {
            std::fs::copy(image.path.with_file_name(&name), dir.path.with_file_name(&name)).unwrap();
        }
        let mut random = Random(seed);
        let how = random.damage(&dir.path, false);
        let (one, two) = (impatient(&dir.path), impatient(&dir.path));
        let mut held = [BTreeMap::new(), BTreeMap::new()];
        // The first to come gets what it can.
        failures += u32::from(use_all(&one, &mut held[0]));
        use_all(&two, &mut held[1]);
        for (name, theirs) in &held[1] {
            let is_held = |process: &Process, lease| !process.was_notified_of_loss(lease);
            let ours = held[0].get(name).filter(|ours| is_held(&one, ours));
            assert!(ours.is_none() || !is_held(&two, theirs), "seed {seed} ({how}): {name} has two holders");
        }
        give_back(&one, &held[0]);
        give_back(&two, &held[1]);
        remove_all(&dir.path);
        let next = dir.process();
        for name in NAMES {
            let attempt = next.attempt(&[name], 60_000).map(|(_, attempt)| attempt);
            assert!(
                matches!(attempt, Ok(Attempt::Granted(_))),
                "seed {seed} ({how}): {name} after the files were removed: {attempt:?}"
            );
        }
    }
    assert!(failures >= 10, "the damage is hardly ever noticed: {failures}");
}

/// The role of a child: tries everything each time it is told to.
pub(in crate::backend::sqlite::tests) fn use_damaged(file: &Path) {
    let process = impatient(file);
    let mut held = BTreeMap::new();
    roles::report("ready");
    loop {
        roles::wait_for_parent();
        use_all(&process, &mut held);
        held.retain(|_, lease| !process.was_notified_of_loss(lease));
        roles::report(held.keys().copied().collect::<Vec<_>>().join(","));
        roles::wait_for_parent();
        for (_, lease) in std::mem::take(&mut held) {
            check("extend", Instant::now(), process.extend(&lease, 60_000));
            check("release", Instant::now(), process.release(&lease));
        }
        roles::report("released");
    }
}

#[test]
fn damage_during_use_ends_no_process_and_goes_with_the_files() {
    for seed in 0..12 {
        let dir = TestDir::new();
        let mut random = Random(seed);
        let mut users = [(); 2].map(|()| ChildProcess::start("user of a damaged file", &dir.path));
        for user in &mut users {
            assert_eq!(user.read_report(), "ready");
        }
        let mut round = |seed: u64, how: &str| {
            let mut held = Vec::new();
            for step in ["use", "give back"] {
                users.iter_mut().for_each(ChildProcess::resume);
                let reports = users.iter_mut().map(ChildProcess::read_report).collect::<Vec<_>>();
                if step == "use" {
                    held = reports;
                } else {
                    assert_eq!(reports, ["released", "released"], "seed {seed} ({how})");
                }
            }
            held
        };
        // A call may run into its limit on a busy machine.
        let works = |round: &mut dyn FnMut(u64, &str) -> Vec<String>, how: &str| {
            (0..20).any(|_| {
                let held = round(seed, how);
                let mut names: Vec<_> = held.iter().flat_map(|held| held.split(',')).collect();
                names.retain(|name| !name.is_empty());
                let count = names.len();
                names.sort_unstable();
                names.dedup();
                assert_eq!(names.len(), count, "seed {seed} ({how}): two holders: {held:?}");
                count == NAMES.len()
            })
        };
        assert!(works(&mut round, "undamaged"), "each has one holder");
        for _ in 0..4 {
            let how = random.damage(&dir.path, true);
            round(seed, &how);
        }
        remove_all(&dir.path);
        // Both must have noticed before the names are dealt out anew.
        round(seed, "removed");
        assert!(works(&mut round, "recovered"), "seed {seed}");
    }
}
