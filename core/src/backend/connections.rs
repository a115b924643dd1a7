//! The connections of a backend to the servers that have its leases: which are open, and who hears of a
//! change.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::runtime::sync::Mutex;

/// Beyond this many, servers without a connection are forgotten.
const MAX_SERVERS: usize = 64;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// A host, an IP address, or the path of a socket.
    pub address: String,
    /// None for a socket.
    pub port: Option<u16>,
}

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is ready for commands.
    Opened,
    /// This client closed it.
    Closed,
    /// It ended without being asked to.
    Broken,
    /// It could not be made.
    Failed,
}

/// A change of the connections to one server.
#[derive(Debug, Clone)]
pub struct ConnectionChange {
    /// The server.
    pub server: Server,
    /// What happened.
    pub change: Change,
    /// Why, unless it opened.
    pub why: Option<Arc<str>>,
    /// How many connections to the server are open now.
    pub open: usize,
}

/// Is notified of changes. Called from any thread; must not block.
pub type ConnectionListener = Box<dyn Fn(ConnectionChange) + Send + Sync>;

/// The connections of a backend, or of one node of it.
#[derive(Default)]
pub struct Connections {
    servers: Mutex<Servers>,
    /// How often [`Self::primary`] may have changed.
    epoch: AtomicU32,
    listener: OnceLock<ConnectionListener>,
}

#[derive(Default)]
struct Servers {
    /// Each with the number of its open connections.
    open: Vec<(Server, usize)>,
    primary: Option<Server>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.servers.lock().open).finish()
    }
}

impl Connections {
    /// Sets the listener, once.
    pub fn on_change(&self, listener: ConnectionListener) {
        let _ = self.listener.set(listener);
    }

    /// The servers that there were connections to, each with the number of those that are open.
    pub fn open(&self) -> Vec<(Server, usize)> {
        self.servers.lock().open.clone()
    }

    /// The server that has all leases, as it was reached last; `None` if several share them, or none was
    /// reached yet.
    pub fn primary(&self) -> Option<Server> {
        self.servers.lock().primary.clone()
    }

    /// Changes when [`Self::primary`] does.
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// A connection was made. `has_all`: its server has all leases.
    pub(crate) fn opened(self: &Arc<Self>, server: Server, has_all: bool) -> OpenConnection {
        let open = {
            let mut servers = self.servers.lock();
            if has_all && servers.primary.as_ref() != Some(&server) {
                servers.primary = Some(server.clone());
                self.epoch.fetch_add(1, Ordering::Release);
            }
            servers.add(&server)
        };
        self.notify(&server, Change::Opened, None, open);
        OpenConnection { connections: Arc::clone(self), server }
    }

    /// A connection could not be made.
    pub(crate) fn failed(&self, server: &Server, why: &str) {
        if self.listener.get().is_some() {
            let open = self.servers.lock().count(server);
            self.notify(server, Change::Failed, Some(why), open);
        }
    }

    fn notify(&self, server: &Server, change: Change, why: Option<&str>, open: usize) {
        if let Some(listener) = self.listener.get() {
            listener(ConnectionChange { server: server.clone(), change, why: why.map(Into::into), open });
        }
    }
}

impl Servers {
    fn count(&self, server: &Server) -> usize {
        self.open.iter().find(|(other, _)| other == server).map_or(0, |(_, open)| *open)
    }

    fn add(&mut self, server: &Server) -> usize {
        if let Some((_, open)) = self.open.iter_mut().find(|(other, _)| other == server) {
            *open += 1;
            return *open;
        }
        if self.open.len() >= MAX_SERVERS {
            self.open.retain(|(_, open)| *open > 0);
        }
        self.open.push((server.clone(), 1));
        1
    }

    fn remove(&mut self, server: &Server) -> usize {
        let Some((_, open)) = self.open.iter_mut().find(|(other, _)| other == server) else { return 0 };
        *open -= 1;
        *open
    }
}

/// A connection that is counted until its end.
pub(crate) struct OpenConnection {
    connections: Arc<Connections>,
    server: Server,
}

impl OpenConnection {
    /// It has ended.
    pub fn end(self, change: Change, why: &str) {
        let Self { connections, server } = self;
        let open = connections.servers.lock().remove(&server);
        connections.notify(&server, change, Some(why), open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(port: u16) -> Server {
        Server { address: "127.0.0.1".to_owned(), port: Some(port) }
    }

    #[test]
    fn connections_are_counted_by_server_and_their_changes_are_told() {
        let connections = Arc::new(Connections::default());
        let told = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&told);
        connections.on_change(Box::new(move |change: ConnectionChange| {
            record.lock().push((change.server.port, change.change, change.open, change.why));
        }));
        let first = connections.opened(server(1), true);
        let second = connections.opened(server(1), true);
        assert_eq!((connections.epoch(), connections.primary()), (1, Some(server(1))));
        first.end(Change::Broken, "the server closed the connection");
        second.end(Change::Closed, "done");
        connections.failed(&server(1), "refused");
        let other = connections.opened(server(2), true);
        assert_eq!((connections.epoch(), connections.primary()), (2, Some(server(2))));
        assert_eq!(connections.open(), [(server(1), 0), (server(2), 1)]);
        drop(other);
        let broken = Some(Arc::from("the server closed the connection"));
        let expected = [
            (Some(1), Change::Opened, 1, None),
            (Some(1), Change::Opened, 2, None),
            (Some(1), Change::Broken, 1, broken),
            (Some(1), Change::Closed, 0, Some(Arc::from("done"))),
            (Some(1), Change::Failed, 0, Some(Arc::from("refused"))),
            (Some(2), Change::Opened, 1, None),
        ];
        assert_eq!(*told.lock(), expected);
    }

    #[test]
    fn servers_without_a_connection_are_forgotten_when_there_are_many() {
        let connections = Arc::new(Connections::default());
        for port in 1..=200 {
            connections.opened(server(port), false).end(Change::Closed, "done");
        }
        assert!(connections.open().len() <= MAX_SERVERS);
        assert_eq!(connections.primary(), None, "none of them has all leases");
    }
}
