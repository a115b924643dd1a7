//! JavaScript's event loop, as the core knows it.

use std::os::fd::OwnedFd;
use std::sync::Weak;

use crate::completion_queue::CompletionQueue;
use fencelock_core::manager::Heartbeat;
use fencelock_core::runtime::clock::BootInstant;
use fencelock_core::runtime::event_loop::{EventLoop, SocketReader};

/// The event loop of a copy of lib/. Weak: the queue outlives none of the managers that have this.
pub(crate) struct ReadByQueue(pub(crate) Weak<CompletionQueue>);

impl EventLoop for ReadByQueue {
    fn read(&self, socket: OwnedFd, reader: Weak<dyn SocketReader>) {
        if let Some(queue) = self.0.upgrade()
            && let Some(inline) = queue.inline()
        {
            let (number, fd) = inline.add(reader, socket);
            queue.have_read(number, fd);
        }
    }

    fn request(&self) {
        if let Some(queue) = self.0.upgrade() {
            Heartbeat::request(&*queue);
        }
    }

    fn last_seen(&self) -> BootInstant {
        self.0.upgrade().map_or(BootInstant::from_micros(u64::MAX), |queue| queue.last())
    }
}
