//! A server that grants everything, as a process of its own, so that its work is not counted.

use std::io::{BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// The argument that makes this program the server.
pub const ROLE: &str = "--serve";

/// How many digits an owner has.
const OWNER: usize = 32;

/// The server's process. It ends with its standard input, and so with ours.
pub struct Server {
    process: Child,
    port: u16,
}

impl Server {
    pub fn start() -> Self {
        let program = std::env::current_exe().expect("this program's path");
        let mut process = Command::new(program)
            .arg(ROLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts once more");
        let mut port = String::new();
        let output = process.stdout.take().expect("its output is a pipe");
        std::io::BufReader::new(output).read_line(&mut port).expect("it tells its port");
        Self { process, port: port.trim().parse().expect("a port") }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The life of the server.
pub fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    println!("{}", listener.local_addr().expect("it is bound").port());
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(client));
        }
    });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Reads commands, and replies to those that arrived together with one write.
fn answer(mut client: TcpStream) {
    let _ = client.set_nodelay(true);
    let (mut bytes, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    while let Ok(count @ 1..) = client.read(&mut piece) {
        bytes.extend_from_slice(&piece[..count]);
        let (mut replies, mut from) = (String::new(), 0);
        while let Some((words, length)) = command(&bytes[from..]) {
            replies.push_str(&reply(&words));
            from += length;
        }
        bytes.drain(..from);
        if client.write_all(replies.as_bytes()).is_err() {
            return;
        }
    }
}

/// The words of the first command and its length in bytes, if all of it is there.
fn command(bytes: &[u8]) -> Option<(Vec<&str>, usize)> {
    let (count, mut at) = number(bytes, 0, b'*')?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, begin) = number(bytes, at, b'$')?;
        words.push(std::str::from_utf8(bytes.get(begin..begin + length)?).ok()?);
        at = begin + length + 2;
    }
    (at <= bytes.len()).then_some((words, at))
}

/// The number that stands behind this mark, and where its line ends.
fn number(bytes: &[u8], at: usize, mark: u8) -> Option<(usize, usize)> {
    let line = bytes.get(at..)?.strip_prefix(&[mark])?;
    let length = line.windows(2).position(|two| two == b"\r\n")?;
    let number = std::str::from_utf8(&line[..length]).ok()?.parse().ok()?;
    Some((number, at + 1 + length + 2))
}

fn reply(words: &[&str]) -> String {
    match words {
        // Whether scripts work.
        ["EVAL" | "EVALSHA", _, "0", echo] => format!("*2\r\n:1\r\n:{echo}\r\n"),
        // What it may not do there.
        ["EVAL", _, "0", echo, _] => format!("*2\r\n*0\r\n:{echo}\r\n"),
        ["TIME"] => "*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n".to_owned(),
        ["EVAL" | "EVALSHA", _, keys, rest @ ..] => {
            let keys: usize = keys.parse().unwrap_or(0);
            // The echo. Requests that are alike: how many; a release goes on with how many locks each has
            // and then their owners, an acquire with more numbers before these.
            let Some([echo, count, locks, next]) = rest.get(keys..keys + 4) else {
                return "-ERR arguments\r\n".to_owned();
            };
            let count: usize = count.parse().unwrap_or(0);
            let locks: usize = locks.parse().unwrap_or(0);
            // For each lock a line, and to acquire it also a fence.
            let (kinds, each) =
                if next.len() == OWNER { (2, ":1\r\n") } else { (3, ":1700000000000000\r\n") };
            // What comes after the first run would get no answer, and its caller would wait for ever.
            assert_eq!(keys, kinds * locks * count, "the requests of a call are not all alike");
            format!("*{}\r\n{}:{echo}\r\n", count + 1, each.repeat(count))
        }
        ["WAIT", replicas, ..] => format!(":{replicas}\r\n"),
        ["HELLO", ..] => "*4\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n".to_owned(),
        ["PING"] => "+PONG\r\n".to_owned(),
        ["PING", echo] => format!("${}\r\n{echo}\r\n", echo.len()),
        _ => "+OK\r\n".to_owned(),
    }
}
