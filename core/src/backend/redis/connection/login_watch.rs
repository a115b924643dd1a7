//! Notices that a server no longer knows who a connection is.

use std::sync::Arc;

use redis::ServerError;
use tokio::sync::Notify;

use crate::backend::redis::config::credentials::AskedCredentials;

/// Hears the errors of a connection, which may say that the login has ended.
pub(super) struct LoginWatch {
    pub asked: Arc<AskedCredentials>,
    pub logged_out: Notify,
}

impl LoginWatch {
    pub fn new(asked: Arc<AskedCredentials>) -> Self {
        Self { asked, logged_out: Notify::new() }
    }

    /// A user who lacks a permission gets NOPERM, too: it says something new only after the expiry.
    pub fn hear(&self, error: &ServerError) {
        if error.code() == "NOAUTH" || (error.code() == "NOPERM" && self.asked.is_expired()) {
            self.logged_out.notify_one();
        }
    }
}
