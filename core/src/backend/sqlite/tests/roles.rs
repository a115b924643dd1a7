//! Child processes: this test binary in a role, until its standard input ends or it is killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::waiting::TestWaiter;
use super::{Process, SqliteBackend, TestDir, granted, raw, request};
use crate::backend::contract::{Attempt, SyncBackend};
use crate::backend::sqlite::{Config, Durability};
use crate::runtime::clock::Clock;

const ROLE: &str = "FENCELOCK_TEST_ROLE";
const FILE: &str = "FENCELOCK_TEST_FILE";
const MODE: &str = "FENCELOCK_TEST_MODE";

/// A child process in a role. Killed when dropped.
pub(crate) struct ChildProcess {
    child: Child,
    output: BufReader<ChildStdout>,
    /// A copy that is removed with it.
    binary: Option<tempfile::TempPath>,
}

impl ChildProcess {
    pub(crate) fn start(role: &str, file: &Path) -> Self {
        Self::spawn(Command::new(std::env::current_exe().unwrap()), role, file)
    }

    /// In a mount namespace in which `file` is `original`, as in a container that is given a single file.
    /// `None`: this user may not do that.
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

    /// As this user, of this group and with this umask; the lock file is to have this mode. `None`: this
    /// process may not become other users.
    #[cfg(unix)]
    pub(crate) fn start_as(
        [user, group]: [u32; 2],
        umask: &str,
        mode: Option<u32>,
        role: &str,
        file: &Path,
    ) -> Option<Self> {
        use std::os::unix::process::CommandExt;
        // The other user may have no way to where this binary is.
        let run = tempfile::Builder::new().prefix("role").tempfile_in("/tmp").unwrap().into_temp_path();
        // By another process: a child that this one starts meanwhile would have the copy open for writing.
        let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&run).status().unwrap();
        assert!(copied.success());
        std::fs::set_permissions(&run, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", r#"umask "$1" && shift && exec "$@""#, "sh", umask]).arg(&run).current_dir("/");
        if let Some(mode) = mode {
            command.env(MODE, mode.to_string());
        }
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        command.uid(user).gid(group);
        let mut child = Self::spawn(command, role, file);
        child.binary = Some(run);
        Some(child)
    }

    fn spawn(mut command: Command, role: &str, file: &Path) -> Self {
        let mut child = command
            .args(["--exact", "backend::sqlite::tests::roles::run_role", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(FILE, file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output, binary: None }
    }

    /// The child's next report.
    pub(crate) fn read_report(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the child exited without a report");
            // The test harness writes too, without ending its lines.
            if let Some((_, report)) = line.split_once('@') {
                return report.trim().to_owned();
            }
        }
    }

    /// Has the child continue with the next step of its role.
    pub(crate) fn resume(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    #[cfg(unix)]
    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.binary = None;
    }
}

pub(super) fn report(what: impl std::fmt::Display) {
    println!("@{what}");
}

/// Waits until the parent writes a line; exits if it closes the pipe.
pub(super) fn wait_for_parent() {
    if std::io::stdin().read(&mut [0]).unwrap_or(0) == 0 {
        std::process::exit(0);
    }
}

/// What a role uses.
pub(super) fn config(file: &Path) -> Config {
    Config {
        path: file.to_owned(),
        durability: Durability::Normal,
        allow_network_filesystem: false,
        mode: std::env::var(MODE).ok().map(|mode| mode.parse().unwrap()),
        is_relative: false,
    }
}

pub(crate) fn backend(file: &Path) -> SqliteBackend {
    SqliteBackend::new(config(file), Clock::System)
}

/// Does nothing, unless this process was started in a role.
#[test]
fn run_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let file = std::env::var_os(FILE).unwrap();
    let file = Path::new(&file);
    match role.as_str() {
        "holder" => hold(file),
        "holder with a minimum" => super::minimum::hold(file),
        "holder that drops" => leave_lease(file, false),
        "holder that closes" => leave_lease(file, true),
        "fair waiter" => {
            let process = Process::new(backend(file));
            let _waiting = TestWaiter::behind(&process, &["r"], true);
            report("queued");
            wait_for_parent();
        }
        "opener" => {
            let attempt = backend(file).acquire_sync(&request(&["r"], 1000));
            report(attempt.map_or_else(|error| error.code(), |_| "granted"));
            wait_for_parent();
        }
        "creator" => create(file),
        "stuck" => hold_write_lock(file),
        #[cfg(target_os = "linux")]
        "stopped in a transaction" => super::files::stopped::acquire_and_pause(file),
        "waiter for a death" => {
            let process = Process::new(backend(file));
            let attempt = || match process.attempt(&["r"], 1000).unwrap().1 {
                Attempt::Granted(_) => "granted",
                Attempt::Busy(_) => "busy",
            };
            report(attempt());
            wait_for_parent();
            report(attempt());
            wait_for_parent();
        }
        "describer" => {
            report(Process::new(backend(file)).describe().warnings.join(" "));
            wait_for_parent();
        }
        #[cfg(target_os = "linux")]
        "reaper" => count_descriptors(file),
        "creating application" => create_as_application(file),
        #[cfg(unix)]
        "user of a damaged file" => super::files::damage::use_damaged(file),
        #[cfg(target_os = "linux")]
        "application" => use_as_application(file, false),
        #[cfg(target_os = "linux")]
        "second copy" => use_as_application(file, true),
        other => panic!("no such role: {other}"),
    }
}

