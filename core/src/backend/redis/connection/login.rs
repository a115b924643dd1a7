//! Keeps a connection logged in with the newest credentials.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::Value;

use super::Connection;
use super::exchanges::{Exchange, Shared};
use super::login_watch::LoginWatch;
use super::route::Retire;
use crate::backend::redis::config::credentials::{AskedCredentials, Credentials};
use crate::backend::redis::protocol::replies::expected::ExpectedReply;
use crate::backend::redis::protocol::values::error_text;

impl Connection {
    /// Logs in again when there are new credentials. `used` are those of the handshake.
    ///
    /// AUTH travels among the batches like any command, and if it is refused, the connection stays as it was.
    /// A subscriber is not allowed to send it, so its connection closes, for another to be made.
    pub fn keep_logged_in(
        &self,
        asked: &Arc<AskedCredentials>,
        used: &Arc<Credentials>,
        limit: Duration,
        is_subscriber: bool,
    ) {
        let watch = Arc::new(LoginWatch::new(Arc::clone(asked)));
        let login = Login {
            connection: Arc::downgrade(&self.shared),
            used: Arc::clone(used),
            watch: Arc::clone(&watch),
            limit,
            is_subscriber,
        };
        let task = tokio::spawn(login.keep()).abort_handle();
        let mut state = self.shared.state.lock();
        state.login = Some(watch);
        if state.broken.is_some() {
            task.abort();
        } else {
            state.tasks.push(task);
        }
    }
}

struct Login {
    connection: Weak<Shared>,
    used: Arc<Credentials>,
    watch: Arc<LoginWatch>,
    limit: Duration,
    is_subscriber: bool,
}

impl Login {
    async fn keep(mut self) {
        let mut changes = self.watch.asked.changes();
        loop {
            let newest = self.watch.asked.current().filter(|newest| newest.version != self.used.version);
            if let Some(newest) = newest {
                self.used = newest;
                if self.renew().await.is_none() {
                    return;
                }
                continue;
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = self.watch.logged_out.notified() => {
                    if self.renew().await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// `None`: the connection ends.
    async fn renew(&self) -> Option<()> {
        let exchange = self.send()?;
        match exchange.await.ok()?.single().ok()? {
            Value::ServerError(error) => self.watch.asked.refused(&self.used, &error_text(&error)),
            _ => self.watch.asked.accepted(&self.used),
        }
        Some(())
    }

    fn send(&self) -> Option<Exchange> {
        let connection = self.connection.upgrade()?;
        if self.is_subscriber {
            connection.retire(&"there are new credentials".into());
            return None;
        }
        let auth = self.used.auth();
        let sent = connection.send([1], self.limit, |packer, out| {
            packer.built(out, ExpectedReply::Text, &auth);
        });
        sent.ok().map(|[exchange]| exchange)
    }
}
