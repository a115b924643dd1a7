//! A place for one connection, made when it is needed and made again when it broke.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::config::Config;
use super::connection::Connection;
use crate::error::{Error, Result};

/// The pause after the first failure to connect; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Connects on demand. After a failure, whoever asks within a pause is told the same at once: no call ever waits for
/// the end of a pause, and a server that comes back is not met by everybody at the same moment.
#[derive(Debug)]
pub(super) struct Link {
    config: Arc<Config>,
    /// An async mutex: those who come while somebody connects wait for that connection.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Connection>,
    failures: u32,
    /// Until when connecting is not tried, and why it failed.
    pause: Option<(Instant, Error)>,
}

impl Link {
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self { config, state: Mutex::default() }
    }

    /// An open connection.
    pub(super) async fn get(&self) -> Result<Connection> {
        let mut state = self.state.lock().await;
        if let Some(connection) = state.connection.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        state.connection = None;
        match &state.pause {
            Some((until, error)) if Instant::now() < *until => return Err(error.clone()),
            _ => {}
        }
        match Connection::open(&self.config).await {
            Ok(connection) => {
                state.failures = 0;
                state.pause = None;
                state.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                let pause = pause_after(state.failures, random_fraction());
                state.failures += 1;
                state.pause = Some((Instant::now() + pause, error.clone()));
                Err(error)
            }
        }
    }

    /// Gives up the connection; another is made when it is needed.
    pub(super) async fn disconnect(&self) {
        self.state.lock().await.connection = None;
    }
}

/// Exponential, with full jitter on its second half.
fn pause_after(failures: u32, fraction: f64) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE);
    longest.mul_f64(0.5 + fraction / 2.0)
}

/// From 0 to 1. Not for secrets.
pub(super) fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness there is no jitter, which is no reason to fail.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_differ() {
        assert_eq!(pause_after(0, 1.0), Duration::from_millis(25));
        assert_eq!(pause_after(0, 0.0), Duration::from_micros(12_500));
        assert_eq!(pause_after(2, 1.0), Duration::from_millis(100));
        assert_eq!(pause_after(60, 1.0), LONGEST_PAUSE);
    }
}
