//! Published messages, on their way from the connection to its subscriber.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::Value;
use tokio::sync::mpsc;

/// The most messages that wait. Every client that may publish could fill the memory otherwise.
const MAX_WAITING: usize = 1_024;

/// Where the connection puts messages.
#[derive(Clone)]
pub(crate) struct Messages {
    waiting: mpsc::Sender<Option<u64>>,
    overflowed: Arc<AtomicBool>,
    /// Which messages are not dropped.
    filter: Option<Arc<Filter>>,
}

/// Whether a message is of interest, by its channel and its payload.
pub(crate) type Filter = dyn Fn(&[u8], &[u8]) -> bool + Send + Sync;

/// Where the subscriber gets them.
pub(crate) struct Inbox {
    waiting: mpsc::Receiver<Option<u64>>,
    overflowed: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// The number that was published; `None` if it was something else.
    Number(Option<u64>),
    /// More messages came than can wait: some are lost.
    Lost,
}

pub(crate) fn messages() -> (Messages, Inbox) {
    channel(None)
}

/// Those that pass the filter; the others are dropped.
pub(crate) fn messages_about(filter: Arc<Filter>) -> (Messages, Inbox) {
    channel(Some(filter))
}

fn channel(filter: Option<Arc<Filter>>) -> (Messages, Inbox) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let overflowed = Arc::new(AtomicBool::new(false));
    (
        Messages { waiting: sender, overflowed: Arc::clone(&overflowed), filter },
        Inbox { waiting: receiver, overflowed },
    )
}

impl Messages {
    /// Takes a published message; returns any other reply.
    pub fn take(&self, value: Value) -> Option<Value> {
        let Value::Array(fields) = &value else { return Some(value) };
        if !matches!(fields.first(), Some(Value::BulkString(kind)) if kind == b"message") {
            return Some(value);
        }
        if let (Some(filter), [_, Value::BulkString(channel), Value::BulkString(payload)]) =
            (&self.filter, &fields[..])
            && !filter(channel, payload)
        {
            return None;
        }
        let number = match fields.get(2) {
            Some(Value::BulkString(digits)) => {
                std::str::from_utf8(digits).ok().and_then(|it| it.parse().ok())
            }
            _ => None,
        };
        // If the subscriber is gone, it is not needed.
        if matches!(self.waiting.try_send(number), Err(mpsc::error::TrySendError::Full(_))) {
            self.overflowed.store(true, Ordering::Release);
        }
        None
    }
}

impl Inbox {
    /// The next message; `None` once the connection is closed.
    pub async fn recv(&mut self) -> Option<Message> {
        // A full channel holds messages to receive, so this flag is soon checked.
        if self.overflowed.swap(false, Ordering::AcqRel) {
            return Some(Message::Lost);
        }
        self.waiting.recv().await.map(Message::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(payload: &str) -> Value {
        Value::Array(["message", "channel", payload].map(|word| Value::BulkString(word.into())).into())
    }

    #[tokio::test]
    async fn messages_that_find_no_room_are_reported_as_lost() {
        let (messages, mut inbox) = messages();
        for number in 0..MAX_WAITING {
            assert_eq!(messages.take(published(&number.to_string())), None);
        }
        assert_eq!(inbox.recv().await, Some(Message::Number(Some(0))));
        messages.take(published("no number"));
        for _ in 0..10_000 {
            messages.take(published("7"));
        }
        assert_eq!(inbox.recv().await, Some(Message::Lost));
        let mut received = 0;
        while received < MAX_WAITING - 1 {
            assert!(matches!(inbox.recv().await, Some(Message::Number(Some(_)))));
            received += 1;
        }
        assert_eq!(inbox.recv().await, Some(Message::Number(None)));
        drop(messages);
        assert_eq!(inbox.recv().await, None);
    }

    #[test]
    fn other_replies_are_given_back() {
        let (messages, _inbox) = messages();
        let subscribed = ["subscribe", "channel"].map(|word| Value::BulkString(word.into()));
        for reply in [Value::Int(1), Value::Array(Vec::new()), Value::Array(subscribed.into())] {
            assert_eq!(messages.take(reply.clone()), Some(reply));
        }
    }
}
