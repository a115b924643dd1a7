//! The socket of an inline connection, with TLS or without: no one else writes to it or reads it here.

use std::io::{ErrorKind, Read, Result as IoResult, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{Interest, Ready};
use tokio_rustls::rustls::ClientConnection;

use crate::backend::redis::connection::tasks::read_buffer::ReadBuffer;
use crate::backend::redis::protocol::decoder::Decoder;
use crate::runtime::clock::{BootInstant, Clock};
use crate::runtime::event_loop::EventLoop;
use crate::runtime::sync::Mutex;

pub(super) const CLOSED: &str = "the server closed the connection";

/// So many times an event loop is seen to run before it is sure that it does not read. The first time it may
/// have only drained its completions, and be blocked by the code that these continue, before it came to read.
const ENOUGH_RUNS: u8 = 2;

/// How an event loop was asked to run.
#[derive(Default)]
pub(in super::super) struct Asked {
    last: Option<BootInstant>,
    /// How often it has run after it was asked.
    runs: u8,
}

/// A socket that does not block.
pub(crate) enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// The socket of such a connection, and what was read from it.
pub(in super::super) struct InlineSocket {
    pub(super) socket: Socket,
    pub(super) tls: Option<Mutex<ClientConnection>>,
    pub(super) input: Mutex<Input>,
    /// Whether the event loop reads it.
    pub(super) is_read: AtomicBool,
    /// How often the event loop has read something, and whether a reply was among it.
    pub(super) reads: AtomicU64,
    has_replied: AtomicBool,
    pub(super) event_loop: OnceLock<Arc<dyn EventLoop>>,
}

/// Held while bytes are read and delivered, which keeps them in order.
pub(super) struct Input {
    pub(super) decoder: Decoder,
    pub(super) buffer: ReadBuffer,
    /// From now on only the event loop reads.
    pub(super) is_handed_over: bool,
}

impl InlineSocket {
    pub fn new(socket: Socket, tls: Option<ClientConnection>, decoder: Decoder) -> Self {
        let input = Input { decoder, buffer: ReadBuffer::new(), is_handed_over: false };
        Self {
            socket,
            tls: tls.map(Mutex::new),
            input: Mutex::new(input),
            is_read: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            has_replied: AtomicBool::new(false),
            event_loop: OnceLock::new(),
        }
    }

    /// Ends the reading of both the event loop and the I/O thread.
    pub fn shut_down(&self) {
        let both = std::net::Shutdown::Both;
        // It may have ended already.
        let _ = match &self.socket {
            Socket::Tcp(socket) => socket.shutdown(both),
            Socket::Unix(socket) => socket.shutdown(both),
        };
    }

    /// Whether there is nothing to read, not even an end.
    pub fn is_silent(&self) -> bool {
        let (mut byte, flags) = ([0], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        matches!(recv(&self.socket, &mut byte, flags), Err(Errno::AGAIN))
    }

    /// A reply was delivered.
    pub fn replied(&self) {
        // Before that, it is the I/O thread that reads.
        if self.is_read.load(Ordering::Relaxed) {
            self.has_replied.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the event loop has read a reply.
    pub fn has_replied(&self) -> bool {
        self.has_replied.load(Ordering::Relaxed)
    }

    /// Whether it is the event loop that is late, and not the server: there are bytes that it has not read. A
    /// loop that has run [`ENOUGH_RUNS`] times since it was first asked to, and has read nothing, never will.
    pub fn is_late(&self, asked: &mut Asked) -> bool {
        if !rustix::io::ioctl_fionread(&self.socket).is_ok_and(|unread| unread > 0) {
            return false;
        }
        let has_run = |at| self.event_loop.get().is_none_or(|event_loop| event_loop.last_seen() > at);
        if asked.last.is_some_and(|at| !has_run(at)) {
            return true;
        }
        asked.runs += u8::from(asked.last.is_some());
        if asked.runs == ENOUGH_RUNS {
            return false;
        }
        asked.last = Some(Clock::System.boot());
        if let Some(event_loop) = self.event_loop.get() {
            event_loop.request();
        }
        true
    }

    /// Writes what the socket accepts now, and takes it out of `rest`. Returns how much that was, also if it
    /// fails then.
    pub fn write(&self, rest: &mut Vec<u8>) -> (usize, IoResult<()>) {
        let mut from = 0;
        let outcome = loop {
            if from == rest.len() {
                break Ok(());
            }
            match self.socket.write(&rest[from..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(count) => from += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        rest.drain(..from);
        (from, outcome)
    }
}

impl Socket {
    pub fn tcp(stream: tokio::net::TcpStream) -> IoResult<Self> {
        Ok(Self::Tcp(stream.into_std()?))
    }

    pub fn unix(stream: tokio::net::UnixStream) -> IoResult<Self> {
        Ok(Self::Unix(stream.into_std()?))
    }

    pub(super) fn duplicate(&self) -> IoResult<OwnedFd> {
        self.as_fd().try_clone_to_owned()
    }

    /// A duplicate, to wait for it on the I/O thread.
    pub(super) fn watch(&self) -> IoResult<Watched> {
        Ok(match self {
            Self::Tcp(socket) => Watched::Tcp(tokio::net::TcpStream::from_std(socket.try_clone()?)?),
            Self::Unix(socket) => Watched::Unix(tokio::net::UnixStream::from_std(socket.try_clone()?)?),
        })
    }

    fn write(&self, bytes: &[u8]) -> IoResult<usize> {
        match self {
            Self::Tcp(socket) => (&mut &*socket).write(bytes),
            Self::Unix(socket) => (&mut &*socket).write(bytes),
        }
    }

    pub(super) fn read(&self, bytes: &mut [u8]) -> IoResult<usize> {
        match self {
            Self::Tcp(socket) => (&mut &*socket).read(bytes),
            Self::Unix(socket) => (&mut &*socket).read(bytes),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

/// A socket that the I/O thread waits for.
pub(super) enum Watched {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Watched {
    pub async fn ready(&self, interest: Interest) -> IoResult<Ready> {
        match self {
            Self::Tcp(socket) => socket.ready(interest).await,
            Self::Unix(socket) => socket.ready(interest).await,
        }
    }

    pub fn try_io<R>(&self, interest: Interest, io: impl FnOnce() -> IoResult<R>) -> IoResult<R> {
        match self {
            Self::Tcp(socket) => socket.try_io(interest, io),
            Self::Unix(socket) => socket.try_io(interest, io),
        }
    }
}

/// Appends these bytes to `out`, encrypted.
pub(super) fn encrypt(tls: &mut ClientConnection, mut bytes: &[u8], out: &mut Vec<u8>) -> IoResult<()> {
    while !bytes.is_empty() {
        let count = tls.writer().write(bytes)?;
        bytes = &bytes[count..];
        while tls.wants_write() {
            tls.write_tls(out)?;
        }
        if count == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// Decrypts these bytes into the buffer, and what came with the handshake. The error says why no more come.
pub(super) fn decrypt(
    tls: &mut ClientConnection,
    mut bytes: &[u8],
    buffer: &mut ReadBuffer,
) -> Result<(), String> {
    let cannot_read = |error: &dyn std::fmt::Display| format!("cannot read: {error}");
    loop {
        loop {
            match tls.reader().read(buffer.space()) {
                // It said so, and what follows is not its own.
                Ok(0) => return Err(CLOSED.to_owned()),
                Ok(count) => buffer.filled(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(cannot_read(&error)),
            }
        }
        if bytes.is_empty() {
            return Ok(());
        }
        match tls.read_tls(&mut bytes) {
            Ok(0) => return Err(CLOSED.to_owned()),
            Ok(_) => {}
            Err(error) => return Err(cannot_read(&error)),
        }
        tls.process_new_packets().map_err(|error| cannot_read(&error))?;
    }
}
