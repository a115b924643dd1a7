//! A real node: a redis-server of its own, with the product's scripts.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use redis::{Connection, Pipeline, Value, cmd};

use crate::scripts::{OF_A_RUN, Scripts};

/// Set it to run the tests against another server, e.g. `valkey-server`.
const BINARY: &str = "FENCELOCK_REDIS_SERVER";

/// A server, killed when dropped.
pub struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

fn binary() -> String {
    std::env::var(BINARY).unwrap_or_else(|_| "redis-server".into())
}

/// Whether there is a server to compare with; prints a message if not.
pub fn available() -> bool {
    let found = Command::new(binary()).arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: no {} here; install redis-server to compare the scripts", binary());
    }
    found
}

impl Server {
    pub fn start() -> Self {
        // Another process may take the free port first.
        (0..3).find_map(|_| Self::try_start()).expect("the server starts")
    }

    fn try_start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::TempDir::new().unwrap();
        let child = Command::new(binary())
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, port, _dir: dir };
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if server.child.try_wait().unwrap().is_some() {
                return None;
            }
            if server.connect().is_some_and(|mut it| cmd("PING").exec(&mut it).is_ok()) {
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    fn connect(&self) -> Option<Connection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).ok()?;
        client.get_connection().ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection to a server, and the scripts of the run that it pretends to be.
pub struct RealNode {
    connection: Connection,
    /// Listens to the wake-ups of all waiters: to one that does not listen, nothing is offered.
    _waiters: TcpStream,
    pub scripts: Scripts,
    /// How long the last exchange took (µs): so much may the clock of one reply differ from that of another.
    pub took_us: u64,
}

impl RealNode {
    pub fn new(server: &Server, scripts: Scripts, channels: &[String]) -> Self {
        let connection = server.connect().expect("it serves");
        let mut waiters = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        writeln!(waiters, "SUBSCRIBE {}\r", channels.join(" ")).unwrap();
        let mut node = Self { connection, _waiters: waiters, scripts, took_us: 0 };
        node.restart();
        let listens = || -> usize {
            let numbers: Vec<Value> =
                cmd("PUBSUB").arg("NUMSUB").arg(channels).query(&mut node.connection).unwrap();
            numbers.iter().filter(|value| **value == Value::Int(1)).count()
        };
        let mut listens = listens;
        while listens() < channels.len() {
            std::thread::sleep(Duration::from_millis(1));
        }
        node
    }

    /// Sends commands at once, and returns their replies.
    pub fn exchange(&mut self, commands: &Pipeline) -> Vec<Value> {
        let sent = Instant::now();
        let replies = commands.query(&mut self.connection).unwrap();
        self.took_us = sent.elapsed().as_micros().try_into().unwrap();
        replies
    }

    /// Forgets everything, and is another run from now on. The scripts of the run before are unknown.
    pub fn restart(&mut self) {
        let before = self.scripts.clone();
        self.scripts = self.scripts.of_next_run();
        let mut pipeline = redis::pipe();
        pipeline.cmd("FLUSHALL").cmd("SCRIPT").arg("FLUSH");
        for script in self.scripts.all() {
            pipeline.cmd("SCRIPT").arg("LOAD").arg(&script.body);
        }
        self.exchange(&pipeline);
        for script in OF_A_RUN {
            let reply = cmd("EVALSHA").arg(before.sha(script)).arg(0).query::<Value>(&mut self.connection);
            let error = reply.expect_err("a request of before the restart is not carried out");
            assert_eq!(error.code(), Some("NOSCRIPT"), "{error}");
        }
    }
}

/// Microseconds since 1970. The server is on this machine.
pub fn clock_us() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros().try_into().unwrap()
}
