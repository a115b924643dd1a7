//! The connection that hears of wake-ups, for as long as there are waiters.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::{FLOOD_PAUSE, Subscription, WaitQueue};
use crate::backend::redis::connection::messages::{Inbox, Message, messages};
use crate::backend::redis::connection::{Connection, Messages};
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::operation::Operation;
use crate::backend::redis::protocol::replies::expected::ExpectedReply;
use crate::backend::redis::protocol::replies::refusals::is_missing_command;
use crate::runtime::backoff::Backoff;

/// The pauses before another attempt to subscribe. Waiters are woken after each, so the longest is also the
/// time after which those that cannot hear of a release notice it.
const RESUBSCRIBE: Backoff = Backoff::jittered(Duration::from_millis(20), Duration::from_secs(1));
/// After a subscription that lasted this long there is no pause. One that ends at once, as behind a proxy
/// that answers SUBSCRIBE and then closes, would otherwise be made thousands of times a second. The same
/// bounds what a client can do that publishes messages larger than any reply (64 KiB): each breaks the
/// connection, so the next one is heard only after a pause, or after this time.
const LASTING: Duration = Duration::from_secs(2);

impl WaitQueue {
    /// Keeps the subscription while there are waiters.
    pub(super) async fn run_subscriber(self: Arc<Self>) {
        let mut backoff = RESUBSCRIBE;
        loop {
            let started = Instant::now();
            let (sender, mut inbox) = messages();
            let subscription = match self.subscribe(sender).await {
                Ok(connection) => {
                    self.set_subscription(Subscription::Active);
                    // For what happened before the subscription.
                    self.wake_all();
                    self.listen(&connection, &mut inbox).await;
                    self.end_channels();
                    Subscription::Pending
                }
                Err(failed) => failed,
            };
            let failed = !matches!(subscription, Subscription::Pending);
            self.set_subscription(subscription);
            if failed {
                // Perhaps the server is away: then their attempts report it.
                self.wake_all();
            }
            if self.is_unused() {
                return;
            }
            if failed || started.elapsed() < LASTING {
                tokio::select! {
                    () = sleep(backoff.next_pause()) => {}
                    () = self.closed() => {}
                }
            } else {
                backoff = RESUBSCRIBE;
            }
            if self.is_unused() {
                return;
            }
            // New waiters wait for the next attempt instead of getting the error of the last one.
            self.set_subscription(Subscription::Pending);
        }
    }

    pub(super) fn set_subscription(&self, subscription: Subscription) {
        self.state.lock().subscription = subscription;
        self.changed.notify_waiters();
    }

    /// Whether no subscription is needed any more. Then the next waiter starts another subscriber.
    fn is_unused(&self) -> bool {
        let mut state = self.state.lock();
        let unused = state.waiters.is_empty() || state.closed;
        state.subscriber_running = !unused;
        unused
    }

    /// Returns once the queue is closed.
    async fn closed(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Enabled before the check, so that no change in between is missed.
            changed.as_mut().enable();
            if self.state.lock().closed {
                return;
            }
            changed.await;
        }
    }

    async fn subscribe(&self, messages: Messages) -> Result<Connection, Subscription> {
        let NodeContext { settings, connector, .. } = &self.context;
        let Ok(connection) = connector.connect_subscriber(messages).await else {
            return Err(Subscription::Away);
        };
        let sent = connection.send([1], settings.command_timeout, |packer, out| {
            packer.command(out, ExpectedReply::List, |cmd| {
                cmd.arg("SUBSCRIBE").arg(settings.keys.channel());
            });
        });
        let Ok([exchange]) = sent else { return Err(Subscription::Away) };
        match connection.receive(exchange).await.single() {
            Ok(Value::ServerError(error)) if error.code() == "NOPERM" || is_missing_command(&error) => {
                let context = self.context.reply_context(Operation::Query);
                let reply = Value::ServerError(error);
                Err(Subscription::Refused(context.cannot_subscribe(&reply, &settings.keys.channel_prefix())))
            }
            Ok(Value::ServerError(_)) | Err(_) => Err(Subscription::Away),
            Ok(_) => {
                self.begin_channels(&connection).await;
                Ok(connection)
            }
        }
    }

    /// Wakes waiters whose turn it is and sends their heartbeats, until the connection breaks, or there have
    /// been no waiters for a while.
    async fn listen(&self, connection: &Connection, inbox: &mut Inbox) {
        let heartbeat_due = Notify::new();
        tokio::select! {
            () = self.dispatch(inbox, &heartbeat_due) => {}
            () = self.send_heartbeats(connection, &heartbeat_due) => {}
            () = self.follow_channels(connection) => {}
            () = self.closed() => {}
        }
    }

    /// Wakes the waiters that messages name, and asks for a heartbeat after all others, until the connection
    /// breaks.
    async fn dispatch(&self, inbox: &mut Inbox, heartbeat_due: &Notify) {
        let mut all_woken: Option<Instant> = None;
        while let Some(message) = inbox.recv().await {
            match message {
                Message::Lost => {
                    if let Some(last) = all_woken {
                        // Meanwhile more may be lost, which this wake-up is for, too.
                        sleep_until(last + FLOOD_PAUSE).await;
                    }
                    self.wake_all();
                    all_woken = Some(Instant::now());
                }
                Message::Unsubscribed(channel) => self.channel_ended(&channel),
                Message::Number(number) => {
                    if !number.is_some_and(|number| self.wake(number)) {
                        heartbeat_due.notify_one();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::QueuedWaiter;
    use super::*;
    use crate::backend::waiter::Waiter;
    use crate::lease::Resources;

    /// A published message that is no number.
    fn foreign() -> Value {
        Value::Array(["message", "channel", "x"].map(|word| Value::BulkString(word.into())).into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_messages_does_not_wake_all_waiters_again_and_again() {
        let queue = WaitQueue::new(NodeContext::of_server("redis://127.0.0.1:1"));
        let waiter = Waiter::new(false);
        let resources = Resources::one("r".to_owned()).unwrap();
        let queued =
            QueuedWaiter { resources, waiter: waiter.clone(), channels: Box::default(), on_server: true };
        queue.state.lock().waiters.insert(waiter.number(), queued);
        let (sender, mut inbox) = messages();
        let due = Notify::new();
        let mut wakes = 0;
        let counted = async {
            loop {
                waiter.woken().await;
                wakes += 1;
            }
        };
        let flood = async {
            // The clock of this test stands still except in these pauses.
            for _ in 0..200 {
                for _ in 0..5_000 {
                    sender.take(foreign());
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = queue.dispatch(&mut inbox, &due) => panic!("the connection is open"),
            () = counted => {}
            () = flood => {}
        }
        assert!((5..=11).contains(&wakes), "{wakes} times in 200 ms");
    }
}
