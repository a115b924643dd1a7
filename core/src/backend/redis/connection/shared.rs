//! The connection that never carries a WAIT: whatever must not queue behind one goes here.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use redis::Value;

use super::connect::Dialer;
use super::{Answer, Break, Connection, Exchange};
use crate::backend::redis::config::Config;
use crate::backend::redis::protocol::scripts::{Packer, Script};
use crate::error::{Error, Result};

/// Commands of all callers, pipelined on one connection that is made on demand.
pub(crate) struct Control {
    config: Arc<Config>,
    dialer: Arc<Dialer>,
    // A std Mutex, because nothing awaits while it is held.
    current: Mutex<Current>,
    /// HeldLease while connecting, so that all who wait get the same connection.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Current {
    connection: Weak<Connection>,
    /// Keeps it open between exchanges.
    kept: Option<Arc<Connection>>,
    /// Nobody keeps it any more: it lasts as long as the exchanges on it.
    given_up: bool,
    /// The last PING that was sent for its side effect.
    nudge: Option<Exchange>,
}

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There was no connection; nothing was sent.
    Connect(Error),
    /// It broke before the reply came.
    Broke(Break),
}

impl Control {
    pub fn new(config: Arc<Config>, dialer: Arc<Dialer>) -> Self {
        let connecting = tokio::sync::Mutex::new(());
        Self { config, dialer, current: Mutex::default(), connecting }
    }

    /// The connection, made if need be.
    pub async fn connection(&self) -> Result<Arc<Connection>> {
        if let Some(open) = self.open() {
            return Ok(open);
        }
        let _only_one = self.connecting.lock().await;
        if let Some(open) = self.open() {
            return Ok(open);
        }
        let made = Arc::new(self.dialer.dial(&self.config).await?);
        let mut current = self.lock();
        current.connection = Arc::downgrade(&made);
        current.kept = (!current.given_up).then(|| Arc::clone(&made));
        drop(current);
        Ok(made)
    }

    /// Sends commands that give so many replies.
    pub async fn exchange(
        &self,
        replies: usize,
        pack: impl FnOnce(&mut Packer, &mut Vec<u8>),
    ) -> std::result::Result<Answer, Failure> {
        let connection = self.connection().await.map_err(Failure::Connect)?;
        let limit = self.config.command_timeout;
        let [exchange] = connection.send([replies], limit, pack).map_err(Failure::Broke)?;
        Ok(connection.answer(exchange).await)
    }

    /// Runs a script that `pack` calls, loading it if the server does not know it.
    pub async fn run(
        &self,
        script: &Script,
        pack: impl Fn(&mut Packer, &mut Vec<u8>),
    ) -> std::result::Result<Value, Failure> {
        let reply = self.command(&pack).await?;
        if !is_not_loaded(&reply) {
            return Ok(reply);
        }
        let answer = self.exchange(2, |packer, out| {
            script.pack_load(packer, out);
            pack(packer, out);
        });
        let answer = answer.await?;
        let mut replies = answer.replies.into_iter();
        match (replies.next(), replies.next()) {
            // Why it could not be loaded tells more than that it is not.
            (Some(error @ Value::ServerError(_)), _) => Ok(error),
            (_, Some(reply)) => Ok(reply),
            (_, None) => Err(Failure::Broke(answer.broken.expect("only a break leaves a reply out"))),
        }
    }

    /// Sends one command.
    pub async fn command(
        &self,
        pack: impl FnOnce(&mut Packer, &mut Vec<u8>),
    ) -> std::result::Result<Value, Failure> {
        let answer = self.exchange(1, pack).await?;
        match (answer.replies.into_iter().next(), answer.broken) {
            (Some(reply), _) => Ok(reply),
            (None, broken) => Err(Failure::Broke(broken.expect("only a break leaves a reply out"))),
        }
    }

    /// Makes the server look at its clock, so that it notices the end of a WAIT's time. Answers are not awaited. A
    /// connection that is being made does the same.
    pub fn nudge(self: &Arc<Self>) {
        if let Some(open) = self.open() {
            let last = self.lock().nudge.take();
            // One at a time: a server that hangs answers none, and they would pile up.
            let unanswered = last.filter(|exchange| exchange.is_empty() && !exchange.is_terminated());
            let nudge = unanswered.or_else(|| {
                let ping = open.send([1], self.config.command_timeout, |packer, out| {
                    packer.command(out, |cmd| {
                        cmd.arg("PING");
                    });
                });
                ping.ok().map(|[exchange]| exchange)
            });
            self.lock().nudge = nudge;
        } else if self.connecting.try_lock().is_ok() {
            let control = Arc::clone(self);
            tokio::spawn(async move {
                let _ = control.connection().await;
            });
        }
    }

    /// Keeps no connection from now on. Exchanges under way end with theirs; whoever comes later makes one for itself.
    pub fn hang_up(&self) {
        let mut current = self.lock();
        current.given_up = true;
        current.kept = None;
    }

    fn open(&self) -> Option<Arc<Connection>> {
        self.lock().connection.upgrade().filter(|connection| connection.is_open())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a reply says that the server does not know the script.
fn is_not_loaded(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
