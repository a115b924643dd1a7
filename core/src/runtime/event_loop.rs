//! An event loop of the application, which can read sockets on its own thread.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use super::clock::BootInstant;

/// Reads sockets where the application runs.
pub trait EventLoop: Send + Sync {
    /// Has it read this socket: a duplicate of the reader's, for the loop to close. What comes goes to
    /// `reader`, on the loop's thread and within `InlineExecutor::read`. Returns at once.
    fn read(&self, socket: OwnedFd, reader: Weak<dyn SocketReader>);

    /// Has it run soon, even if nothing else happens.
    fn request(&self);

    /// When it last ran.
    fn last_seen(&self) -> BootInstant;
}

/// What gets the bytes of a socket.
pub trait SocketReader: Send + Sync {
    /// From now on the loop reads.
    fn begins(&self);

    /// These bytes came.
    fn read(self: Arc<Self>, bytes: &[u8]);

    /// The server closed the connection, or it broke: no more come.
    fn ended(&self, why: &str);

    /// The loop does not read any more, through no fault of the server.
    fn abandoned(&self, why: &str);
}
