//! A connection without tasks: those who send on it write to its socket themselves, and an event loop reads
//! it, on the thread of its callers. That saves four changes of thread for each call that is alone.
//!
//! Only what is rare is left to the I/O thread: the handshake, the rest of a write that the socket did not
//! accept at once, and the time limit.

pub(crate) mod socket;
#[cfg(test)]
mod tests;

use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tokio::io::Interest;
use tokio_rustls::rustls::ClientConnection;

use self::socket::{CLOSED, InlineSocket, Input, Socket, decrypt, encrypt};
use super::Connection;
use super::exchanges::{Shared, State};
use super::tasks::stranger::is_closed;
use crate::backend::redis::protocol::decoder::Decoder;
use crate::runtime::event_loop::{EventLoop, SocketReader};

/// How much is read at once during the handshake.
const CHUNK: usize = 16 * 1024;

impl Connection {
    /// Starts a connection that the I/O thread reads until it is handed over. TLS is past its handshake.
    pub fn start_inline(socket: Socket, tls: Option<ClientConnection>, decoder: Decoder) -> Self {
        let shared = Arc::new(Shared::new_inline(InlineSocket::new(socket, tls, decoder)));
        let reader = tokio::spawn(Arc::clone(&shared).read_here());
        let watch = tokio::spawn(Arc::clone(&shared).watch_limit());
        shared.own_tasks([reader, watch]);
        Self { shared }
    }

    /// Has the event loop read it from now on. An error leaves it to the I/O thread.
    pub fn hand_over(&self, event_loop: &Arc<dyn EventLoop>) -> IoResult<()> {
        let Some(inline) = &self.shared.inline else { return Ok(()) };
        let duplicate = inline.socket.duplicate()?;
        inline.input.lock().is_handed_over = true;
        let _ = inline.event_loop.set(Arc::clone(event_loop));
        let reader: Weak<Shared> = Arc::downgrade(&self.shared);
        event_loop.read(duplicate, reader);
        Ok(())
    }

    /// Whether it can be used: the event loop reads it, nothing is in flight, and the server has not gone
    /// away, which the loop may not have noticed.
    pub fn is_free(&self) -> bool {
        self.idle().is_some_and(InlineSocket::is_silent)
    }

    /// If it could be used, but something came that the event loop has not read, an end perhaps: how often
    /// the loop has read before.
    pub fn unread_since(&self) -> Option<u64> {
        let inline = self.idle()?;
        // In this order: what is read meanwhile is counted later.
        let reads = inline.reads.load(Ordering::Acquire);
        (!inline.is_silent()).then_some(reads)
    }

    /// Whether the event loop has read a reply from it.
    pub fn has_replied(&self) -> bool {
        self.shared.inline.as_ref().is_some_and(InlineSocket::has_replied)
    }

    /// Ends it because the event loop does not read it.
    pub fn fail_unread(&self) {
        self.shared.fail("the event loop does not read it");
    }

    /// Its socket, if the event loop reads it and nothing is in flight.
    fn idle(&self) -> Option<&InlineSocket> {
        let inline = self.shared.inline.as_ref()?;
        let is_idle = {
            let state = self.shared.state.lock();
            state.broken.is_none() && state.retired.is_none() && state.pending.is_empty()
        };
        (is_idle && inline.is_read.load(Ordering::Acquire)).then_some(inline)
    }
}

impl SocketReader for Shared {
    fn begins(&self) {
        if let Some(inline) = &self.inline {
            inline.is_read.store(true, Ordering::Release);
        }
    }

    fn read(self: Arc<Self>, bytes: &[u8]) {
        let Some(inline) = &self.inline else { return };
        inline.reads.fetch_add(1, Ordering::Release);
        self.take_in(inline, &mut inline.input.lock(), bytes);
    }

    fn ended(&self, why: &str) {
        // The loop also reads the end that it has when this side closes it.
        let is_news = self.state.lock().broken.is_none();
        if is_news {
            self.fail(why);
        }
    }

    fn abandoned(&self, why: &str) {
        self.break_off(why);
    }
}

