//! The way to the server of a node. After a failover the same name or proxy leads to another server, while
//! the connections that were made before still lead to the old one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::runtime::sync::Mutex;

/// All connections of one generation lead to one server, and end together when it turns out to be the wrong
/// one: a node must not ask two servers.
#[derive(Default)]
pub(crate) struct Route {
    generation: AtomicU64,
    connections: Mutex<Vec<Weak<dyn Retire>>>,
}

/// A connection, as far as its route needs it.
pub(super) trait Retire: Send + Sync {
    /// Sends nothing any more, and closes once the replies to what was sent are there.
    fn retire(&self, why: &Arc<str>);
}

/// What a connection knows of its route.
pub(super) struct Membership {
    pub route: Arc<Route>,
    pub generation: u64,
}

impl Route {
    /// Read before a name is resolved.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Adds a connection. `false`: its generation is over.
    pub(super) fn add(&self, connection: &Arc<impl Retire + 'static>, generation: u64) -> bool {
        let mut connections = self.connections.lock();
        if self.generation() != generation {
            return false;
        }
        connections.retain(|other| other.strong_count() > 0);
        let connection: Weak<dyn Retire> = Arc::downgrade(connection) as _;
        connections.push(connection);
        true
    }
}

impl Membership {
    /// The server said that it is not the right one. Nothing is sent to it any more, and its connections
    /// close once they have the replies to what was sent.
    pub fn leave(&self, why: &Arc<str>) {
        let connections = {
            let mut connections = self.route.connections.lock();
            if self.route.generation() != self.generation {
                return;
            }
            self.route.generation.store(self.generation + 1, Ordering::Release);
            std::mem::take(&mut *connections)
        };
        for connection in connections.iter().filter_map(Weak::upgrade) {
            connection.retire(why);
        }
    }
}
