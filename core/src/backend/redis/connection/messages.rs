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
    waiting: mpsc::Sender<Message>,
    overflowed: Arc<AtomicBool>,
    /// Which messages are not dropped.
    filter: Option<Arc<Filter>>,
}

/// Whether a message is of interest, by its channel and its payload.
pub(crate) type Filter = dyn Fn(&[u8], &[u8]) -> bool + Send + Sync;

/// Where the subscriber gets them.
pub(crate) struct Inbox {
    waiting: mpsc::Receiver<Message>,
    overflowed: Arc<AtomicBool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// The number that was published; `None` if it was something else.
    Number(Option<u64>),
    /// This sharded channel is not subscribed any more: its slot has moved to another node, or that was asked
    /// for.
    Unsubscribed(Box<str>),
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
    /// Takes a published message; returns any other reply. The end of a sharded subscription is one even if
    /// it was asked for: it may also come unasked, and looks the same.
    pub fn take(&self, value: Value) -> Option<Value> {
        let Value::Array(fields) = &value else { return Some(value) };
        let [Value::BulkString(kind), Value::BulkString(channel), payload, ..] = &fields[..] else {
            return Some(value);
        };
        let message = match &kind[..] {
            b"message" | b"smessage" => {
                let Value::BulkString(payload) = payload else {
                    self.put(Message::Number(None));
                    return None;
                };
                if self.filter.as_ref().is_some_and(|filter| !filter(channel, payload)) {
                    return None;
                }
                Message::Number(std::str::from_utf8(payload).ok().and_then(|it| it.parse().ok()))
            }
            b"sunsubscribe" => Message::Unsubscribed(String::from_utf8_lossy(channel).into()),
            _ => return Some(value),
        };
        self.put(message);
        None
    }

    fn put(&self, message: Message) {
        // If the subscriber is gone, it is not needed.
        if matches!(self.waiting.try_send(message), Err(mpsc::error::TrySendError::Full(_))) {
            self.overflowed.store(true, Ordering::Release);
        }
    }
}

impl Inbox {
    /// The next message; `None` once the connection is closed.
    pub async fn recv(&mut self) -> Option<Message> {
        // A full channel holds messages to receive, so this flag is soon checked.
        if self.overflowed.swap(false, Ordering::AcqRel) {
            return Some(Message::Lost);
        }
        self.waiting.recv().await
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

    #[tokio::test]
    async fn messages_of_sharded_channels_and_the_end_of_their_subscription_are_taken() {
        let (messages, mut inbox) = messages();
        let reply = |words: [&str; 2], last| {
            let [kind, channel] = words.map(|word| Value::BulkString(word.into()));
            Value::Array(vec![kind, channel, last])
        };
        assert_eq!(messages.take(reply(["smessage", "c"], Value::BulkString(b"7".into()))), None);
        assert_eq!(messages.take(reply(["sunsubscribe", "c"], Value::Int(0))), None);
        let subscribed = reply(["ssubscribe", "c"], Value::Int(1));
        assert_eq!(messages.take(subscribed.clone()), Some(subscribed));
        assert_eq!(inbox.recv().await, Some(Message::Number(Some(7))));
        assert_eq!(inbox.recv().await, Some(Message::Unsubscribed("c".into())));
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
