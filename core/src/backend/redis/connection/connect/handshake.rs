//! The handshake of a new connection: log in, select the database, set a name, and check that the server
//! serves.

use std::sync::Arc;

use redis::{Cmd, ServerError, Value};

use super::errors::{cannot_connect, message, of_one_of_several};
use crate::backend::redis::config::address::Address;
use crate::backend::redis::config::credentials::Credentials;
use crate::backend::redis::config::endpoint::{Endpoint, ServerKind};
use crate::backend::redis::connection::{Break, Connection};
use crate::backend::redis::protocol::permissions::{self, Login};
use crate::backend::redis::protocol::replies::expected::ExpectedReply;
use crate::backend::redis::protocol::replies::refusals::{is_login_refusal, is_wrong_server, refusal};
use crate::backend::redis::protocol::values::{error_text, text, texts};
use crate::error::{Error, Result};

#[derive(Clone, Copy, PartialEq)]
enum HandshakeStep {
    Auth,
    Select,
    /// Optional; older servers and proxies lack it.
    SetName,
    /// Tells what the server is. Older servers lack it; every user may ask.
    Hello,
    /// Optional; a user may lack the permission.
    Identify,
    Ping,
}

impl HandshakeStep {
    const fn expected(self) -> ExpectedReply {
        match self {
            Self::Hello => ExpectedReply::Table,
            _ => ExpectedReply::Text,
        }
    }

    const fn is_optional(self) -> bool {
        matches!(self, Self::SetName | Self::Hello | Self::Identify)
    }
}

/// Logs in. Returns the connection, and what identifies the server, if it says so.
pub(crate) async fn handshake(
    endpoint: &Endpoint,
    connection: Connection,
    credentials: Option<&Credentials>,
    is_optional: bool,
) -> Result<(Connection, Option<Arc<str>>)> {
    let steps = steps(endpoint, credentials);
    let replies = exchange(endpoint, &connection, &steps).await?;
    let (mut role, mut run_id) = (None, None);
    for (&(step, _), reply) in steps.iter().zip(replies) {
        match (step, reply) {
            (step, Value::ServerError(error)) if !step.is_optional() => {
                // No call depends on an optional connection.
                if !is_optional {
                    note_refusal(endpoint, credentials, &error);
                }
                return Err(rejected(endpoint, step, &error));
            }
            (HandshakeStep::Hello, reply) => role = Role::from_hello(reply),
            (HandshakeStep::Identify, reply) => run_id = text(reply).as_deref().and_then(run_id_in),
            _ => {}
        }
    }
    let role = match role {
        Some(role) => role,
        // A server before version 6 has no HELLO, and no users who may not ask for its role.
        None => Role::from_role(ask(endpoint, &connection, &["ROLE"], ExpectedReply::Table).await?),
    };
    check_role(endpoint, &connection, role).await?;
    Ok((connection, run_id))
}

/// Whether the server is what it must be.
async fn check_role(endpoint: &Endpoint, connection: &Connection, role: Role) -> Result<()> {
    match (endpoint.kind, role) {
        (ServerKind::Sentinel, Role::Sentinel | Role::Unknown)
        | (ServerKind::Primary | ServerKind::Voter, Role::Primary | Role::Unknown)
        | (ServerKind::ClusterPrimary, Role::Primary | Role::ClusterPrimary | Role::Unknown)
        | (
            ServerKind::ClusterNode | ServerKind::Replica,
            Role::Primary | Role::ClusterPrimary | Role::Replica | Role::Unknown,
        ) => Ok(()),
        (ServerKind::Voter, role) => Err(Error::unsupported(message(
            endpoint,
            match role {
                Role::Replica => "this server is a replica, which fails together with its primary",
                Role::ClusterPrimary => {
                    "this server is a node of a Redis Cluster, which fails together with others"
                }
                _ => "this is a Sentinel, which has no data",
            },
            "the nodes of a quorum are independent primaries: give others in quorum.nodes",
        ))),
        (ServerKind::Sentinel, _) => {
            let remedy = "give the addresses of Sentinels, or use `url` for a primary";
            Err(cannot_connect(endpoint, "this is not a Sentinel", remedy, None))
        }
        (ServerKind::Primary | ServerKind::ClusterPrimary, Role::Replica) => {
            let error =
                cannot_connect(endpoint, "this server is a replica", "use the URL of the primary", None);
            Err(error.of_failover())
        }
        (_, Role::Sentinel) => Err(cannot_connect(
            endpoint,
            "this is a Sentinel, which has no data",
            "use redis: { sentinels, name } to follow the primary that it watches",
            None,
        )),
        (ServerKind::Primary, Role::ClusterPrimary) => {
            let info = ask(endpoint, connection, &["CLUSTER", "INFO"], ExpectedReply::Text).await?;
            if text(info).is_some_and(|info| is_one_of_several(&info)) {
                return Err(Error::unsupported(message(
                    endpoint,
                    "this server is a node of a Redis Cluster, which has only some of the keys",
                    "use redis: { cluster }",
                )));
            }
            Ok(())
        }
    }
}

