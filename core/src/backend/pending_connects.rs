//! What waits for a connection, and is not to wait any more when its manager is closed.

use tokio::sync::Notify;

use crate::error::{Error, Result};

/// Those that wait for connections to the servers of one backend.
#[derive(Debug, Default)]
pub(crate) struct PendingConnects(Notify);

impl PendingConnects {
    /// What `connecting` returns, unless it is abandoned before. Nothing was sent then that could grant.
    pub async fn wait<T>(&self, connecting: impl Future<Output = Result<T>>) -> Result<T> {
        let abandoned = self.0.notified();
        tokio::select! {
            biased;
            connected = connecting => connected,
            () = abandoned => Err(Error::unavailable(
                "the manager was closed before there was a connection",
            )),
        }
    }

    /// Has all that wait now return. What comes later may connect: leases are released in the background
    /// after the end of their manager, too.
    pub fn abandon(&self) {
        self.0.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_abandoned_and_what_comes_later_is_not() {
        let pending = PendingConnects::default();
        let waiting = pending.wait(std::future::pending::<Result<()>>());
        let (abandoned, ()) = tokio::join!(waiting, async { pending.abandon() });
        assert_eq!(abandoned.unwrap_err().code(), "BACKEND_UNAVAILABLE");
        pending.abandon();
        let later = async {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            Ok(())
        };
        assert_eq!(pending.wait(later).await, Ok(()));
    }
}
