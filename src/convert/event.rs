//! What happened without a call, as JavaScript receives it.

use napi_derive::napi;

use super::failure::Failure;
use super::millis;
use fencelock_core::backend::connections::{Change, ConnectionChange, Server};
use fencelock_core::lease::Strategy;
use fencelock_core::manager::{self, LeaseFacts};

/// Something that happened to a lease or a connection. lib/channels/ knows which fields each kind has.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct Event {
    /// A bit of `Topics`.
    pub topic: u32,
    /// The number of the strategy.
    pub strategy: u32,
    /// What the lease covers.
    pub resources: Option<Vec<String>>,
    /// Its owner.
    pub owner: Option<String>,
    /// Its token.
    pub token: Option<f64>,
    /// How long it has been held, in milliseconds.
    pub held_ms: Option<f64>,
    /// Why it was lost.
    pub cause: Option<String>,
    /// Why, in words; or why a connection ended.
    pub message: Option<String>,
    /// How late a renewal began, in milliseconds.
    pub lag_ms: Option<f64>,
    /// How long it took.
    pub duration_ms: Option<f64>,
    /// For how much longer the lease counts.
    pub remaining_ms: Option<f64>,
    /// Why a renewal failed.
    pub failure: Option<Failure>,
    /// What happened to a connection.
    pub state: Option<String>,
    /// Its server's host, or the path of its socket.
    pub server_address: Option<String>,
    /// Its server's port.
    pub server_port: Option<u32>,
    /// How many connections to the server are open.
    pub open: Option<u32>,
}

/// A server.
#[napi(object, object_from_js = false)]
pub struct ServerPlace {
    /// Its host, or the path of its socket.
    pub address: String,
    /// Its port.
    pub port: Option<u32>,
}

impl From<Server> for ServerPlace {
    fn from(Server { address, port }: Server) -> Self {
        Self { address, port: port.map(u32::from) }
    }
}

impl From<manager::Event> for Event {
    fn from(event: manager::Event) -> Self {
        match event {
            manager::Event::Lost { lease, cause, message } => Self {
                cause: Some(cause.name().to_owned()),
                message: Some(message),
                ..Self::of_lease(manager::Topic::Losses, &lease)
            },
            manager::Event::Renewed { lease, lag, took, remaining, result } => Self {
                lag_ms: Some(lag.as_secs_f64() * 1_000.0),
                duration_ms: Some(took.as_secs_f64() * 1_000.0),
                remaining_ms: Some(millis(remaining)),
                failure: result.err().map(Failure::from),
                ..Self::of_lease(manager::Topic::Renewals, &lease)
            },
            manager::Event::Connection { strategy, change } => Self::of_connection(strategy, change),
        }
    }
}

impl Event {
    fn of_lease(topic: manager::Topic, lease: &LeaseFacts) -> Self {
        Self {
            topic: topic.bit(),
            strategy: lease.strategy.index() as u32,
            resources: Some(lease.resources.as_slice().iter().map(ToString::to_string).collect()),
            owner: Some(lease.owner.to_string()),
            token: Some(lease.token as f64),
            held_ms: Some(lease.held.as_secs_f64() * 1_000.0),
            ..Self::default()
        }
    }

    fn of_connection(strategy: Strategy, change: ConnectionChange) -> Self {
        let ConnectionChange { server, change, why, open } = change;
        let state = match change {
            Change::Opened => "opened",
            Change::Closed => "closed",
            Change::Broken => "broken",
            Change::Failed => "failed",
        };
        Self {
            topic: manager::Topic::Connections.bit(),
            strategy: strategy.index() as u32,
            message: why.map(|why| why.to_string()),
            state: Some(state.to_owned()),
            server_address: Some(server.address),
            server_port: server.port.map(u32::from),
            open: Some(open as u32),
            ..Self::default()
        }
    }
}
