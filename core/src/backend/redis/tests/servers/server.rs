//! Redis servers for tests: each on a free port, in its own directory, killed when dropped.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::backend::redis::tests::LONG;

/// Set it to run the tests against another server, e.g. `valkey-server`.
const BINARY: &str = "FENCELOCK_REDIS_SERVER";

pub struct Server {
    child: Child,
    pub port: u16,
    pub dir: TempDir,
    args: Vec<String>,
    tls: bool,
}

/// Whether tests with servers can run here; prints a message if not.
pub fn available() -> bool {
    let found = Command::new(binary()).arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: no {} here; install redis-server to test the Redis backend", binary());
    }
    found
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn binary() -> String {
    std::env::var(BINARY).unwrap_or_else(|_| "redis-server".into())
}

impl Server {
    /// A server with these further arguments.
    pub fn start(args: &[&str]) -> Self {
        // Another process may take the free port first.
        (0..3).find_map(|_| Self::try_start(args)).expect("the server accepts these arguments")
    }

    /// Likewise; `None` if the server refuses these arguments.
    pub fn try_start(args: &[&str]) -> Option<Self> {
        let port = free_port();
        let dir = TempDir::new().unwrap();
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let tls = args.iter().any(|arg| arg == "--tls-port");
        let mut server = Self { child: launch(port, &dir, &args, tls), port, dir, args, tls };
        server.wait().then_some(server)
    }

    /// A Sentinel that watches nothing, with this configuration file.
    pub fn try_start_sentinel(file: &std::path::Path) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(binary())
            .arg(file)
            .args(["--sentinel", "--port", &port.to_string(), "--bind", "127.0.0.1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, port, dir: TempDir::new().unwrap(), args: Vec::new(), tls: false };
        server.wait().then_some(server)
    }

    /// A primary and this number of replicas, in sync.
    pub fn with_replicas(count: usize) -> (Self, Vec<Self>) {
        let primary = Self::start(&["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]);
        let port = primary.port.to_string();
        let replicas: Vec<_> =
            (0..count).map(|_| Self::start(&["--replicaof", "127.0.0.1", &port])).collect();
        primary.await_replicas(&replicas);
        (primary, replicas)
    }

    /// Waits until these replicas are in sync, as both sides see it.
    pub fn await_replicas(&self, replicas: &[Self]) {
        crate::backend::redis::tests::eventually("the replicas are in sync", || {
            self.info("replication").matches("state=online").count() == replicas.len()
                && replicas.iter().all(|it| it.info("replication").contains("master_link_status:up"))
        });
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A plain connection, for checks that bypass the backend. A Sentinel that reconfigures a server closes
    /// its connections, also those that are just being made.
    pub fn client(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).unwrap();
        for _ in 0..20 {
            if let Ok(connection) = client.get_connection() {
                return connection;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        client.get_connection().unwrap()
    }

    pub fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut cmd = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            cmd.arg(word);
        });
        cmd.query(&mut self.client()).unwrap()
    }

    pub fn info(&self, section: &str) -> String {
        self.run(&["INFO", section])
    }

    pub fn exists(&self, key: &str) -> bool {
        self.run::<u32>(&["EXISTS", key]) == 1
    }

    /// Suspends its process.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    pub fn kill(&mut self) {
        // Works for a suspended process too.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, on the same port and with nothing in memory.
    pub fn restart(&mut self) {
        self.kill();
        self.child = launch(self.port, &self.dir, &self.args, self.tls);
        assert!(self.wait(), "it accepted these arguments before");
    }

    /// Starts it again on another port, with the files it has.
    pub fn restart_on(&mut self, port: u16) {
        self.port = port;
        self.restart();
    }

    /// Waits until it serves; `false` if it exits instead.
    fn wait(&mut self) -> bool {
        let end = Instant::now() + LONG;
        loop {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            let up = if self.tls {
                std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
            } else {
                redis::Client::open(self.url()).unwrap().get_connection().is_ok_and(|mut connection| {
                    // A server that asks for a password is up, too.
                    redis::cmd("PING")
                        .query::<String>(&mut connection)
                        .map_or_else(|error| error.code() == Some("NOAUTH"), |_| true)
                })
            };
            if up {
                return true;
            }
            assert!(Instant::now() < end, "the server did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn launch(port: u16, dir: &TempDir, args: &[String], tls: bool) -> Child {
    let plain = if tls { 0 } else { port };
    Command::new(binary())
        .args(["--port", &plain.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(args)
        .arg("--dir")
        .arg(dir.path())
        .args(if tls { vec!["--tls-port".to_owned(), port.to_string()] } else { vec![] })
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
