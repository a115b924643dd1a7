//! Finding the locks on one server, in steps that are short for all who use it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, sleep};

use crate::backend::redis::config::lock_names::LockNames;
use crate::backend::redis::connection::shared::ExchangeError;
use crate::backend::redis::connection::{Connection, Response};
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::listing::{pack_scan, scanned};
use crate::backend::redis::protocol::operation::Operation;
use crate::error::{Error, Result};
use crate::runtime::backoff::Backoff;

/// The most keys that one SCAN looks at. A server takes less than a millisecond for them.
const KEYS: usize = 1_000;
/// At first, because they may all be locks with long names.
const FIRST_KEYS: usize = 125;
/// The fewest.
const FEWEST_KEYS: usize = 50;
/// Names of more bytes than this are too many for one reply: releases wait behind them. Then the next SCAN
/// looks at fewer keys, and at more if they have much less.
const MANY_BYTES: usize = 32 * 1024;
/// How often a scan starts again at most, because its connection is another one.
const MAX_RESTARTS: u32 = 20;
/// Between tries to reach the server.
const RETRY: Backoff = Backoff::jittered(Duration::from_millis(20), Duration::from_millis(500));

/// Where a scan begins, and has ended.
const BEGIN: &str = "0";

/// A scan of one server, from its first key to its last.
#[derive(Debug)]
pub(crate) struct Scan {
    names: Arc<LockNames>,
    pattern: Arc<[u8]>,
    cursor: String,
    /// A cursor means something only to the server it came from.
    connection: Weak<Connection>,
    count: usize,
    restarts: u32,
    is_done: bool,
}

impl Scan {
    /// Nothing is scanned yet.
    pub fn new(names: &Arc<LockNames>) -> Self {
        Self {
            names: Arc::clone(names),
            pattern: names.pattern().into(),
            cursor: BEGIN.to_owned(),
            connection: Weak::new(),
            count: FIRST_KEYS,
            restarts: 0,
            is_done: false,
        }
    }

    /// Whether the last key was looked at.
    pub const fn is_done(&self) -> bool {
        self.is_done
    }

    /// The resources of the locks among the next keys, some of which may have been found before. While the
    /// server may be replaced, waits for the next one for as long as connecting may take.
    pub async fn step(&mut self, context: &NodeContext) -> Result<Vec<String>> {
        let until = Instant::now() + context.settings.connect_timeout;
        let mut retry = RETRY;
        loop {
            let error = match self.attempt(context).await {
                Ok(names) => return Ok(names),
                Err(error) => error,
            };
            let pause = retry.next_pause();
            if !error.is_failover() || Instant::now() + pause > until {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    async fn attempt(&mut self, context: &NodeContext) -> Result<Vec<String>> {
        loop {
            let connection = context.shared.get().await?;
            if !std::ptr::eq(self.connection.as_ptr(), &raw const *connection) {
                self.connection = Arc::downgrade(&connection);
                if self.cursor != BEGIN {
                    self.start_again();
                }
            }
            let packed = context.shared.exchange_on(&connection, 1, |packer, out| {
                pack_scan(&self.cursor, &self.pattern, self.count, packer, out);
            });
            let failed = match packed.await.map(Response::single) {
                Ok(Ok(reply)) => return self.read(context, reply),
                Ok(Err(broken)) => broken.map_or_else(
                    || Error::unavailable("there was no reply"),
                    |broken| context.query_failed(ExchangeError::Broken(broken)),
                ),
                Err(error) => context.query_failed(error),
            };
            if self.restarts >= MAX_RESTARTS {
                return Err(failed);
            }
            self.start_again();
        }
    }

    fn start_again(&mut self) {
        self.restarts += 1;
        self.count = (self.count / 2).max(FEWEST_KEYS);
        BEGIN.clone_into(&mut self.cursor);
    }

    fn read(&mut self, context: &NodeContext, reply: Value) -> Result<Vec<String>> {
        if let Value::ServerError(_) = reply {
            return Err(context.reply_context(Operation::Query).error(&reply));
        }
        let (cursor, keys) =
            scanned(reply).ok_or_else(|| context.reply_context(Operation::Query).error(&Value::Nil))?;
        self.is_done = cursor == BEGIN;
        self.cursor = cursor;
        self.count = next_count(self.count, keys.iter().map(Vec::len).sum());
        Ok(keys.iter().filter_map(|key| self.names.resource(key)).collect())
    }
}

/// How many keys the next SCAN looks at, if the last one looked at so many, and found names of so many bytes.
fn next_count(last: usize, found: usize) -> usize {
    if found > MANY_BYTES {
        (last / 2).max(FEWEST_KEYS)
    } else if found < MANY_BYTES / 4 {
        (last * 2).min(KEYS)
    } else {
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_read_in_smaller_steps() {
        let counts = |density: usize, name: usize| {
            let next = |count: &usize| Some(next_count(*count, *count * density / 100 * name));
            std::iter::successors(Some(FIRST_KEYS), next).take(20).collect::<Vec<_>>()
        };
        assert_eq!(counts(0, 0)[..4], [125, 250, 500, KEYS]);
        assert_eq!(*counts(50, 25).last().unwrap(), KEYS);
        // Half of all keys are locks with the longest names.
        let long = counts(50, 540);
        assert!(long.iter().all(|count| count / 2 * 540 <= 2 * MANY_BYTES), "{long:?}");
        assert_eq!(next_count(FEWEST_KEYS, usize::MAX), FEWEST_KEYS);
    }
}
