//! Sentinels for tests, and the servers that they watch.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::server::{Server, binary};
use crate::backend::redis::tests::eventually;

pub const NAME: &str = "locks";

/// A Sentinel on a free port, killed when dropped.
pub struct Sentinel {
    child: Child,
    pub port: u16,
    _dir: TempDir,
    password: Option<&'static str>,
}

/// A primary, its replicas, and the Sentinels that watch them.
pub struct Group {
    /// The first is the primary at first.
    pub servers: Vec<Server>,
    pub sentinels: Vec<Sentinel>,
}

impl Sentinel {
    /// With these further lines in its configuration. `password`: what they set for the default user.
    pub fn start(lines: &str, password: Option<&'static str>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("sentinel.conf");
        let mut text = format!("bind 127.0.0.1\n{lines}\n");
        if !lines.contains("tls-port") {
            writeln!(text, "port {port}").unwrap();
        }
        std::fs::write(&file, text.replace("tls-port", &format!("port 0\ntls-port {port}"))).unwrap();
        let child = Command::new(binary())
            .arg(&file)
            .arg("--sentinel")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let sentinel = Self { child, port, _dir: dir, password };
        eventually("the Sentinel listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        sentinel
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Watches this primary.
    pub fn watch(&self, port: u16, quorum: usize) {
        let (port, quorum) = (port.to_string(), quorum.to_string());
        self.run::<()>(&["SENTINEL", "MONITOR", NAME, "127.0.0.1", &port, &quorum]);
        self.run::<()>(&["SENTINEL", "SET", NAME, "down-after-milliseconds", "500"]);
        self.run::<()>(&["SENTINEL", "SET", NAME, "failover-timeout", "5000"]);
    }

    pub fn client(&self) -> redis::Connection {
        let login = self.password.map_or_else(String::new, |password| format!(":{password}@"));
        let url = format!("redis://{login}127.0.0.1:{}", self.port);
        redis::Client::open(url).unwrap().get_connection().unwrap()
    }

    pub fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        ask(&mut self.client(), words)
    }

    /// The port of the primary, as it says.
    pub fn names(&self) -> u16 {
        named(&mut self.client())
    }

    pub fn pause(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    pub fn resume(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Group {
    /// So many replicas, and three Sentinels that know each other and them.
    pub fn start(replicas: usize) -> Self {
        Self::with(replicas, 3, "", None)
    }

    pub fn with(replicas: usize, sentinels: usize, lines: &str, password: Option<&'static str>) -> Self {
        let (primary, mut others) = Server::with_replicas(replicas);
        let port = primary.port;
        let mut servers = vec![primary];
        servers.append(&mut others);
        let sentinels: Vec<_> = (0..sentinels).map(|_| Sentinel::start(lines, password)).collect();
        for sentinel in &sentinels {
            sentinel.watch(port, sentinels.len() / 2 + 1);
        }
        introduce(&sentinels, port);
        let group = Self { servers, sentinels };
        eventually("the Sentinels know the replicas and each other", || {
            group.sentinels.iter().all(|sentinel| {
                let master: Vec<String> = sentinel.run(&["SENTINEL", "MASTER", NAME]);
                let has = |name: &str, count: usize| {
                    master.chunks(2).any(|pair| pair[0] == name && pair[1] == count.to_string())
                };
                let identified = master.chunks(2).any(|pair| pair[0] == "runid" && pair[1].len() == 40);
                identified
                    && has("num-slaves", replicas)
                    && has("num-other-sentinels", group.sentinels.len() - 1)
            })
        });
        group
    }

    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Sentinel::url).collect()
    }

    /// Has the Sentinels replace the primary, as soon as they find a replica good enough.
    pub fn fail_over(&self) {
        let mut client = self.sentinels[0].client();
        let mut failover = redis::cmd("SENTINEL");
        failover.arg("FAILOVER").arg(NAME);
        eventually("a planned failover begins", || failover.query::<()>(&mut client).is_ok());
    }

    pub fn server(&self, port: u16) -> &Server {
        self.servers.iter().find(|server| server.port == port).unwrap()
    }
}

/// Has the Sentinels know each other at once, instead of within two seconds.
fn introduce(sentinels: &[Sentinel], primary: u16) {
    for one in sentinels {
        let id: String = one.run(&["SENTINEL", "MYID"]);
        let hello = format!("127.0.0.1,{},{id},0,{NAME},127.0.0.1,{primary},0", one.port);
        for other in sentinels.iter().filter(|other| other.port != one.port) {
            other.run::<()>(&["PUBLISH", "__sentinel__:hello", &hello]);
        }
    }
}

pub fn ask<T: redis::FromRedisValue>(client: &mut redis::Connection, words: &[&str]) -> T {
    let mut cmd = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| {
        cmd.arg(word);
    });
    cmd.query(client).unwrap()
}

/// The port of the primary, as this Sentinel says.
pub fn named(client: &mut redis::Connection) -> u16 {
    let address: Vec<String> = ask(client, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
    address[1].parse().unwrap()
}