/// The line of INFO that differs between servers, and between the runs of one.
fn run_id_in(info: &str) -> Option<Arc<str>> {
    info.lines().find_map(|line| line.strip_prefix("run_id:")).map(|run_id| run_id.trim().into())
}

/// What a server is, as far as it says.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Primary,
    Replica,
    Sentinel,
    ClusterPrimary,
    /// It does not say, as some proxies and services.
    Unknown,
}

impl Role {
    /// From a list of names and values; `None` if there is no such list.
    fn from_hello(reply: Value) -> Option<Self> {
        let Value::Array(fields) = reply else { return None };
        let field = |name: &[u8]| {
            fields.chunks_exact(2).find_map(|pair| match pair {
                [Value::BulkString(key), Value::BulkString(value)] if key == name => Some(value.as_slice()),
                _ => None,
            })
        };
        Some(match (field(b"mode"), field(b"role")) {
            (Some(b"sentinel"), _) => Self::Sentinel,
            (_, Some(b"replica" | b"slave")) => Self::Replica,
            (Some(b"cluster"), _) => Self::ClusterPrimary,
            _ => Self::Primary,
        })
    }

    /// From the reply to ROLE.
    fn from_role(reply: Value) -> Self {
        match texts(reply).first().map(String::as_str) {
            Some("slave") => Self::Replica,
            Some("sentinel") => Self::Sentinel,
            Some(_) => Self::Primary,
            None => Self::Unknown,
        }
    }
}

/// Whether CLUSTER INFO tells of other primaries. A cluster of one serves all keys.
fn is_one_of_several(info: &str) -> bool {
    let size = info.lines().find_map(|line| line.strip_prefix("cluster_size:"));
    size.and_then(|size| size.trim().parse::<u64>().ok()).is_some_and(|size| size > 1)
}

/// The replies to these steps, or why the connection cannot be used.
async fn exchange(
    endpoint: &Endpoint,
    connection: &Connection,
    steps: &[(HandshakeStep, Cmd)],
) -> Result<Vec<Value>> {
    // The connector limits the time; this limit never elapses first.
    let sent = connection.send([steps.len()], endpoint.settings.connect_timeout * 2, |packer, out| {
        for (step, cmd) in steps {
            packer.built(out, step.expected(), cmd);
        }
    });
    let response = match sent {
        Ok([exchange]) => connection.receive(exchange).await,
        Err(broken) => return Err(closed_during_handshake(endpoint, &broken)),
    };
    let Some(broken) = response.broken else { return Ok(response.replies) };
    // A server that turns a client away says why, whatever the client's first command is.
    for (&(step, _), reply) in steps.iter().zip(&response.replies) {
        if let Value::ServerError(error) = reply
            && !step.is_optional()
        {
            return Err(rejected(endpoint, step, error));
        }
    }
    match response.replies.last() {
        Some(Value::ServerError(error)) => Err(rejected(endpoint, HandshakeStep::Ping, error)),
        _ => Err(closed_during_handshake(endpoint, &broken)),
    }
}

/// The reply to one more command, which may be an error.
async fn ask(
    endpoint: &Endpoint,
    connection: &Connection,
    words: &[&str],
    expected: ExpectedReply,
) -> Result<Value> {
    let sent = connection.send([1], endpoint.settings.connect_timeout * 2, |packer, out| {
        packer.command(out, expected, |cmd| {
            cmd.arg(words);
        });
    });
    let reply = match sent {
        Ok([exchange]) => connection.receive(exchange).await.single(),
        Err(broken) => Err(Some(broken)),
    };
    reply.map_err(|broken| match broken {
        Some(broken) => closed_during_handshake(endpoint, &broken),
        None => cannot_connect(endpoint, "no reply", "try again", None),
    })
}