impl Shared {
    /// Writes what was packed, or leaves it to the task that writes the rest. The error says why it cannot.
    pub(super) fn write_inline(
        self: &Arc<Self>,
        inline: &InlineSocket,
        state: &mut State,
    ) -> Result<(), String> {
        let packed = std::mem::take(&mut state.outbound);
        if let Some(tls) = &inline.tls {
            // A failing write may have sent records before.
            state.left += packed.len() as u64;
            encrypt(&mut tls.lock(), &packed, &mut state.rest).map_err(cannot_write)?;
        } else {
            state.rest.extend_from_slice(&packed);
        }
        state.outbound = packed;
        state.outbound.clear();
        if state.is_writing_rest {
            return Ok(());
        }
        write_now(inline, state).map_err(cannot_write)?;
        if !state.rest.is_empty() {
            state.is_writing_rest = true;
            state.tasks.push(tokio::spawn(Arc::clone(self).write_rest()).abort_handle());
        }
        Ok(())
    }

    /// Writes on as soon as the socket accepts more.
    async fn write_rest(self: Arc<Self>) {
        let Some(inline) = &self.inline else { return };
        let outcome = async {
            let socket = inline.socket.watch()?;
            loop {
                socket.ready(Interest::WRITABLE).await?;
                let mut state = self.state.lock();
                let written = socket.try_io(Interest::WRITABLE, || {
                    write_now(inline, &mut state)?;
                    if state.rest.is_empty() { Ok(()) } else { Err(ErrorKind::WouldBlock.into()) }
                });
                match written {
                    Ok(()) => {
                        state.is_writing_rest = false;
                        return Ok(());
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        };
        if let Err(error) = outcome.await {
            self.fail(&cannot_write(error));
        }
    }

    /// Reads on the I/O thread until the event loop does.
    async fn read_here(self: Arc<Self>) {
        let Some(inline) = &self.inline else { return };
        let why = match self.read_until_handed_over(inline).await {
            Ok(true) => return,
            Ok(false) => CLOSED.to_owned(),
            Err(error) if is_closed(&error) => CLOSED.to_owned(),
            Err(error) => format!("cannot read: {error}"),
        };
        self.fail(&why);
    }

    /// `false`: the server closed it.
    async fn read_until_handed_over(self: &Arc<Self>, inline: &InlineSocket) -> IoResult<bool> {
        let socket = inline.socket.watch()?;
        let mut bytes = vec![0; CHUNK];
        // What came with the handshake of TLS.
        self.take_in(inline, &mut inline.input.lock(), &[]);
        loop {
            socket.ready(Interest::READABLE).await?;
            // No one else reads while it is held.
            let mut input = inline.input.lock();
            if input.is_handed_over {
                return Ok(true);
            }
            match socket.try_io(Interest::READABLE, || inline.socket.read(&mut bytes)) {
                Ok(0) => return Ok(false),
                Ok(count) => self.take_in(inline, &mut input, &bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Delivers what these bytes complete.
    fn take_in(self: &Arc<Self>, inline: &InlineSocket, input: &mut Input, bytes: &[u8]) {
        let Input { decoder, buffer, .. } = input;
        let read = match &inline.tls {
            None => {
                buffer.extend(bytes);
                Ok(())
            }
            Some(tls) => decrypt(&mut tls.lock(), bytes, buffer),
        };
        // What came before an end counts.
        let outcome = self.deliver_all(decoder, buffer).and(read).and_then(|()| {
            let mut state = self.state.lock();
            // An echo that proves what was delivered.
            if state.outbound.is_empty() { Ok(()) } else { self.write_inline(inline, &mut state) }
        });
        self.leave_wrong_server();
        if let Err(why) = outcome {
            self.fail(&why);
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn cannot_write(error: IoError) -> String {
    format!("cannot write: {error}")
}

/// Writes what the socket accepts now of the rest.
fn write_now(inline: &InlineSocket, state: &mut State) -> IoResult<()> {
    let (count, outcome) = inline.write(&mut state.rest);
    if inline.tls.is_none() {
        state.left += count as u64;
    }
    outcome
}
