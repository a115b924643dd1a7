//! The tasks of a connection: one reads, one writes, and one watches the time limit.

pub(super) mod read_buffer;
pub(super) mod stranger;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::read_buffer::ReadBuffer;
use self::stranger::{is_closed, not_redis};
use crate::backend::redis::connection::exchanges::Shared;
#[cfg(unix)]
use crate::backend::redis::connection::inline::socket::Asked;
use crate::backend::redis::protocol::decoder::{DecodeError, Decoder};

const TOO_LARGE: &str = "the server sent more than any reply can have";
/// A send buffer that grew beyond this in a burst is freed.
const KEEP_BUFFER: usize = 256 * 1024;

type ByteReader = Box<dyn AsyncRead + Send + Unpin>;
type ByteWriter = Box<dyn AsyncWrite + Send + Unpin>;

/// A connected stream of bytes.
pub(crate) struct Transport {
    pub reader: ByteReader,
    pub writer: ByteWriter,
    /// Whether bytes that the stream has not accepted have certainly not left. Not true of TLS, where a
    /// failing write may have sent records before.
    pub accepts_exactly: bool,
}

impl Shared {
    /// Starts the tasks, which end when the connection breaks.
    pub fn start_tasks(self: &Arc<Self>, transport: Transport, decoder: Decoder) {
        let reader = tokio::spawn(Arc::clone(self).read(transport.reader, decoder));
        let writer = tokio::spawn(Arc::clone(self).write(transport.writer, transport.accepts_exactly));
        let watch = tokio::spawn(Arc::clone(self).watch_limit());
        self.own_tasks([reader, writer, watch]);
    }

    /// Aborts these tasks when the connection breaks.
    pub fn own_tasks<const N: usize>(&self, tasks: [JoinHandle<()>; N]) {
        let mut state = self.state.lock();
        state.tasks.extend(tasks.map(|task| task.abort_handle()));
        if state.broken.is_some() {
            // On a multi-threaded runtime one of them may have failed already, and ends by itself.
            state.tasks.drain(..).for_each(|task| task.abort());
        }
    }

    async fn read(self: Arc<Self>, mut reader: ByteReader, mut decoder: Decoder) {
        let mut buffer = ReadBuffer::new();
        loop {
            match reader.read(buffer.space()).await {
                Ok(0) => return self.fail("the server closed the connection"),
                Ok(count) => buffer.filled(count),
                Err(error) if is_closed(&error) => return self.fail("the server closed the connection"),
                Err(error) => return self.fail(&format!("cannot read: {error}")),
            }
            let delivered = self.deliver_all(&mut decoder, &mut buffer);
            self.leave_wrong_server();
            if let Err(why) = delivered {
                return self.fail(&why);
            }
        }
    }

    /// Gives all replies that are there to their exchanges. Fails if the rest cannot be read.
    pub(super) fn deliver_all(&self, decoder: &mut Decoder, buffer: &mut ReadBuffer) -> Result<(), String> {
        let mut state = self.state.lock();
        if state.broken.is_some() {
            // Closed by another thread meanwhile: no exchange is left.
            return Ok(());
        }
        let mut bytes = buffer.bytes();
        let before = bytes.len();
        loop {
            match decoder.decode(&mut bytes) {
                Ok(Some(value)) => {
                    state.any_reply = true;
                    self.deliver(&mut state, value)?;
                }
                Ok(None) => break,
                Err(DecodeError::TooLarge) => return Err(TOO_LARGE.to_owned()),
                Err(DecodeError::Malformed) if state.any_reply => {
                    return Err("the server sent bytes that are no reply".to_owned());
                }
                Err(DecodeError::Malformed) => return Err(not_redis(bytes)),
            }
        }
        let (used, left) = (before - bytes.len(), bytes.len());
        buffer.used(used);
        if decoder.cost() + left > state.packer.max_reply() {
            return Err(TOO_LARGE.to_owned());
        }
        Ok(())
    }

    async fn write(self: Arc<Self>, mut writer: ByteWriter, accepts_exactly: bool) {
        let mut bytes = Vec::new();
        loop {
            self.outbound.notified().await;
            let mut from = 0;
            {
                let mut state = self.state.lock();
                std::mem::swap(&mut state.outbound, &mut bytes);
                if !accepts_exactly {
                    state.left += bytes.len() as u64;
                }
            }
            while from < bytes.len() {
                match writer.write(&bytes[from..]).await {
                    Ok(0) => return self.fail("the connection accepts no more bytes"),
                    Ok(count) => {
                        from += count;
                        if accepts_exactly {
                            self.state.lock().left += count as u64;
                        }
                    }
                    Err(error) => return self.fail(&format!("cannot write: {error}")),
                }
            }
            if let Err(error) = writer.flush().await {
                return self.fail(&format!("cannot write: {error}"));
            }
            bytes.clear();
            if bytes.capacity() > KEEP_BUFFER {
                bytes = Vec::new();
            }
        }
    }

    pub(super) async fn watch_limit(self: Arc<Self>) {
        #[cfg(unix)]
        let mut asked = (None, Asked::default());
        loop {
            let elapsed = self.timeout.elapsed().await;
            let first = self.state.lock().pending.front().map(|first| first.limit);
            #[cfg(unix)]
            if let (Some(limit), Some(inline)) = (first, &self.inline) {
                if asked.0 != Some(elapsed) {
                    asked = (Some(elapsed), Asked::default());
                }
                if inline.is_late(&mut asked.1) {
                    self.timeout.rearm(elapsed, Instant::now() + limit.time);
                    continue;
                }
            }
            // Its reply may have just come, and the next exchange has time left.
            if let Some(limit) = first.filter(|limit| limit.due <= Instant::now()) {
                return self.fail(&format!("no reply within {} ms", limit.time.as_millis()));
            }
        }
    }
}