/// Holds "r" until it is killed, or extends it and tries again when told to.
fn hold(file: &Path) {
    let backend = backend(file);
    let request = request(&["r", "another"], 60_000);
    let attempt = backend.acquire_sync(&request).unwrap();
    let lease = granted(request.clone(), attempt);
    report(lease.token);
    wait_for_parent();
    let process = Process::new(backend);
    report(process.extend(&lease, 1000).map_or_else(|error| error.code(), |_| "extended"));
    wait_for_parent();
    report(match process.attempt(&["r"], 1000).unwrap().1 {
        Attempt::Granted(_) => "granted",
        Attempt::Busy(_) => "busy",
    });
    wait_for_parent();
}

/// Leaves a lease, and stays alive.
fn leave_lease(file: &Path, close: bool) {
    let process = Process::new(backend(file));
    process.acquire(&["r"], 60_000);
    if close {
        process.close();
    }
    drop(process);
    report("left");
    wait_for_parent();
}

/// Another program that holds the write lock.
fn hold_write_lock(file: &Path) {
    let connection = raw(file);
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    report("locked");
    wait_for_parent();
    connection.execute_batch("ROLLBACK").unwrap();
    report("unlocked");
    wait_for_parent();
}

/// Opens a file beside which dead processes left theirs. Reports the most descriptors that were open until
/// those are removed.
#[cfg(target_os = "linux")]
fn count_descriptors(file: &Path) {
    let backend = backend(file);
    let (mut most, mut left) = (0, usize::MAX);
    backend.acquire_sync(&request(&["r"], 60_000)).unwrap();
    while left > 3 + 1 {
        most = most.max(std::fs::read_dir("/proc/self/fd").unwrap().count());
        left = std::fs::read_dir(file.parent().unwrap()).unwrap().count();
    }
    report(most);
    wait_for_parent();
}

/// An application that is in the first transaction on its database.
fn create_as_application(file: &Path) {
    let connection = raw(file);
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE; CREATE TABLE orders (id INTEGER PRIMARY KEY)").unwrap();
    report("creating");
    wait_for_parent();
    report(match connection.execute_batch("COMMIT") {
        Ok(()) => "committed".to_owned(),
        Err(error) => error.to_string(),
    });
    wait_for_parent();
}

/// One of many processes that create the file at the same time.
fn create(file: &Path) {
    report("ready");
    wait_for_parent();
    let backend = backend(file);
    let mut won = 0;
    for round in 0..20 {
        let request = request(&[&format!("round {round}")], 60_000);
        won += u32::from(matches!(backend.acquire_sync(&request).unwrap(), Attempt::Granted(_)));
    }
    report(won);
    wait_for_parent();
}

/// An application with its own copy of SQLite: it has POSIX locks that our copy of SQLite does not know of.
#[cfg(target_os = "linux")]
fn use_as_application(file: &Path, is_second_copy: bool) {
    use rustix::fs::{FlockOperation, fcntl_lock};
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let namespace = namespace.to_str().unwrap().trim_start_matches("pid:[").trim_end_matches(']');
    let marker = crate::backend::sqlite::fs::paths::sibling(
        file,
        &format!("-live-{namespace}-{}-00000000000000aa", std::process::id()),
    );
    let marker = is_second_copy.then(|| std::fs::File::create(marker).unwrap());
    if let Some(marker) = &marker {
        marker.try_lock().unwrap();
    }
    let application = std::fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    fcntl_lock(&application, FlockOperation::NonBlockingLockExclusive).unwrap();
    let backend = backend(file);
    let refused = backend.acquire_sync(&request(&["r"], 1000)).unwrap_err();
    drop(backend);
    report(refused.code());
    wait_for_parent();
    // What refusing the file must not do.
    drop(std::fs::File::open(file).unwrap());
    report("dropped");
    wait_for_parent();
}

#[test]
fn children_report_and_are_killed() {
    let dir = TestDir::new();
    let mut child = ChildProcess::start("creator", &dir.path);
    assert_eq!(child.read_report(), "ready");
    child.resume();
    assert_eq!(child.read_report(), "20");
}
