//! Calls that run on JavaScript's thread, over sockets that its event loop reads.

pub(crate) mod event_loop;

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use fencelock_core::runtime::event_loop::SocketReader;
use fencelock_core::runtime::executor::Job;
use fencelock_core::runtime::inline::InlineExecutor;
use fencelock_core::runtime::sync::Mutex;

/// A socket that the event loop reads, or is about to.
struct ReadSocket {
    number: u32,
    reader: Weak<dyn SocketReader>,
    /// The event loop's, until it has taken it.
    fd: Option<OwnedFd>,
}

/// What runs on the thread of one copy of lib/.
#[derive(Default)]
pub(crate) struct InlineCalls {
    executor: Arc<InlineExecutor>,
    /// The sockets that the event loop reads, by their numbers. There are hardly more than one.
    sockets: Mutex<Vec<ReadSocket>>,
    last: AtomicU32,
}

impl InlineCalls {
    /// Polls this call on the calling thread. Gives it back if another one runs there.
    pub(crate) fn start(&self, call: Job) -> Result<(), Job> {
        self.executor.start(call)
    }

    /// The event loop reads this socket, and will close it.
    pub(crate) fn begins(&self, socket: u32) {
        if let Some(reader) = self.find(socket) {
            if let Some(one) = self.sockets.lock().iter_mut().find(|one| one.number == socket) {
                // Its number is the loop's now.
                let _ = one.fd.take().map(IntoRawFd::into_raw_fd);
            }
            reader.begins();
        }
    }

    /// Bytes came from a socket.
    pub(crate) fn read(&self, socket: u32, bytes: &[u8]) {
        if let Some(reader) = self.find(socket) {
            let is_well = self.executor.read(|| Arc::clone(&reader).read(bytes));
            if !is_well {
                self.executor.read(|| reader.abandoned("internal error while it was read"));
            }
        }
    }

    /// No more come from it: it ended, or it cannot be read here.
    pub(crate) fn ended(&self, socket: u32, why: &str, is_local: bool) {
        if let Some(reader) = self.find(socket) {
            self.sockets.lock().retain(|one| one.number != socket);
            self.executor.read(|| if is_local { reader.abandoned(why) } else { reader.ended(why) });
        }
    }

    /// The event loop ends: the call that waits goes on on the I/O thread.
    pub(crate) fn close(&self) {
        self.executor.close();
        let sockets = std::mem::take(&mut *self.sockets.lock());
        for reader in sockets.iter().filter_map(|one| one.reader.upgrade()) {
            self.executor.read(|| reader.abandoned("the event loop that reads this connection has ended"));
        }
    }

    /// A socket that is to be read. Returns the numbers by which the event loop finds it.
    pub(crate) fn add(&self, reader: Weak<dyn SocketReader>, fd: OwnedFd) -> (u32, i32) {
        let (number, raw) = (self.last.fetch_add(1, Ordering::Relaxed), fd.as_raw_fd());
        let mut sockets = self.sockets.lock();
        sockets.retain(|one| one.reader.strong_count() > 0);
        sockets.push(ReadSocket { number, reader, fd: Some(fd) });
        (number, raw)
    }

    fn find(&self, socket: u32) -> Option<Arc<dyn SocketReader>> {
        let sockets = self.sockets.lock();
        sockets.iter().find(|one| one.number == socket).and_then(|one| one.reader.upgrade())
    }
}
