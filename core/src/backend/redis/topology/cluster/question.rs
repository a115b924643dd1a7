//! What does one node know of its cluster?

use std::sync::Arc;

use redis::{ServerError, Value};

use super::map::{Answer, ClusterMap};
use crate::backend::redis::config::Settings;
use crate::backend::redis::config::address::Address;
use crate::backend::redis::config::endpoint::{Endpoint, ServerKind};
use crate::backend::redis::connection::Connection;
use crate::backend::redis::connection::connect::{Purpose, open};
use crate::backend::redis::protocol::replies::expected::ExpectedReply;
use crate::backend::redis::protocol::values::{error_text, text};
use crate::error::{Consequence, Error, Report, Result};

/// The map of the node at this address, and the connection to it, which may be an open one. The caller limits
/// the time.
pub(super) async fn ask(
    address: &Address,
    settings: &Arc<Settings>,
    connection: Option<Connection>,
) -> Result<(Connection, Answer)> {
    let connection = if let Some(connection) = connection {
        connection
    } else {
        let settings = Arc::clone(settings);
        let endpoint = Endpoint { address: address.clone(), kind: ServerKind::ClusterNode, settings };
        let due = tokio::time::Instant::now() + endpoint.settings.connect_timeout;
        endpoint.settings.credentials.ready(due).await?;
        open(&endpoint, Purpose::Commands).await?.0
    };
    // This limit never elapses first.
    let sent = connection.send([2], settings.connect_timeout * 2, |packer, out| {
        for (words, expected) in
            [(["CLUSTER", "SLOTS"], ExpectedReply::Map), (["CLUSTER", "INFO"], ExpectedReply::Text)]
        {
            packer.command(out, expected, |cmd| {
                cmd.arg(&words);
            });
        }
    });
    let response = match sent {
        Ok([exchange]) => connection.receive(exchange).await,
        Err(broken) => return Err(unavailable(address, "the connection broke", "try again", &broken.why)),
    };
    let mut replies = response.replies.into_iter();
    let (slots, info) = (replies.next(), replies.next());
    let map = match slots {
        None => {
            let why = response.broken.map_or_else(|| "no reply".into(), |broken| broken.why);
            return Err(unavailable(address, "the connection broke", "try again", &why));
        }
        Some(Value::ServerError(error)) => return Err(refused(address, &error)),
        Some(slots) => ClusterMap::parse(slots, host(address)),
    };
    let map = map.ok_or_else(|| {
        let what = "no slot has a primary in its map of the cluster";
        unavailable(address, what, "check CLUSTER INFO", "the reply to CLUSTER SLOTS")
    })?;
    Ok((connection, Answer { map, epoch: info.map_or(0, epoch) }))
}

fn unavailable(address: &Address, what: &str, remedy: &str, cause: &str) -> Error {
    Error::BackendUnavailable(report(address, what, remedy, cause))
}

fn report(address: &Address, what: &str, remedy: &str, cause: &str) -> Report {
    let message = format!("redis at {address}: {what}; {remedy}");
    Report::caused(message, cause).with_consequence(Consequence::Unchanged)
}

/// The error of a node that does not tell its map.
fn refused(address: &Address, error: &ServerError) -> Error {
    let said = error_text(error);
    if error.code() == "NOPERM" {
        let what = "the Redis user may not ask for the map of the cluster";
        return unavailable(address, what, "allow it +cluster|slots", &said);
    }
    if said.contains("cluster support disabled") || said.contains("nknown command") {
        let what = "this server is not a node of a Redis Cluster";
        return Error::Unsupported(report(address, what, "use redis: { url }", &said));
    }
    unavailable(address, "it does not tell the map of the cluster", "see the cause", &said)
}

/// The host of an address; empty for a Unix socket, by which no other node can be reached.
fn host(address: &Address) -> &str {
    match address {
        Address::Tcp { host, .. } | Address::Tls { host, .. } => host,
        Address::Unix(_) => "",
    }
}

/// How many changes a node has heard of, in its reply to CLUSTER INFO.
fn epoch(info: Value) -> u64 {
    let info = text(info).unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:"));
    line.and_then(|epoch| epoch.trim().parse().ok()).unwrap_or(0)
}
