//! A server that speaks the protocol, knows what it granted to whom, and damages its replies as it is told.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::backend::redis::protocol::scripts::{ACQUIRE, ADOPT, EXTEND, GIVE_BACK, PROBE, RELEASE, RIGHTS};

/// What happens to one reply.
#[derive(Debug, Clone)]
pub enum Damage {
    /// These bytes come first.
    Before(Vec<u8>),
    /// These bytes follow.
    After(Vec<u8>),
    /// These bytes come instead.
    Instead(Vec<u8>),
    /// The reply comes twice.
    Twice,
    /// The reply before it comes once more, first.
    PreviousAgain,
    /// So many of its bytes, and then the end of the connection.
    Cut(usize),
    /// So many of its bytes, and then nothing more on this connection.
    Stall(usize),
}

#[derive(Default)]
struct State {
    /// What happens to the next replies; those behind the last are in order.
    plan: Vec<Option<Damage>>,
    next: usize,
    /// Damages each reply to a command of this name likewise.
    always: Option<(String, Damage)>,
    tokens: i64,
    /// The token of each owner.
    granted: HashMap<String, i64>,
    /// The owners whose grant was not released.
    held: HashSet<String>,
    /// The owners whose grant a WAIT has proved.
    proved: HashSet<String>,
    waits: u32,
    probes: u32,
    connections: u32,
    /// On which connection each AUTH came.
    logins: Vec<u32>,
}

#[derive(Clone)]
pub struct FaultyServer {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl FaultyServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, state: Arc::default() };
        let accepting = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = accepting.clone();
                // Ends with the connection, in whatever way that ends.
                std::thread::spawn(move || server.serve(stream));
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Damages the next replies.
    pub fn damage(&self, plan: Vec<Option<Damage>>) {
        let mut state = self.state.lock().unwrap();
        (state.plan, state.next, state.always) = (plan, 0, None);
    }

    /// Damages all replies to a command.
    pub fn damage_always(&self, command: &str, damage: Damage) {
        self.state.lock().unwrap().always = Some((command.to_owned(), damage));
    }

    pub fn behave(&self) {
        self.damage(Vec::new());
    }

    /// Whether the server gave this owner this token, and proved it if `proved`.
    pub fn has_granted(&self, owner: &str, token: u64, proved: bool) -> bool {
        let state = self.state.lock().unwrap();
        state.granted.get(owner) == Some(&token.cast_signed()) && (!proved || state.proved.contains(owner))
    }

    /// How many WAITs it has received.
    pub fn waits(&self) -> u32 {
        self.state.lock().unwrap().waits
    }

    /// How often it was asked what scripts can do.
    pub fn probes(&self) -> u32 {
        self.state.lock().unwrap().probes
    }

    /// On which connection each login came.
    pub fn logins(&self) -> Vec<u32> {
        self.state.lock().unwrap().logins.clone()
    }

    /// Whether this owner has a grant that was not released.
    pub fn is_held_by(&self, owner: &str) -> bool {
        self.state.lock().unwrap().held.contains(owner)
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let (mut input, mut unproved, mut previous) = (Vec::new(), Vec::new(), Vec::new());
        let mut stalled = false;
        let connection = {
            let mut state = self.state.lock().unwrap();
            state.connections += 1;
            state.connections
        };
        loop {
            while let Some(words) = take_command(&mut input) {
                if stalled {
                    continue;
                }
                if words[0] == "AUTH" {
                    self.state.lock().unwrap().logins.push(connection);
                }
                let (reply, damage) = self.reply(&words, &mut unproved);
                let bytes = match damage {
                    None => reply.clone(),
                    Some(Damage::Before(bytes)) => [bytes, reply.clone()].concat(),
                    Some(Damage::After(bytes)) => [reply.clone(), bytes].concat(),
                    Some(Damage::Instead(bytes)) => bytes,
                    Some(Damage::Twice) => reply.repeat(2),
                    Some(Damage::PreviousAgain) => [previous, reply.clone()].concat(),
                    Some(Damage::Cut(length)) => {
                        stream.write_all(&reply[..length.min(reply.len())]).ok()?;
                        return None;
                    }
                    Some(Damage::Stall(length)) => {
                        stalled = true;
                        reply[..length.min(reply.len())].to_vec()
                    }
                };
                stream.write_all(&bytes).ok()?;
                previous = reply;
            }
            let mut bytes = [0; 16_384];
            let count = stream.read(&mut bytes).ok().filter(|&count| count > 0)?;
            input.extend(&bytes[..count]);
        }
    }

    fn reply(&self, words: &[String], unproved: &mut Vec<String>) -> (Vec<u8>, Option<Damage>) {
        let mut state = self.state.lock().unwrap();
        let index = state.next;
        state.next += 1;
        let planned = state.plan.get(index).cloned().flatten();
        let always = state.always.as_ref().filter(|(command, _)| *command == kind(words));
        let damage = planned.or_else(|| always.map(|(_, damage)| damage.clone()));
        if words[0] == "WAIT" && matches!(&damage, Some(Damage::Instead(bytes)) if bytes.starts_with(b":")) {
            // This is what the server says, so it is a proof.
            state.proved.extend(unproved.iter().cloned());
        }
        let reply = state.reply(words, unproved);
        (reply, damage)
    }
}

