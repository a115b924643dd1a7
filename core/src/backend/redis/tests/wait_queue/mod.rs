//! The wait queue on a real server, one script at a time: who is woken, and how often.

mod dead_waiters;
mod flood;
mod places;
mod worlds;

use redis::Value;

use super::*;
use crate::backend::redis::config::Settings;
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::lease_args::LeaseArgs;
use crate::backend::redis::protocol::replies::expected::ScriptReply;
use crate::backend::redis::protocol::scripts::{
    ACQUIRE, HEARTBEAT, JOIN_QUEUE, LEAVE_QUEUE, RELEASE, Script,
};
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

    /// A lease on this name, far longer than a test takes.
    async fn hold(&self, name: &str) -> Request {
        let lease = request(one(name), 600_000, acks(0, 0));
        assert!(is_granted(&self.attempt(&LeaseArgs::acquire(&lease)).await));
        lease
    }

    async fn release(&self, Request { resources, owner, .. }: &Request) -> Value {
        let lease = LeaseArgs::release(resources, *owner);
        let reply = self.0.shared.run_script(&RELEASE, |packer, out| {
            RELEASE.pack(&self.0.settings.keys, std::iter::once(&lease), packer, out);
        });
        first(reply.await.unwrap())
    }

    async fn leave(&self, resources: &Resources, waiter: &Waiter) {
        self.queue(&LEAVE_QUEUE, resources, waiter).await;
    }

    async fn join(&self, resources: &Resources, waiter: &Waiter) -> Value {
        self.queue(&JOIN_QUEUE, resources, waiter).await
    }

    async fn queue(&self, script: &Script, resources: &Resources, waiter: &Waiter) -> Value {
        let Settings { keys, .. } = &*self.0.settings;
        let entry = keys.waiter(waiter);
        let names = resources.as_slice().iter().map(AsRef::as_ref);
        let reply = self.0.shared.run_script(script, |packer, out| {
            script.pack_queues(keys, &names, Some(&entry), ScriptReply::Number, packer, out);
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

/// A server, one process, and everything that is published to it.
fn one_process() -> (Server, Process, Subscriber) {
    let server = Server::start(&[]);
    let process = Process::new(&server);
    let subscriber = Subscriber::new(&server, std::iter::once(&process));
    (server, process, subscriber)
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
