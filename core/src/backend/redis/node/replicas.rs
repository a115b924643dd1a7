//! The number of connected replicas, for the error of a grant that too few acknowledged.

use std::time::Duration;

use crate::backend::redis::describe::info::online_replicas;
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::replies::expected::ExpectedReply;
use crate::backend::redis::protocol::values::text;
use crate::runtime::clock::BootInstant;

/// How long the result of INFO is reused, so that a batch that too few replicas acknowledged asks once.
const MAX_AGE: Duration = Duration::from_millis(10);

pub(crate) struct ConnectedReplicas {
    context: NodeContext,
    /// The last count, and when it was received. Held while asking, so that concurrent callers share the
    /// reply.
    last: tokio::sync::Mutex<Option<(BootInstant, Option<u32>)>>,
}

impl ConnectedReplicas {
    pub fn new(context: NodeContext) -> Self {
        Self { context, last: tokio::sync::Mutex::default() }
    }

    /// The number of connected replicas, if the server says so.
    pub async fn count(&self) -> Option<u32> {
        let mut last = self.last.lock().await;
        match *last {
            Some((received, count)) if received.until(self.context.clock.boot()) < MAX_AGE => count,
            _ => {
                let info = self.context.shared.command(|packer, out| {
                    packer.command(out, ExpectedReply::Text, |cmd| {
                        cmd.arg("INFO").arg("replication");
                    });
                });
                let count = info.await.ok().and_then(text).map(|info| online_replicas(&info));
                // The age counts from the reply: callers that waited here for a server that hangs need not
                // ask again.
                *last = Some((self.context.clock.boot(), count));
                count
            }
        }
    }
}
