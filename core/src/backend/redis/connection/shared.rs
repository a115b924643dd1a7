//! The connection that never carries a WAIT, for everything that must not queue behind one.

use std::sync::{Arc, Weak};
use std::time::Instant;

use redis::Value;

use super::connect::Connector;
use super::{Break, Connection, Exchange, Response};
use crate::backend::redis::config::Settings;
use crate::backend::redis::protocol::packer::Packer;
use crate::backend::redis::protocol::replies::refusals::{is_not_loaded, is_wrong_server};
use crate::backend::redis::protocol::scripts::Script;
use crate::error::{Error, Result};
use crate::runtime::sync::Mutex;

/// Commands of all callers, pipelined on one connection that is made on demand.
pub(crate) struct SharedConnection {
    settings: Arc<Settings>,
    connector: Arc<Connector>,
    current: Mutex<Current>,
    /// Held while connecting, so that all callers that wait get the same connection.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Current {
    connection: Weak<Connection>,
    /// Keeps it open between exchanges.
    kept: Option<Arc<Connection>>,
    /// From now on it is open only during exchanges.
    closing: bool,
    /// The last PING that was sent for its side effect.
    kick: Option<Kick>,
}

/// A PING, and the connection that carries it.
struct Kick {
    connection: Weak<Connection>,
    ping: Exchange,
}

impl Kick {
    /// Whether it is still to be answered on this connection.
    fn is_pending_on(&self, connection: &Connection) -> bool {
        std::ptr::eq(self.connection.as_ptr(), connection)
            && self.ping.is_empty()
            && !self.ping.is_terminated()
    }
}

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum ExchangeError {
    /// There was no connection; nothing was sent.
    Connect(Error),
    /// It broke before the reply came.
    Broken(Break),
}

impl SharedConnection {
    pub fn new(settings: Arc<Settings>, connector: Arc<Connector>) -> Self {
        let connecting = tokio::sync::Mutex::new(());
        Self { settings, connector, current: Mutex::default(), connecting }
    }

    /// The connection, made if necessary.
    pub async fn get(&self) -> Result<Arc<Connection>> {
        if let Some(open) = self.get_open() {
            return Ok(open);
        }
        let came = Instant::now();
        // Also those that wait for the one that connects: otherwise each of them would connect next.
        self.settings.pending_connects.wait(self.make(came)).await
    }

    async fn make(&self, came: Instant) -> Result<Arc<Connection>> {
        let _only_one = self.connecting.lock().await;
        if let Some(open) = self.get_open() {
            return Ok(open);
        }
        let made = Arc::new(self.connector.connect(came).await?);
        let mut current = self.current.lock();
        current.connection = Arc::downgrade(&made);
        current.kept = (!current.closing).then(|| Arc::clone(&made));
        drop(current);
        Ok(made)
    }

    /// Sends commands that get this number of replies.
    pub async fn exchange(
        &self,
        replies: usize,
        pack: impl FnOnce(&mut Packer, &mut Vec<u8>),
    ) -> std::result::Result<Response, ExchangeError> {
        let connection = self.get().await.map_err(ExchangeError::Connect)?;
        self.exchange_on(&connection, replies, pack).await
    }

    /// As [`Self::exchange`], on a connection that [`Self::get`] returned.
    pub async fn exchange_on(
        &self,
        connection: &Connection,
        replies: usize,
        pack: impl FnOnce(&mut Packer, &mut Vec<u8>),
    ) -> std::result::Result<Response, ExchangeError> {
        let limit = self.settings.command_timeout;
        let [exchange] = connection.send([replies], limit, pack).map_err(ExchangeError::Broken)?;
        Ok(connection.receive(exchange).await)
    }

    /// Runs a script that `pack` calls; by its text if the server does not know it.
    pub async fn run_script(
        &self,
        script: &Script,
        pack: impl Fn(&mut Packer, &mut Vec<u8>),
    ) -> std::result::Result<Value, ExchangeError> {
        let reply = self.command(&pack).await?;
        // What a server refuses that is not the right one, its successor may do.
        if !lacks_script(&reply) && !is_refused_by_wrong_server(&reply) {
            return Ok(reply);
        }
        let response = self.exchange(2, |packer, out| {
            script.pack_load(packer, out);
            packer.by_text(true, |packer| pack(packer, out));
        });
        let response = response.await?;
        // It does not matter whether it could be loaded.
        response.replies.into_iter().nth(1).ok_or_else(|| broken(response.broken))
    }

