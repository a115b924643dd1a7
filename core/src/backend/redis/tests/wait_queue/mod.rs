//! The wait queue on a real server, one script at a time: who is woken, and how often.

mod dead_waiters;
mod flood;
mod places;
mod worlds;

use redis::Value;

use super::*;
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::expected::ScriptReply;
use crate::backend::redis::protocol::lease_args::LeaseArgs;
use crate::backend::redis::protocol::scripts::{ACQUIRE, HEARTBEAT, JOIN_QUEUE, LEAVE_QUEUE, RELEASE};
use crate::backend::redis::protocol::values::text;
use crate::backend::redis::tests::servers::server::{Server, available};
use crate::backend::waiter::Waiter;

/// A process: its name in queues, and its connection.
struct Process(NodeContext);

impl Process {
    fn new(server: &Server) -> Self {
        Self(NodeContext::of_server(&server.url()))
    }

    fn name(&self) -> String {
        self.0.settings.keys.process()
    }

    async fn attempt(&self, lease: &LeaseArgs) -> Value {
        let reply = self.0.shared.run_script(&ACQUIRE, |packer, out| {
            ACQUIRE.pack(&self.0.settings.keys, std::iter::once(lease), packer, out);
        });
        first(reply.await.unwrap())
    }

    async fn release(&self, lease: &LeaseArgs) -> Value {
        let reply = self.0.shared.run_script(&RELEASE, |packer, out| {
            RELEASE.pack(&self.0.settings.keys, std::iter::once(lease), packer, out);
        });
        first(reply.await.unwrap())
    }

    async fn leave(&self, resources: &Resources, waiter: &Waiter) {
        let entry = self.0.settings.keys.waiter(waiter);
        let names = resources.as_slice().iter().map(AsRef::as_ref);
        let reply = self.0.shared.run_script(&LEAVE_QUEUE, |packer, out| {
            LEAVE_QUEUE.pack_queues(
                &self.0.settings.keys,
                &names,
                Some(&entry),
                ScriptReply::Number,
                packer,
                out,
            );
        });
        reply.await.unwrap();
    }

    async fn join(&self, resources: &Resources, waiter: &Waiter) -> Value {
        let entry = self.0.settings.keys.waiter(waiter);
        let names = resources.as_slice().iter().map(AsRef::as_ref);
        let reply = self.0.shared.run_script(&JOIN_QUEUE, |packer, out| {
            JOIN_QUEUE.pack_queues(
                &self.0.settings.keys,
                &names,
                Some(&entry),
                ScriptReply::Number,
                packer,
                out,
            );
        });
        first(reply.await.unwrap())
    }

    async fn heartbeat(&self, names: &[&str]) -> Value {
        let (process, shape) = (self.name(), ScriptReply::Numbers(names.len()));
        let names = names.iter().copied();
        let reply = self.0.shared.run_script(&HEARTBEAT, |packer, out| {
            HEARTBEAT.pack_queues(&self.0.settings.keys, &names, Some(&process), shape, packer, out);
        });
        first(reply.await.unwrap())
    }
}

/// The only reply, or the first of several.
fn first(reply: Value) -> Value {
    match reply {
        Value::Array(replies) => replies.into_iter().next().unwrap(),
        reply => reply,
    }
}

fn is_granted(reply: &Value) -> bool {
    matches!(reply, Value::Int(1..))
}

/// Everything that is published to these processes.
struct Subscriber(redis::Connection);

impl Subscriber {
    fn new<'a>(server: &Server, processes: impl Iterator<Item = &'a Process>) -> Self {
        let mut connection = server.client();
        for process in processes {
            let mut subscribe = redis::cmd("SUBSCRIBE");
            subscribe.arg(process.0.settings.keys.channel());
            connection.send_packed_command(&subscribe.get_packed_command()).unwrap();
            connection.recv_response().unwrap();
        }
        Self(connection)
    }

    /// The numbers that were published until now.
    fn take(&mut self) -> Vec<u64> {
        self.0.send_packed_command(&redis::cmd("PING").get_packed_command()).unwrap();
        let mut numbers = Vec::new();
        loop {
            let Value::Array(fields) = self.0.recv_response().unwrap() else { panic!("no list") };
            let mut fields = fields.into_iter().map(|field| text(field).unwrap_or_default());
            if fields.next().as_deref() == Some("pong") {
                return numbers;
            }
            numbers.push(fields.nth(1).unwrap().parse().unwrap());
        }
    }
}