fn steps(endpoint: &Endpoint, credentials: Option<&Credentials>) -> Vec<(HandshakeStep, Cmd)> {
    let mut steps = Vec::with_capacity(8);
    if let Some(credentials) = credentials {
        steps.push((HandshakeStep::Auth, credentials.auth()));
    }
    if endpoint.settings.db != 0 {
        let mut select = redis::cmd("SELECT");
        select.arg(endpoint.settings.db);
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
    let mut hello = redis::cmd("HELLO");
    hello.arg(2);
    steps.push((HandshakeStep::Hello, hello));
    let mut identify = redis::cmd("INFO");
    identify.arg("server");
    steps.push((HandshakeStep::Identify, identify));
    steps.push((HandshakeStep::Ping, redis::cmd("PING")));
    steps
}

/// Has the application asked for others, if the server does not accept these. What a replica accepts decides
/// nothing: no lock depends on it.
fn note_refusal(endpoint: &Endpoint, used: Option<&Credentials>, error: &ServerError) {
    if endpoint.kind == ServerKind::Replica {
        return;
    }
    if let (Some(asked), Some(used), true) =
        (endpoint.settings.credentials.asked(), used, is_login_refusal(error))
    {
        asked.refused(used, &error_text(error));
    }
}

fn rejected(endpoint: &Endpoint, step: HandshakeStep, error: &ServerError) -> Error {
    let said = error_text(error);
    let is_asked = endpoint.settings.credentials.asked().is_some();
    let permission = permissions::remedy(login(endpoint), &said);
    let (what, remedy) = match (step, error.code()) {
        _ if is_asked && is_login_refusal(error) => {
            ("the server refused what the function for credentials returned", "it is asked again")
        }
        (HandshakeStep::Auth, "ERR") if said.contains("invalid password") => ("wrong password", "check it"),
        (HandshakeStep::Auth, "ERR") if said.contains("AUTH") => {
            ("the server has no password for this user", "omit it, or set one on the server")
        }
        (HandshakeStep::Select, "NOPERM") => {
            ("the Redis user lacks a permission", "allow it +select, or use `db: 0`")
        }
        (_, "NOPERM") => ("the Redis user lacks a permission", &*permission),
        _ => match refusal(error) {
            Some(refusal) if matches!(error.code(), "NOAUTH" | "WRONGPASS") && is_sentinel(endpoint) => {
                (refusal.meaning, "check `sentinelPassword` (and `sentinelUsername`, if it has one)")
            }
            Some(refusal) => (refusal.meaning, refusal.remedy),
            None if step == HandshakeStep::Select => {
                ("the database cannot be selected", "use `db: 0`, or one that the server has")
            }
            None => ("the server refused the connection", "see the cause"),
        },
    };
    let rejected = cannot_connect(endpoint, what, remedy, Some(&said));
    if is_wrong_server(error) { rejected.of_failover() } else { rejected }
}

fn login(endpoint: &Endpoint) -> Login<'_> {
    let prefix = endpoint.settings.keys.prefix();
    match endpoint.kind {
        ServerKind::Sentinel => Login::Sentinel,
        ServerKind::Primary | ServerKind::Replica | ServerKind::Voter => {
            Login::Data { prefix, of_cluster: false }
        }
        ServerKind::ClusterPrimary | ServerKind::ClusterNode => Login::Data { prefix, of_cluster: true },
    }
}

fn is_sentinel(endpoint: &Endpoint) -> bool {
    endpoint.kind == ServerKind::Sentinel
}

fn closed_during_handshake(endpoint: &Endpoint, broken: &Break) -> Error {
    if let Some(other) = broken.why.strip_prefix("this is not Redis") {
        let what = format!("this is not Redis{other}");
        return cannot_connect(endpoint, &what, "check the host and the port", None);
    }
    let error = cannot_connect(
        endpoint,
        &format!("the connection broke during the handshake: {broken}"),
        match endpoint.address {
            Address::Tls { .. } => {
                "if the server requires a client certificate, pass tls: { cert, key }; \
                 otherwise check its log, and that it is Redis"
            }
            _ => {
                "if the server expects TLS on this port, use rediss://; \
                 otherwise check its log (protected-mode, maxclients), and that it is Redis"
            }
        },
        None,
    );
    of_one_of_several(endpoint, error)
}
