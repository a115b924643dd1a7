//! A tiny TCP proxy that breaks connections where a test wants it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What the proxy does to the traffic from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    None,
    /// Requests with a WAIT: the server's first reply passes, then the connection breaks.
    CutAfterFirstReply,
    /// Requests with a WAIT do not reach the server, and the connection breaks.
    CutBeforeServer,
    /// Replies to requests with a WAIT do not reach the client; the connection stays.
    Swallow,
}

const FAULTS: [Fault; 4] = [Fault::None, Fault::CutAfterFirstReply, Fault::CutBeforeServer, Fault::Swallow];

/// Which request is held, with what follows it on its connection.
type Held = fn(&[u8]) -> bool;

/// Holds one connection's requests, also when the client has closed it.
#[derive(Default)]
struct Gate {
    /// The next one that is held.
    next: Mutex<Option<Held>>,
    holding: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// Returns when a request may pass, and whether it was held.
    fn pass(&self, request: &[u8]) -> bool {
        let is_held = self.next.lock().unwrap().take_if(|held| held(request)).is_some();
        if is_held {
            *self.holding.lock().unwrap() = true;
            drop(self.changed.wait_while(self.holding.lock().unwrap(), |holding| *holding).unwrap());
        }
        is_held
    }
}

pub struct Proxy {
    pub port: u16,
    server: Arc<AtomicU16>,
    fault: Arc<AtomicU8>,
    gate: Arc<Gate>,
    delay_us: Arc<AtomicU64>,
    /// Connections made so far.
    pub connections: Arc<AtomicUsize>,
}

impl Proxy {
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let fault = Arc::new(AtomicU8::new(Fault::None as u8));
        let connections = Arc::new(AtomicUsize::new(0));
        let server = Arc::new(AtomicU16::new(server));
        let (gate, delay_us) = (Arc::<Gate>::default(), Arc::<AtomicU64>::default());
        let proxy = Self {
            port,
            gate: Arc::clone(&gate),
            delay_us: Arc::clone(&delay_us),
            server: Arc::clone(&server),
            fault: Arc::clone(&fault),
            connections: Arc::clone(&connections),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                connections.fetch_add(1, Ordering::Relaxed);
                let upstream = TcpStream::connect(("127.0.0.1", server.load(Ordering::SeqCst))).unwrap();
                let (fault, gate) = (Arc::clone(&fault), Arc::clone(&gate));
                let (delay_us, server) = (Arc::clone(&delay_us), Arc::clone(&server));
                std::thread::spawn(move || serve(client, upstream, &fault, &gate, &delay_us, &server));
            }
        });
        proxy
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Leads new connections to another server, as a name does after a failover, and one that is held.
    pub fn switch(&self, server: u16) {
        self.server.store(server, Ordering::SeqCst);
    }

    /// Holds the next request like this until [`Self::let_go`]; other connections go on.
    pub fn hold(&self, held: Held) {
        *self.gate.next.lock().unwrap() = Some(held);
    }

    /// Whether a request is held.
    pub fn is_holding(&self) -> bool {
        *self.gate.holding.lock().unwrap()
    }

    pub fn let_go(&self) {
        *self.gate.holding.lock().unwrap() = false;
        self.gate.changed.notify_all();
    }

    /// Each request takes this long to arrive.
    pub fn delay(&self, time: Duration) {
        self.delay_us.store(time.as_micros() as u64, Ordering::SeqCst);
    }

    pub fn set(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::SeqCst);
    }
}

/// The list that a script returns, without the replies after it.
fn first_reply(bytes: &[u8]) -> &[u8] {
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
    let head = std::str::from_utf8(lines.next().unwrap()).unwrap().trim_end();
    let rest: usize = head.strip_prefix('*').unwrap().parse().unwrap();
    let length = head.len() + 2 + lines.take(rest).map(<[u8]>::len).sum::<usize>();
    &bytes[..length]
}

fn serve(
    mut client: TcpStream,
    mut upstream: TcpStream,
    fault: &Arc<AtomicU8>,
    gate: &Gate,
    delay_us: &AtomicU64,
    server: &AtomicU16,
) {
    // Whether a WAIT is in flight on this connection.
    let waiting = Arc::new(AtomicU8::new(0));
    answer(&upstream, &client, fault, &waiting);
    // They stay open, because the client would be closed with them.
    let mut former = Vec::new();
    let mut bytes = vec![0; 65_536];
    while let Ok(count @ 1..) = client.read(&mut bytes) {
        if bytes[..count].windows(4).any(|four| four == b"WAIT") {
            if FAULTS[usize::from(fault.load(Ordering::SeqCst))] == Fault::CutBeforeServer {
                break;
            }
            waiting.store(1, Ordering::SeqCst);
        } else {
            waiting.store(0, Ordering::SeqCst);
        }
        let now = server.load(Ordering::SeqCst);
        if gate.pass(&bytes[..count]) && server.load(Ordering::SeqCst) != now {
            let next = TcpStream::connect(("127.0.0.1", server.load(Ordering::SeqCst))).unwrap();
            answer(&next, &client, fault, &waiting);
            former.push(std::mem::replace(&mut upstream, next));
        }
        std::thread::sleep(Duration::from_micros(delay_us.load(Ordering::SeqCst)));
        if upstream.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = upstream.shutdown(Shutdown::Both);
}

/// Passes on what the server answers.
fn answer(upstream: &TcpStream, client: &TcpStream, fault: &Arc<AtomicU8>, waiting: &Arc<AtomicU8>) {
    let (mut from, mut to) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
    let (their_fault, their_waiting) = (Arc::clone(fault), Arc::clone(waiting));
    std::thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let special = their_waiting.load(Ordering::SeqCst) == 1;
            match FAULTS[usize::from(their_fault.load(Ordering::SeqCst))] {
                Fault::CutAfterFirstReply if special => {
                    let _ = to.write_all(first_reply(&bytes[..count]));
                    break;
                }
                Fault::Swallow if special => {}
                _ => {
                    if to.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                }
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