    /// Sends one command.
    pub async fn command(
        &self,
        pack: impl FnOnce(&mut Packer, &mut Vec<u8>),
    ) -> std::result::Result<Value, ExchangeError> {
        self.exchange(1, pack).await?.single().map_err(broken)
    }

    /// Makes the server check its clock, so that it notices that the timeout of a WAIT has elapsed. Does not
    /// wait for the reply. A new connection has the same effect.
    pub fn kick(self: &Arc<Self>) {
        if let Some(open) = self.get_open() {
            let last = self.current.lock().kick.take();
            // One at a time: a server that hangs sends no replies, and they would pile up.
            let pending = last.filter(|kick| kick.is_pending_on(&open));
            let kick = pending.or_else(|| {
                let sent = open.send([1], self.settings.command_timeout, |packer, out| {
                    packer.echo(out);
                });
                sent.ok().map(|[ping]| Kick { connection: Arc::downgrade(&open), ping })
            });
            self.current.lock().kick = kick;
        } else if self.connecting.try_lock().is_ok() {
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                let _ = shared.get().await;
            });
        }
    }

    /// Closes the connection once nothing is in flight. Later calls connect again, for themselves only.
    pub fn close_when_idle(&self) {
        let mut current = self.current.lock();
        current.closing = true;
        current.kept = None;
    }

    /// From now on uses another connection. What was sent on this one is still answered, if it is alive.
    pub fn replace(&self, late: &Connection) {
        let mut current = self.current.lock();
        if current.connection.upgrade().is_some_and(|it| std::ptr::eq(&raw const *it, late)) {
            current.connection = Weak::new();
            current.kept = None;
        }
    }

    fn get_open(&self) -> Option<Arc<Connection>> {
        self.current.lock().connection.upgrade().filter(|connection| connection.is_open())
    }
}

fn broken(broken: Option<Break>) -> ExchangeError {
    ExchangeError::Broken(broken.expect("only a break leaves a reply out"))
}

/// Whether a reply says that the server is not the right one.
fn is_refused_by_wrong_server(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if is_wrong_server(error))
}

/// Whether a reply says that the server does not know the script.
fn lacks_script(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if is_not_loaded(error))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, DuplexStream};

    use super::super::route::{FixedAddress, Route};
    use super::super::tests::pair;
    use super::*;
    use crate::backend::redis::config::endpoint::{Endpoint, ServerKind};
    use crate::backend::redis::config::{Config, Deployment, Location, Options};

    impl SharedConnection {
        fn put(&self, connection: Connection) {
            let connection = Arc::new(connection);
            let mut current = self.current.lock();
            current.connection = Arc::downgrade(&connection);
            current.kept = Some(connection);
        }
    }

    fn shared() -> Arc<SharedConnection> {
        let options = Options::new(Location::Url("redis://127.0.0.1:1".to_owned()));
        let Config { deployment, settings } = Config::new(options).unwrap();
        let Deployment::Standalone(address) = deployment else { panic!("a URL is of one server") };
        let endpoint = Endpoint { address, kind: ServerKind::Primary, settings: Arc::clone(&settings) };
        let route = Arc::new(Route::new(Arc::new(FixedAddress(Arc::new(endpoint)))));
        let connector = Arc::new(Connector::new(Arc::clone(&settings), route));
        Arc::new(SharedConnection::new(settings, connector))
    }

    /// How many PINGs came until none came for a while.
    async fn pings(server: &mut DuplexStream) -> usize {
        let mut bytes = vec![0; 1024];
        let mut read = String::new();
        while let Ok(count) = tokio::time::timeout(Duration::from_millis(20), server.read(&mut bytes)).await {
            read.push_str(std::str::from_utf8(&bytes[..count.unwrap()]).unwrap());
        }
        read.matches("PING").count()
    }

    #[tokio::test(start_paused = true)]
    async fn each_connection_is_kicked_once_until_it_answers() {
        let shared = shared();
        let (first, mut late) = pair();
        shared.put(first);
        let first = shared.get_open().unwrap();
        shared.kick();
        shared.kick();
        assert_eq!(pings(&mut late).await, 1);
        shared.replace(&first);
        let (second, mut server) = pair();
        shared.put(second);
        shared.kick();
        shared.kick();
        assert_eq!(pings(&mut server).await, 1, "the connection before it still owes an answer");
        assert_eq!(pings(&mut late).await, 0);
    }
}
