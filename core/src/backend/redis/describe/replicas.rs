//! Reads the clocks of the replicas, any of which may become the primary.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::clocks::ReplicaClock;
use crate::backend::guarantees::Skew;
use crate::backend::redis::config::endpoint::Endpoint;
use crate::backend::redis::connection::connect::{Purpose, open};
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::replies::expected::ExpectedReply;
use crate::backend::redis::protocol::values::{error_text, micros, printable};
use crate::runtime::clock::Clock;

/// How long all of them are waited for.
const TIME: Duration = Duration::from_secs(1);
/// The most that are asked.
const MAX_REPLICAS: usize = 8;

/// The replicas that INFO replication tells of, by host and port.
pub(super) fn told(info: &str) -> Vec<(String, u16)> {
    let replica = |line: &str| {
        let (name, fields) = line.trim_end().split_once(':')?;
        name.strip_prefix("slave")?.parse::<u32>().ok()?;
        let field =
            |name: &str| fields.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        Some((printable(field("ip")?), field("port")?.parse().ok()?))
    };
    info.lines().filter_map(replica).collect()
}

/// The clocks of the replicas of a server that replied with this INFO. Takes a second at most.
pub(super) async fn clocks(node: &NodeContext, info: &str) -> Vec<ReplicaClock> {
    let due = Instant::now() + TIME.min(node.settings.connect_timeout);
    let mut replicas = node.connector.route().replicas(&told(info));
    replicas.truncate(MAX_REPLICAS);
    join_all(replicas.into_iter().map(async |((host, port), endpoint)| {
        let skew = match endpoint {
            Ok(endpoint) => timeout_at(due, clock(&endpoint, &node.clock))
                .await
                .unwrap_or_else(|_| Err(format!("no reply within {} ms", TIME.as_millis()))),
            Err(error) => Err(error.to_string()),
        };
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        ReplicaClock { address, skew }
    }))
    .await
}

async fn clock(endpoint: &Endpoint, clock: &Clock) -> Result<Skew, String> {
    let (connection, _) =
        open(endpoint, Purpose::Commands).await.map_err(|error| reason(&error.to_string()))?;
    let sent = clock.wall_micros();
    let asked = connection.send([1], TIME, |packer, out| {
        packer.command(out, ExpectedReply::List, |cmd| {
            cmd.arg("TIME");
        });
    });
    let [exchange] = asked.map_err(|broken| broken.to_string())?;
    let reply = connection.receive(exchange).await.single();
    let received = clock.wall_micros();
    match reply {
        Ok(redis::Value::ServerError(error)) => Err(error_text(&error)),
        Ok(reply) => match micros(reply) {
            Some(server) => Ok(Skew::between(sent, server, received)),
            None => Err("its reply to TIME is not a time".to_owned()),
        },
        Err(broken) => Err(broken.map_or_else(|| "no reply".to_owned(), |broken| broken.to_string())),
    }
}

/// What failed, without the address before it and the advice after it.
fn reason(error: &str) -> String {
    let what = error.split(';').next().unwrap_or_default();
    what.split_once(": ").map_or(what, |(_, what)| what).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_told_by_their_addresses() {
        let info = "role:master\r\nconnected_slaves:2\r\n\
            slave0:ip=10.0.0.1,port=6379,state=online,offset=1,lag=0\r\n\
            slave1:ip=fd00::2,port=6380,state=wait_bgsave,offset=0,lag=0,type=replica\r\n\
            slave_read_only:1\r\nslave2:ip=10.0.0.3,state=online\r\n";
        assert_eq!(told(info), [("10.0.0.1".to_owned(), 6379), ("fd00::2".to_owned(), 6380)]);
        assert_eq!(told("role:slave\r\nslave_repl_offset:5\r\n"), []);
    }

    #[test]
    fn a_reason_has_neither_the_address_nor_advice() {
        let error =
            "cannot connect to redis at 10.0.0.1:6379: connection refused; nothing was granted; check";
        assert_eq!(reason(error), "connection refused");
        assert_eq!(reason("odd"), "odd");
    }
}
