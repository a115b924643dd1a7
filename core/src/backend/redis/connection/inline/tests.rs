//! What an inline connection writes and reads, on a real pair of sockets.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::Value;

use super::super::{Connection, Exchange, Response};
use super::socket::Socket;
use crate::backend::redis::protocol::decoder::Decoder;
use crate::backend::redis::protocol::packer::Packer;
use crate::backend::redis::protocol::replies::expected::ExpectedReply::{self, Text};
use crate::runtime::clock::{BootInstant, Clock};
use crate::runtime::event_loop::{EventLoop, SocketReader};
use crate::runtime::sync::Mutex;

const LONG: Duration = Duration::from_secs(20);

/// An event loop that reads when a test has it read.
struct TestLoop(Mutex<Option<(UnixStream, Weak<dyn SocketReader>)>>, Mutex<BootInstant>);

impl EventLoop for TestLoop {
    fn read(&self, socket: OwnedFd, reader: Weak<dyn SocketReader>) {
        if let Some(reader) = reader.upgrade() {
            reader.begins();
        }
        *self.0.lock() = Some((UnixStream::from(socket), reader));
    }

    fn request(&self) {}

    fn last_seen(&self) -> BootInstant {
        *self.1.lock()
    }
}

impl TestLoop {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default(), Mutex::new(BootInstant::from_micros(0))))
    }

    /// Runs, and reads nothing.
    fn run(&self) {
        *self.1.lock() = Clock::System.boot();
    }

    /// Reads what is there. Returns how many bytes that was.
    fn read_once(&self) -> usize {
        let mut state = self.0.lock();
        let (socket, reader) = state.as_mut().expect("it was handed over");
        let mut bytes = [0; 1024];
        let count = socket.read(&mut bytes).unwrap_or(0);
        if let Some(reader) = reader.upgrade() {
            reader.read(&bytes[..count]);
        }
        count
    }
}

fn pair() -> (Connection, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Connection::start_inline(Socket::Unix(ours), None, Decoder::default()), theirs)
}

fn pack(bytes: Vec<u8>, expected: &'static [ExpectedReply]) -> impl FnOnce(&mut Packer, &mut Vec<u8>) {
    move |packer, out| {
        out.extend(bytes);
        for &expected in expected {
            packer.expect(expected);
        }
    }
}

fn text(word: &str) -> Value {
    Value::BulkString(word.into())
}

/// What the other end reads, on a thread of its own: so many bytes.
async fn received(mut theirs: UnixStream, count: usize) -> (UnixStream, Vec<u8>) {
    let reading = tokio::task::spawn_blocking(move || {
        theirs.set_read_timeout(Some(LONG)).unwrap();
        let mut bytes = vec![0; count];
        theirs.read_exact(&mut bytes).unwrap();
        (theirs, bytes)
    });
    reading.await.unwrap()
}

/// How long replies may take that an event loop is late to read.
const BRIEF: Duration = Duration::from_millis(50);

/// A connection that was handed over, with an exchange that is answered and not read.
fn answered() -> (Connection, UnixStream, Arc<TestLoop>, Exchange) {
    let (connection, mut theirs) = pair();
    let event_loop = TestLoop::new();
    connection.hand_over(&(event_loop.clone() as Arc<dyn EventLoop>)).unwrap();
    let [exchange] = connection.send([1], BRIEF, pack(b"a".into(), &[Text])).unwrap();
    theirs.write_all(b"$1\r\nx\r\n").unwrap();
    (connection, theirs, event_loop, exchange)
}

#[tokio::test]
async fn the_io_thread_reads_it_until_it_is_handed_over_and_then_only_the_event_loop_does() {
    let (connection, mut theirs) = pair();
    let [exchange] = connection.send([1], LONG, pack(b"a".into(), &[Text])).unwrap();
    theirs.write_all(b"$1\r\nx\r\n$1").unwrap();
    assert_eq!(connection.receive(exchange).await.replies, [text("x")]);
    assert!(!connection.is_free() && !connection.has_replied(), "no event loop reads it");
    // Half a reply that came before belongs to the next one.
    let [exchange] = connection.send([1], LONG, pack(b"b".into(), &[Text])).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let event_loop = TestLoop::new();
    connection.hand_over(&(event_loop.clone() as Arc<dyn EventLoop>)).unwrap();
    theirs.write_all(b"\r\ny\r\n").unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(exchange.is_empty());
    assert_eq!(event_loop.read_once(), 5);
    assert_eq!(connection.receive(exchange).await.replies, [text("y")]);
    assert!(connection.is_free() && connection.has_replied());
    drop(theirs);
    assert!(connection.is_open(), "the event loop has not noticed");
    assert!(!connection.is_free());
}

#[tokio::test]
async fn what_the_socket_does_not_accept_at_once_follows_in_order() {
    let (connection, theirs) = pair();
    let large: Vec<u8> = (0..4_000_000_u32).map(|place| place.to_le_bytes()[1]).collect();
    let [first] = connection.send([1], LONG, pack(large.clone(), &[Text])).unwrap();
    let [second] = connection.send([1], LONG, pack(b"the end".into(), &[Text])).unwrap();
    let (mut theirs, bytes) = received(theirs, large.len() + 7).await;
    assert!(bytes[..large.len()] == large[..] && bytes[large.len()..] == *b"the end");
    theirs.write_all(b"$1\r\nx\r\n$1\r\ny\r\n").unwrap();
    assert_eq!(connection.receive(first).await.replies, [text("x")]);
    assert_eq!(connection.receive(second).await.replies, [text("y")]);
}

#[tokio::test]
async fn a_break_tells_what_may_have_left() {
    let (connection, theirs) = pair();
    let [first] = connection.send([1], LONG, pack(vec![b'a'; 4_000_000], &[Text])).unwrap();
    let [second] = connection.send([1], LONG, pack(b"b".into(), &[Text])).unwrap();
    drop(received(theirs, 1_000).await);
    let sent = |response: Response| response.broken.expect("it broke").sent;
    assert!(sent(connection.receive(first).await), "half of it has left");
    assert!(!sent(connection.receive(second).await));
    assert!(!connection.send([1], LONG, |_, _| ()).unwrap_err().sent);
}

#[tokio::test]
async fn a_time_limit_does_not_count_while_the_event_loop_has_not_read_what_came() {
    let (connection, _theirs, event_loop, exchange) = answered();
    tokio::time::sleep(BRIEF * 5).await;
    assert!(connection.is_open());
    event_loop.read_once();
    assert_eq!(connection.receive(exchange).await.replies, [text("x")]);
    let [exchange] = connection.send([1], BRIEF, pack(b"a".into(), &[Text])).unwrap();
    let broken = connection.receive(exchange).await.broken.expect("there is no reply");
    assert!(broken.sent && broken.why.contains("no reply within 50 ms"), "{}", broken.why);
    assert_eq!(event_loop.read_once(), 0, "the other reader is notified");
}

#[tokio::test]
async fn a_loop_that_runs_and_does_not_read_is_not_waited_for() {
    let (connection, _theirs, event_loop, exchange) = answered();
    tokio::time::sleep(BRIEF * 3).await;
    assert!(connection.is_open(), "it was not seen since");
    event_loop.run();
    tokio::time::sleep(BRIEF * 3).await;
    assert!(connection.is_open(), "it may be blocked again, before it came to read");
    event_loop.run();
    let broken = connection.receive(exchange).await.broken.expect("nothing reads it");
    assert!(broken.sent);
}
