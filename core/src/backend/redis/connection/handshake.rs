//! The handshake of a new connection: log in, select the database, set a name, and check that the server
//! serves.

use redis::{Cmd, ServerError, Value};

use super::Connection;
use super::errors::cannot_connect;
use crate::backend::redis::config::Config;
use crate::backend::redis::config::address::Address;
use crate::backend::redis::config::credentials::Credentials;
use crate::backend::redis::protocol::expected::ExpectedReply;
use crate::backend::redis::protocol::refusals::refusal;
use crate::backend::redis::protocol::values::error_text;
use crate::error::{Error, Result};

#[derive(Clone, Copy, PartialEq)]
enum HandshakeStep {
    Auth,
    Select,
    /// Optional; older servers and proxies lack it.
    SetName,
    Ping,
}

pub(crate) async fn handshake(config: &Config, connection: Connection) -> Result<Connection> {
    let steps = steps(config);
    // The connector limits the time; this limit never elapses first.
    let sent = connection.send([steps.len()], config.connect_timeout * 2, |packer, out| {
        for (_, cmd) in &steps {
            packer.built(out, ExpectedReply::Text, cmd);
        }
    });
    let response = match sent {
        Ok([exchange]) => connection.receive(exchange).await,
        Err(broken) => return Err(closed_during_handshake(config, &broken.why)),
    };
    for (&(step, _), reply) in steps.iter().zip(&response.replies) {
        if let Value::ServerError(error) = reply
            && step != HandshakeStep::SetName
        {
            return Err(rejected(config, step, error));
        }
    }
    match (response.broken, response.replies.last()) {
        (None, _) => Ok(connection),
        // A server that turns a client away says why, whatever the client's first command is.
        (Some(_), Some(Value::ServerError(error))) => Err(rejected(config, HandshakeStep::Ping, error)),
        (Some(broken), _) => Err(closed_during_handshake(config, &broken.why)),
    }
}

fn steps(config: &Config) -> Vec<(HandshakeStep, Cmd)> {
    let mut steps = Vec::with_capacity(6);
    if let Some(Credentials { username, password }) = &config.credentials {
        let mut auth = redis::cmd("AUTH");
        auth.arg(username.as_deref()).arg(password.reveal());
        steps.push((HandshakeStep::Auth, auth));
    }
    if config.db != 0 {
        let mut select = redis::cmd("SELECT");
        select.arg(config.db);
        steps.push((HandshakeStep::Select, select));
    }
    for words in [
        &["SETNAME", "fencelock"][..],
        &["SETINFO", "LIB-NAME", "fencelock"],
        &["SETINFO", "LIB-VER", env!("CARGO_PKG_VERSION")],
    ] {
        let mut client = redis::cmd("CLIENT");
        client.arg(words);
        steps.push((HandshakeStep::SetName, client));
    }
    steps.push((HandshakeStep::Ping, redis::cmd("PING")));
    steps
}

fn rejected(config: &Config, step: HandshakeStep, error: &ServerError) -> Error {
    let said = error_text(error);
    let (what, remedy) = match (step, error.code()) {
        (HandshakeStep::Auth, "ERR") if said.contains("invalid password") => ("wrong password", "check it"),
        (HandshakeStep::Auth, "ERR") if said.contains("AUTH") => {
            ("the server has no password for this user", "omit it, or set one on the server")
        }
        (HandshakeStep::Select, "NOPERM") => {
            ("the Redis user lacks a permission", "allow it +select, or use `db: 0`")
        }
        _ => match refusal(error) {
            Some(refusal) => (refusal.meaning, refusal.remedy),
            None if step == HandshakeStep::Select => {
                ("the database cannot be selected", "use `db: 0`, or one that the server has")
            }
            None => ("the server refused the connection", "see the cause"),
        },
    };
    cannot_connect(config, what, remedy, Some(&without_password(config, &said)))
}

/// A server that does not know AUTH repeats its arguments, and one of them is the password, or the start of
/// it.
fn without_password(config: &Config, said: &str) -> String {
    let said = said.split_once(", with args").map_or(said, |(before, _)| before);
    match config.credentials.as_ref().map(|credentials| credentials.password.reveal()) {
        Some(password) if !password.is_empty() => said.replace(password, "***"),
        _ => said.to_owned(),
    }
}

fn closed_during_handshake(config: &Config, why: &str) -> Error {
    cannot_connect(
        config,
        &format!("the connection broke during the handshake: {why}"),
        match config.address {
            Address::Tls { .. } => {
                "if the server requires a client certificate, pass tls: { cert, key }; \
                 otherwise check its log"
            }
            _ => {
                "if the server expects TLS on this port, use rediss://; \
                 otherwise check its log (protected-mode, maxclients)"
            }
        },
        None,
    )
}
