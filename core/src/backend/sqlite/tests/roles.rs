//! Child processes: this test binary, started to play a role until its standard input ends or it is killed.

use crate::backend::contract::{Attempt, SyncBackend};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::waiting::Waiting;
use super::{Place, Process, SqliteBackend, held, raw, request};
use crate::backend::sqlite::{Config, Durability};
use crate::runtime::clock::Clock;

const ROLE: &str = "FENCELOCK_TEST_ROLE";
const FILE: &str = "FENCELOCK_TEST_FILE";

/// A child; killed when dropped.
pub(crate) struct Actor {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Actor {
    pub(crate) fn start(role: &str, file: &Path) -> Self {
        Self::spawn(Command::new(std::env::current_exe().unwrap()), role, file)
    }

    /// In a mount namespace in which `file` is `original`, as in a container that is given a single file. `None`: this
    /// user may not do that.
    #[cfg(target_os = "linux")]
    pub(crate) fn start_with_mount(role: &str, original: &Path, file: &Path) -> Option<Self> {
        if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
            return None;
        }
        let mut command = Command::new("unshare");
        let script = r#"mount --bind "$1" "$2" && shift 2 && exec "$@""#;
        command.args(["--mount", "sh", "-c", script, "sh"]).args([original, file]);
        command.arg(std::env::current_exe().unwrap());
        Some(Self::spawn(command, role, file))
    }

    fn spawn(mut command: Command, role: &str, file: &Path) -> Self {
        let mut child = command
            .args(["--exact", "backend::sqlite::tests::roles::play", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(FILE, file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// What the child says next.
    pub(crate) fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.said.read_line(&mut line).unwrap(), 0, "the child ended without a word");
            // The test harness talks too, without ending its lines.
            if let Some((_, words)) = line.split_once('@') {
                return words.trim().to_owned();
            }
        }
    }

    /// Has the child do what comes next in its role.
    pub(crate) fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(words: &str) {
    println!("@{words}");
}

/// Until the parent writes a line; ends the child if it closes the pipe.
fn wait() {
    if std::io::stdin().read(&mut [0]).unwrap_or(0) == 0 {
        std::process::exit(0);
    }
}

fn backend(file: &Path) -> SqliteBackend {
    let durability = Durability::Normal;
    SqliteBackend::new(
        Config { path: file.to_owned(), durability, allow_network_filesystem: false },
        Clock::System,
    )
}

/// Nothing, unless this process was started in a role.
#[test]
fn play() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let file = std::env::var_os(FILE).unwrap();
    let file = Path::new(&file);
    match role.as_str() {
        // Holds "r" and dies with it, or is asked to extend it and to try again.
        "holder" => {
            let backend = backend(file);
            let request = request(&["r", "another"], 60_000);
            let attempt = backend.acquire_sync(&request).unwrap();
            let lease = held(request.clone(), attempt);
            say(&lease.token.to_string());
            wait();
            let process = Process::of(backend);
            say(process.extend(&lease, 1000).map_or_else(|error| error.code(), |_| "extended"));
            wait();
            say(match process.attempt(&["r"], 1000).unwrap().1 {
                Attempt::Granted(_) => "granted",
                Attempt::Busy(_) => "busy",
            });
            wait();
        }
        // Stands in line for "r", which is held.
        "fair waiter" => {
            let process = Process::of(backend(file));
            let _waiting = Waiting::behind(&process, &["r"], true);
            say("in line");
            wait();
        }
        // Leaves a lease behind, and lives on.
        "holder that drops" | "holder that closes" => {
            let process = Process::of(backend(file));
            process.acquire(&["r"], 60_000);
            if role == "holder that closes" {
                process.close();
            }
            drop(process);
            say("gone");
            wait();
        }
        // Finds out whether this file may be used.
        "opener" => {
            say(backend(file)
                .acquire_sync(&request(&["r"], 1000))
                .map_or_else(|error| error.code(), |_| "granted"));
            wait();
        }
        // Another program that keeps the write lock.
        "stuck" => {
            let connection = raw(file);
            connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            say("locked");
            wait();
            connection.execute_batch("ROLLBACK").unwrap();
            say("unlocked");
            wait();
        }
        // One of many that meet at a file that is not there.
        "creator" => {
            say("ready");
            wait();
            let backend = backend(file);
            let mut won = 0;
            for round in 0..20 {
                let request = request(&[&format!("round {round}")], 60_000);
                won += u32::from(matches!(backend.acquire_sync(&request).unwrap(), Attempt::Granted(_)));
            }
            say(&won.to_string());
            wait();
        }
        // An application's own copy of SQLite: POSIX locks that SQLite's bookkeeping in this process knows nothing of.
        #[cfg(target_os = "linux")]
        "application" | "second copy" => {
            use rustix::fs::{FlockOperation, fcntl_lock};
            let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap();
            let namespace = namespace.to_str().unwrap().trim_start_matches("pid:[").trim_end_matches(']');
            let marker = crate::backend::sqlite::fs::paths::beside(
                file,
                &format!("-live-{namespace}-{}-00000000000000aa", std::process::id()),
            );
            let marker = (role == "second copy").then(|| std::fs::File::create(marker).unwrap());
            if let Some(marker) = &marker {
                marker.try_lock().unwrap();
            }
            let application = std::fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
            fcntl_lock(&application, FlockOperation::NonBlockingLockExclusive).unwrap();
            let backend = backend(file);
            let refused = backend.acquire_sync(&request(&["r"], 1000)).unwrap_err();
            drop(backend);
            say(refused.code());
            wait();
            // What the refusal must not do.
            drop(std::fs::File::open(file).unwrap());
            say("dropped");
            wait();
        }
        other => panic!("no such role: {other}"),
    }
}

#[test]
fn children_are_heard_and_killed() {
    let place = Place::new();
    let mut actor = Actor::start("creator", &place.path);
    assert_eq!(actor.hear(), "ready");
    actor.go_on();
    assert_eq!(actor.hear(), "20");
}