impl State {
    fn reply(&mut self, words: &[String], unproved: &mut Vec<String>) -> Vec<u8> {
        match &*kind(words) {
            "echo" => format!("${}\r\n{}\r\n", words[1].len(), words[1]).into_bytes(),
            "PING" => b"+PONG\r\n".to_vec(),
            "HELLO" => b"*4\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n".to_vec(),
            "SCRIPT" => {
                let sha = sha1_smol::Sha1::from(&words[2]).digest();
                format!("$40\r\n{sha}\r\n").into_bytes()
            }
            "rights" => format!("*2\r\n*0\r\n:{}\r\n", words[3]).into_bytes(),
            "probe" => {
                self.probes += u32::from(words[0] == "EVAL");
                format!("*2\r\n:1\r\n:{}\r\n", words.last().unwrap()).into_bytes()
            }
            // Every other proof fails.
            "WAIT" => {
                self.waits += 1;
                let proved = self.waits % 2;
                if proved > 0 {
                    self.proved.extend(unproved.drain(..));
                }
                unproved.clear();
                format!(":{proved}\r\n").into_bytes()
            }
            "acquire" | "extend" | "release" => self.script(words, unproved),
            "inspect" => {
                let echo = words.last().unwrap();
                format!("*2\r\n$-1\r\n:{echo}\r\n").into_bytes()
            }
            "TIME" => b"*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n".to_vec(),
            "INFO" => b"$13\r\nrole:master\r\n\r\n".to_vec(),
            _ => b"+OK\r\n".to_vec(),
        }
    }

    /// Every request is granted, also while another owner holds the lock.
    fn script(&mut self, words: &[String], unproved: &mut Vec<String>) -> Vec<u8> {
        let keys: usize = words[2].parse().unwrap();
        let (echo, mut rest) = words[3 + keys..].split_first().unwrap();
        let name = kind(words);
        let head = if name == "acquire" {
            6
        } else if name == "extend" {
            4
        } else {
            2
        };
        let mut numbers = String::new();
        let mut count = 1;
        while let Some(leases) = rest.first() {
            let leases: usize = leases.parse().unwrap();
            for owner in &rest[head..head + leases] {
                let number = if name == "acquire" {
                    self.tokens += 1;
                    self.granted.insert(owner.clone(), self.tokens);
                    self.held.insert(owner.clone());
                    unproved.push(owner.clone());
                    self.tokens
                } else if name == "release" {
                    i64::from(self.held.remove(owner))
                } else {
                    1
                };
                write!(numbers, ":{number}\r\n").unwrap();
                count += 1;
            }
            rest = &rest[head + leases..];
        }
        format!("*{count}\r\n{numbers}:{echo}\r\n").into_bytes()
    }
}

/// What a command is: its name, or that of its script.
pub fn kind(words: &[String]) -> String {
    if !matches!(&*words[0], "EVALSHA" | "EVAL") {
        return if words[0] == "PING" && words.len() > 1 { "echo".into() } else { words[0].clone() };
    }
    for (name, script) in [
        ("acquire", &ACQUIRE),
        ("extend", &EXTEND),
        ("adopt", &ADOPT),
        ("give back", &GIVE_BACK),
        ("release", &RELEASE),
        ("probe", &PROBE),
        ("rights", &RIGHTS),
    ] {
        if script.sha() == words[1] || script.body == words[1] {
            return name.into();
        }
    }
    "inspect".into()
}

/// The first whole command of these bytes.
fn take_command(input: &mut Vec<u8>) -> Option<Vec<String>> {
    fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let line = std::str::from_utf8(&rest[1..end]).unwrap();
        *rest = &rest[end + 2..];
        Some(line)
    }
    let mut rest = &input[..];
    let mut words = Vec::new();
    for _ in 0..line(&mut rest)?.parse::<usize>().unwrap() {
        let length: usize = line(&mut rest)?.parse().unwrap();
        words.push(String::from_utf8(rest.get(..length)?.to_vec()).unwrap());
        rest = rest.get(length + 2..)?;
    }
    let used = input.len() - rest.len();
    input.drain(..used);
    Some(words)
}
