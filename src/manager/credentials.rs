//! The functions `credentials` of options: their questions go through the completion queue, their answers
//! come here.

use napi_derive::napi;

use crate::manager::NativeManager;

#[napi]
impl NativeManager {
    /// The function returned these.
    #[napi(catch_unwind)]
    pub fn supply_credentials(
        &self,
        source: u32,
        question: u32,
        username: Option<String>,
        password: String,
        expires_in_ms: Option<f64>,
    ) {
        if let Some(credentials) = self.credentials.get(&source) {
            credentials.supply(question, username, password, expires_in_ms);
        }
    }

    /// The function failed.
    #[napi(catch_unwind)]
    pub fn fail_credentials(&self, source: u32, question: u32, why: String) {
        if let Some(credentials) = self.credentials.get(&source) {
            credentials.fail(question, why);
        }
    }

    /// Asks no more.
    #[napi(catch_unwind)]
    pub fn close_credentials(&self, source: u32) {
        if let Some(credentials) = self.credentials.get(&source) {
            credentials.close();
        }
    }
}
