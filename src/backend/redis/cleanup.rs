//! What an unknown outcome left behind is deleted in the background, comparing the owner.
//!
//! "Nothing there" does not end it: a request that got stuck on its way can still arrive and be granted. Only a
//! confirmed deletion does, or the TTL since sending. It keeps no process alive, and can touch no later lease, because
//! every attempt has an owner of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::link::random_fraction;
use super::node::Node;
use crate::clock::BootInstant;
use crate::lease::{Owner, Resources};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The server counts the TTL from when it ran the script, which may be later than when it was sent; after that long a
/// request that is still on its way is dead with its connection.
const LATENESS: Duration = Duration::from_secs(1);

/// Deletes until it is confirmed, or until `end` and a little more. On a thread of ours, and counted while it lasts.
pub(super) fn start(node: &Arc<Node>, resources: Resources, owner: Owner, end: BootInstant) {
    let node = Arc::clone(node);
    node.cleanups.fetch_add(1, Ordering::Relaxed);
    tokio::spawn(async move {
        let mut pause = FIRST_PAUSE;
        loop {
            if matches!(node.delete(&resources, owner).await, Ok(deleted) if deleted > 0) {
                break;
            }
            if node.clock.boot() > end + LATENESS {
                break;
            }
            tokio::time::sleep(pause.mul_f64(0.5 + random_fraction() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        node.cleanups.fetch_sub(1, Ordering::Relaxed);
        node.rest().await;
    });
}
