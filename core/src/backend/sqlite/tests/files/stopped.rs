//! A process is stopped inside a transaction while its -wal is deleted, and others go on with a new one.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::backend::contract::{Attempt, Busy};
use crate::backend::sqlite::SqliteBackend;
use crate::backend::sqlite::commit::operations;
use crate::backend::sqlite::store::access::Needs;
use crate::backend::sqlite::store::transaction::Tx;
use crate::backend::sqlite::tests::roles::{self, ChildProcess};
use crate::backend::sqlite::tests::{Process, TestDir, request};
use crate::runtime::clock::Clock;

/// What ends the pause of the child.
const GO_ON: &str = "go-on";

/// The role of a child: pauses after it has written its lease, and before it commits.
pub(in crate::backend::sqlite::tests) fn acquire_and_pause(file: &Path) {
    let process = Process::new(SqliteBackend::new(roles::config(file), Clock::System));
    process.connect().unwrap();
    let go_on = file.with_file_name(GO_ON);
    let mut pauses = true;
    let attempt = process.call(move |backend| async move {
        let requested = request(&["r"], 60_000);
        let work = move |tx: &mut Tx<'_>| {
            let attempt = operations::acquire(tx, &requested);
            if std::mem::take(&mut pauses) {
                roles::report("in a transaction");
                // A signal that it sent itself could stop this thread after it has committed.
                while !go_on.exists() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            attempt
        };
        let absent = Ok(Attempt::Busy(Busy::default()));
        backend.file()?.commits().submit(Needs::CREATE, absent, work).await.flatten()
    });
    roles::report(match attempt {
        Ok(Attempt::Granted(_)) => "granted",
        Ok(Attempt::Busy(_)) => "busy",
        Err(error) => error.code(),
    });
    roles::wait_for_parent();
}

fn is_stopped(child: &ChildProcess) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid().as_raw_nonzero())).unwrap();
    stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
}

#[test]
fn a_transaction_that_ends_after_its_wal_is_gone_grants_nothing() {
    let dir = TestDir::new();
    let mut stopped = ChildProcess::start("stopped in a transaction", &dir.path);
    assert_eq!(stopped.read_report(), "in a transaction");
    kill_process(stopped.pid(), Signal::STOP).unwrap();
    let began = Instant::now();
    while !is_stopped(&stopped) {
        assert!(began.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1));
    }
    std::fs::remove_file(dir.path.with_file_name("locks.sqlite-wal")).unwrap();
    let process = dir.process();
    let lease = process.acquire(&["r"], 60_000);
    std::fs::write(dir.path.with_file_name(GO_ON), "").unwrap();
    kill_process(stopped.pid(), Signal::CONT).unwrap();
    assert_eq!(stopped.read_report(), "busy", "it sees the lease of the other process");
    assert!(!process.was_notified_of_loss(&lease));
    assert!(process.release(&lease).unwrap());
}
