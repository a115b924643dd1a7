//! What does this deployment guarantee? Asks a node and its [`replicas`], judges their replies ([`info`],
//! [`failure_modes`], [`persistence`], [`clocks`]), and merges the results of several nodes ([`merge`]).

mod asked;
mod clocks;
mod failure_modes;
pub(crate) mod info;
pub(crate) mod merge;
mod persistence;
mod replicas;

use std::sync::Arc;

use redis::{Cmd, Value};

use self::clocks::Clocks;
use self::info::ConfigReplies;
use super::connection::Connection;
use super::connection::shared::ExchangeError;
use super::node_context::NodeContext;
use super::protocol::operation::Operation;
use super::protocol::permissions;
use super::protocol::replies::expected::ExpectedReply;
use super::protocol::replies::refusals::is_missing_command;
use super::protocol::scripts::{CAN_PUBLISH, pack_can_publish};
use super::protocol::values::{error_text, micros, text, texts};
use crate::backend::guarantees::{Guarantee, Skew};
use crate::error::Result;
use crate::lease::{AckPolicy, Ttl};

/// What a server said.
struct Replies {
    /// The connection that it answered on.
    connection: Arc<Connection>,
    /// The sections of INFO.
    info: String,
    config: ConfigReplies,
    skew: Option<Skew>,
}

/// What a command asks for.
#[derive(Clone, Copy)]
enum Section {
    Time,
    Save,
    AppendFsync,
    Info,
}

impl Section {
    const fn expected(self) -> ExpectedReply {
        match self {
            Self::Time => ExpectedReply::List,
            Self::Save | Self::AppendFsync => ExpectedReply::Table,
            Self::Info => ExpectedReply::Text,
        }
    }
}

/// One section or parameter each, because servers before version 7 accept only one.
fn questions() -> Vec<(Section, Cmd)> {
    let question = |section, words: &[&str]| {
        let mut cmd = Cmd::new();
        cmd.arg(words);
        (section, cmd)
    };
    vec![
        question(Section::Time, &["TIME"]),
        question(Section::Save, &["CONFIG", "GET", "save"]),
        question(Section::AppendFsync, &["CONFIG", "GET", "appendfsync"]),
        question(Section::Info, &["INFO", "replication"]),
        question(Section::Info, &["INFO", "server"]),
        question(Section::Info, &["INFO", "memory"]),
        question(Section::Info, &["INFO", "persistence"]),
    ]
}

/// What a node guarantees to locks that require these acknowledgements and have this TTL.
pub(crate) async fn describe(node: &NodeContext, acks: AckPolicy, ttl: Ttl) -> Result<Guarantee> {
    let mut replies = ask(node).await?;
    if info::is_replica(&replies.info) {
        // It was demoted after the connection was made.
        replies.connection.leave_server("this server became a replica");
        replies = ask(node).await?;
    }
    let Replies { info, config, skew, .. } = replies;
    let replicas = replicas::clocks(node, &info).await;
    let clocks = Clocks { primary: skew, change: node.clocks.change(), replicas };
    Ok(info::assess(&node.settings, &**node.connector.route(), &info, config, (acks, ttl), &clocks))
}

/// What a node of a quorum shows.
pub(crate) async fn describe_voter(node: &NodeContext) -> Result<Guarantee> {
    let Replies { info, config, .. } = ask(node).await?;
    Ok(info::assess_voter(&node.settings, &info, config))
}

async fn ask(node: &NodeContext) -> Result<Replies> {
    // Connected first, so that only the round trip of the questions counts for the clock.
    let connection = node.shared.get().await?;
    let questions = questions();
    let generation = node.connector.route().generation();
    let sent = node.clock.wall_micros();
    let exchange = node.shared.exchange_on(&connection, questions.len(), |packer, out| {
        for (section, cmd) in &questions {
            packer.built(out, section.expected(), cmd);
        }
    });
    let response = exchange.await.map_err(|error| node.query_failed(error))?;
    let received = node.clock.wall_micros();
    if let Some(broken) = response.broken {
        return Err(node.query_failed(ExchangeError::Broken(broken)));
    }
    let (mut info, mut skew) = (String::new(), None);
    let mut config = ConfigReplies::default();
    // A provider or an ACL may forbid TIME, CONFIG and INFO: then their values are unknown, which is not an
    // error.
    for ((section, _), reply) in questions.into_iter().zip(response.replies) {
        match section {
            Section::Time => {
                skew = micros(reply).map(|server| Skew::between(sent, server, received));
            }
            Section::Save => config.save = parameter(reply),
            Section::AppendFsync => config.fsync = parameter(reply),
            Section::Info if is_failure(&reply) => {
                return Err(node.reply_context(Operation::Query).error(&reply));
            }
            Section::Info => {
                info.push_str(&text(reply).unwrap_or_default());
                info.push('\n');
            }
        }
    }
    if let Some(skew) = skew.filter(|_| node.connector.route().generation() == generation) {
        node.clocks.measured(generation, skew);
    }
    config.can_publish = can_publish(node).await;
    Ok(Replies { connection, info, config, skew })
}

/// Whether a reply is an error of another kind than that this user or server does not allow the command.
fn is_failure(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error)
        if !permissions::is_about(&error_text(error)) && !is_missing_command(error))
}

/// Whether releases can be announced; `None`: the server did not say.
async fn can_publish(node: &NodeContext) -> Option<bool> {
    let channel = format!("{}probe", node.settings.keys.channel_prefix());
    let call = node.shared.run_script(&CAN_PUBLISH, |packer, out| pack_can_publish(&channel, packer, out));
    match call.await {
        Ok(Value::Int(reply)) => Some(reply == 1),
        _ => None,
    }
}

/// The value in the reply of CONFIG GET.
fn parameter(reply: Value) -> Option<String> {
    texts(reply).into_iter().nth(1)
}
