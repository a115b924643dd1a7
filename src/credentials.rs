//! The answers of the function `redis.credentials`. Its questions come through the completion queue.

use napi_derive::napi;

use crate::manager::NativeManager;

#[napi]
impl NativeManager {
    /// The function returned these.
    #[napi(catch_unwind)]
    pub fn supply_credentials(
        &self,
        question: u32,
        username: Option<String>,
        password: String,
        expires_in_ms: Option<f64>,
    ) {
        if let Some(credentials) = &self.credentials {
            credentials.supply(question, username, password, expires_in_ms);
        }
    }

    /// The function failed.
    #[napi(catch_unwind)]
    pub fn fail_credentials(&self, question: u32, why: String) {
        if let Some(credentials) = &self.credentials {
            credentials.fail(question, why);
        }
    }

    /// Asks no more.
    #[napi(catch_unwind)]
    pub fn close_credentials(&self) {
        if let Some(credentials) = &self.credentials {
            credentials.close();
        }
    }
}
