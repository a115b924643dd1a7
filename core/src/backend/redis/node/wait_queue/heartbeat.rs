//! The heartbeat of all waiters of this process, which keeps their places, and finds the wake-ups that were
//! lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::{ServerError, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::{FLOOD_PAUSE, WaitQueue};
use crate::backend::redis::config::slot::slot_of;
use crate::backend::redis::connection::Connection;
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::lease_args::{Grouping, MAX_LEASES};
use crate::backend::redis::protocol::replies::expected::{ExpectedReply, ScriptReply};
use crate::backend::redis::protocol::replies::redirect::Redirect;
use crate::backend::redis::protocol::replies::refusals::concerns_names;
use crate::backend::redis::protocol::scripts::HEARTBEAT;

/// The pause between heartbeats. A process counts as alive for half as long again; see `wait_queue.lua`.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the subscription stays without waiters, because more may come soon.
const LINGER: Duration = Duration::from_secs(5);
/// A process without a heartbeat for this long is removed from its queues; see `wait_queue.lua`.
const ALIVE: Duration = Duration::from_millis(1_500);
/// How long the subscription may take to answer a PING, if a command may take as long. Nothing else would
/// show that it was dropped, or that its server hangs: silence is what it mostly hears.
const PROBE: Duration = Duration::from_secs(3);

impl WaitQueue {
    /// Sends heartbeats, and probes the connection that hears of wake-ups, until there have been no waiters
    /// for a while.
    pub(super) async fn send_heartbeats(&self, connection: &Connection, due: &Notify) {
        let clock = &self.context.clock;
        let (mut next, mut probed) = (Instant::now() + PAUSE, Instant::now());
        let mut idle_since = None;
        let mut last_alive = clock.boot();
        let mut ended = Instant::now();
        loop {
            let asked = async {
                due.notified().await;
                sleep_until(ended + FLOOD_PAUSE).await;
            };
            tokio::select! {
                () = sleep_until(next) => {}
                () = asked => {}
            }
            let started = Instant::now();
            next = started + PAUSE;
            let names = self.names();
            let last = std::mem::replace(&mut last_alive, clock.boot());
            if names.is_empty() {
                if started - *idle_since.get_or_insert(started) >= LINGER {
                    return;
                }
                continue;
            }
            idle_since = None;
            if started - probed >= PAUSE / 2 {
                probed = started;
                self.probe(connection);
            }
            let sooner = self.heartbeat(&names).await;
            ended = Instant::now();
            if last.until(last_alive) > ALIVE {
                // The process was stopped or suspended. Waiters that were removed go to the end of the
                // queues.
                self.wake_all();
            }
            next = started + sooner.unwrap_or(PAUSE).min(PAUSE);
        }
    }

    /// Asks the other end of the subscription for a sign of life. Without one the connection is closed.
    fn probe(&self, connection: &Connection) {
        let limit = self.context.settings.command_timeout.min(PROBE);
        // The reply is not awaited: a broken connection ends the subscription.
        let _ = connection.send([1], limit, |packer, out| {
            packer.command(out, ExpectedReply::Pong, |cmd| {
                cmd.arg("PING");
            });
        });
    }

    /// The resources with waiters.
    fn names(&self) -> Vec<Arc<str>> {
        let state = self.state.lock();
        let names: BTreeSet<&Arc<str>> =
            state.waiters.values().flat_map(|queued| queued.resources.as_slice()).collect();
        let mut names: Vec<_> = names.into_iter().cloned().collect();
        if self.context.grouping() == Grouping::BySlot {
            names.sort_by_cached_key(|name| slot_of(name));
        }
        names
    }

    /// Sends the heartbeat, and wakes waiters whose turn it is. Returns when the next heartbeat is due, if
    /// that is early.
    async fn heartbeat(&self, names: &[Arc<str>]) -> Option<Duration> {
        let mut sooner = None;
        let mut rest = names;
        while !rest.is_empty() {
            let (some, others) = rest.split_at(self.first_call(rest));
            match self.heartbeat_call(some).await {
                Some(Value::Array(replies)) => {
                    for (name, reply) in some.iter().zip(replies) {
                        sooner = sooner.into_iter().chain(self.handle_reply(name, &reply).await).min();
                    }
                }
                Some(Value::ServerError(error)) if self.is_redirect(&error) => {
                    // Their attempts find the node that has the slot, or whether it is free while it moves.
                    for name in some {
                        self.wake_waiters_for(name);
                    }
                }
                // A cluster accepts no keys of several slots in one call; or this user may not touch one of
                // the keys. Other errors would be the same for each name.
                Some(Value::ServerError(error)) if some.len() > 1 && concerns_names(&error) => {
                    // Together by slot, if that is new; otherwise one by one.
                    let by_slot = error.code() == "CROSSSLOT";
                    if !by_slot || self.context.by_slot.swap(true, Ordering::Relaxed) {
                        self.separately.store(true, Ordering::Relaxed);
                    }
                    continue;
                }
                _ => {}
            }
            rest = others;
        }
        sooner
    }

    /// How many of these resources share the first call.
    fn first_call(&self, names: &[Arc<str>]) -> usize {
        if self.separately.load(Ordering::Relaxed) {
            return 1;
        }
        let most = names.len().min(MAX_LEASES);
        match self.context.grouping() {
            Grouping::BySlot => {
                let slot = slot_of(&names[0]);
                names[..most].iter().take_while(|name| slot_of(name) == slot).count()
            }
            Grouping::All | Grouping::None => most,
        }
    }

    /// Whether another node of the cluster has the slot, or may have it soon. Passed on to those who keep the
    /// cluster's map.
    pub(super) fn is_redirect(&self, error: &ServerError) -> bool {
        let redirect = Redirect::parse(error).filter(|_| self.context.of_cluster);
        redirect.inspect(|redirect| self.context.connector.route().redirected(redirect)).is_some()
    }

    async fn heartbeat_call(&self, names: &[Arc<str>]) -> Option<Value> {
        let keys = &self.context.settings.keys;
        let process = keys.process();
        let names = names.iter().map(AsRef::as_ref);
        let shape = ScriptReply::Numbers(names.len());
        let call = self.context.shared.run_script(&HEARTBEAT, |packer, out| {
            HEARTBEAT.pack_queues(keys, &names, Some(&process), shape, packer, out);
        });
        // A server that hangs must not keep the subscriber from noticing that it is back.
        timeout(self.context.settings.command_timeout, call).await.ok()?.ok()
    }

    /// Handles the reply of heartbeat.lua for one resource. Returns when the next heartbeat is due, if that
    /// is early.
    async fn handle_reply(&self, name: &str, reply: &Value) -> Option<Duration> {
        match *reply {
            Value::Int(0) => self.wake_waiters_for(name),
            Value::Int(number) if number > 0 => {
                let number = number.unsigned_abs();
                if !self.wake(number) {
                    // It left, and the server does not know.
                    let NodeContext { settings, of_cluster, .. } = &self.context;
                    for entry in settings.keys.queue_entries(number, *of_cluster) {
                        let _ = self.remove_entry([name].into_iter(), &entry).await;
                    }
                }
            }
            Value::Int(left) if left < -1 => return Some(Duration::from_millis(left.unsigned_abs())),
            _ => {}
        }
        None
    }

    /// They are not in the server's queue, for example after a failover to a replica that did not have them.
    fn wake_waiters_for(&self, name: &str) {
        let state = self.state.lock();
        let waiters = state.waiters.values();
        waiters
            .filter(|queued| queued.resources.as_slice().iter().any(|resource| &**resource == name))
            .for_each(|queued| queued.waiter.wake());
    }
}
